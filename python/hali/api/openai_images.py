"""Images inside of messages: data URLs only, for a server that fetches what a client names can be sent anywhere."""

from __future__ import annotations

import base64
import binascii
import re

from hali.api.openai_refusals import invalid, unsupported

_DATA = re.compile(r"data:image/[\w.+-]+((?:;[\w=.+-]+)*);base64,", re.ASCII | re.IGNORECASE)


def image_bytes(url: str, where: str) -> bytes:
    """The file that a `data:` URL holds; `UsageError` naming `where` for any other URL."""
    head = _DATA.match(url)
    if head is None:
        if url[:5].lower() == "data:":
            raise invalid(where, "must be data:image/…;base64,…")
        raise unsupported(where, "hali fetches nothing; send the image itself as data:image/…;base64,…")
    try:
        data = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters outside of ASCII
        raise invalid(where, "the base64 text of the image is damaged") from None
    if not data:
        raise invalid(where, "the image is empty")
    return data
