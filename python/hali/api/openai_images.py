"""Images inside of messages: data URLs only, for a server that fetches what a client names can be sent anywhere."""

from __future__ import annotations

import re

from hali.api.media import image_of
from hali.api.refusals import invalid, unsupported

_DATA = re.compile(r"data:image/[\w.+-]+((?:;[\w=.+-]+)*);base64,", re.ASCII | re.IGNORECASE)


def image_bytes(url: str, where: str) -> bytes:
    """The file that a `data:` URL holds; `UsageError` naming `where` for any other URL, and for what is no image."""
    if (head := _DATA.match(url)) is not None:
        return image_of(url[head.end() :], where)
    if url[:5].lower() == "data:":
        raise invalid(where, "must be data:image/…;base64,…")
    raise unsupported(where, "hali fetches nothing; send the image itself as data:image/…;base64,…")
