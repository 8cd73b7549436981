"""One request to the hub's API: through huggingface_hub's session, but no redirect is followed blindly and no answer read
without a bound. Runs in worker threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hali.model.errors import ProtocolError, Refused
from hali.model.urls import origin, redacted
from hali.transfer.http_guard import next_hop
from hali.transfer.http_location import REDIRECTS

REQUEST_TIMEOUT = 15.0  # one API request; the hub answers in well under a second
MAX_ANSWER = 64 * 1024 * 1024  # the tree of a repository of 100,000 files has some 30 MB
MAX_HOPS = 3  # a renamed repository needs one

Query = Mapping[str, str | list[str]]  # a list is a name that comes several times


def ask(url: str, headers: Mapping[str, str], params: Query) -> Any:
    """The JSON at `url`. Raises what huggingface_hub raises, Refused for a redirect to another host, ProtocolError."""
    from huggingface_hub import get_session, hf_raise_for_status

    query: Query | None = params
    for _ in range(MAX_HOPS + 1):
        request = get_session().stream(
            "GET", url, headers=dict(headers), params=query, timeout=REQUEST_TIMEOUT, follow_redirects=False
        )
        with _readable_redirects(url), request as response:
            if response.status_code in REDIRECTS:
                url, query = _same_host(url, response.headers.get("location", "")), None
                continue
            body = _bounded(response, urlsplit(url).path)
            if not response.is_success:
                response.headers.pop("content-encoding", None)  # the body is plain by now
                kind = type(response)
                hf_raise_for_status(
                    kind(response.status_code, headers=response.headers, content=body, request=response.request)
                )
            return _json(body, urlsplit(url).path)
    raise ProtocolError(f"{urlsplit(url).path}: the hub redirects more than {MAX_HOPS} times")


@contextmanager
def _readable_redirects(url: str) -> Iterator[None]:
    """The session's library reads Location, though it is told not to follow it; which library that is, is huggingface_hub's."""
    try:
        yield
    except Exception as error:
        if "InvalidURL" in (type(error).__name__, type(error.__context__).__name__):
            raise Refused(f"{redacted(url)}: a redirect to no usable URL") from error
        raise


def _same_host(url: str, location: str) -> str:
    """Where the hub's redirect leads. Only its own host may answer for it: the token goes along, and what is said is believed."""
    target = next_hop(url, location)
    here, there = origin(url), origin(target)
    if there != here and (here[0], there) != ("http", ("https", here[1], 443)):
        raise Refused(
            f"the hub's API at {here[1]} redirects to {there[1]}",
            hint="set hf.endpoint to the host that is to be believed",
        )
    return target


def _bounded(response: Any, path: str) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise ProtocolError(f"{path}: the hub's answer has more than {MAX_ANSWER} bytes")
    return bytes(body)


def _json(body: bytes, path: str) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path}: the hub's answer is not JSON", hint="is hf.endpoint a hub?") from error
