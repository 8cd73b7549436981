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
MAX_PAGES = 100  # of 1,000 files each

Query = Mapping[str, str | list[str]]  # a list is a name that comes several times


def ask(url: str, headers: Mapping[str, str], params: Query) -> Any:
    """The JSON at `url`. Raises what huggingface_hub raises, Refused for a redirect to another host, ProtocolError."""
    return _ask(url, headers, params).value


def ask_all(url: str, headers: Mapping[str, str], params: Query) -> list[dict[str, Any]]:
    """The items of all pages of the list at `url`; raises as `ask` does."""
    page = _ask(url, headers, params)
    items: list[dict[str, Any]] = page.items()
    for _ in range(MAX_PAGES - 1):
        if page.following is None:
            return items
        page = _ask(_same_host(page.url, page.following), headers, None)  # it has the parameters
        items += page.items()
    raise ProtocolError(f"{urlsplit(url).path}: the hub's list has more than {MAX_PAGES} pages")


class _Page(msgspec.Struct, frozen=True):
    url: str  # after redirects
    value: Any
    following: str | None  # as the Link header says it

    def items(self) -> list[dict[str, Any]]:
        if not isinstance(self.value, list):
            raise ProtocolError(f"{urlsplit(self.url).path}: the hub's answer is no list")
        return self.value


def _ask(url: str, headers: Mapping[str, str], params: Query | None) -> _Page:
    from huggingface_hub import get_session, hf_raise_for_status

    for _ in range(MAX_HOPS + 1):
        request = get_session().stream(
            "GET", url, headers=dict(headers), params=params, timeout=REQUEST_TIMEOUT, follow_redirects=False
        )
        with _readable_redirects(url), request as response:
            if response.status_code in REDIRECTS:
                url, params = _same_host(url, response.headers.get("location", "")), None
                continue
            body = _bounded(response, urlsplit(url).path)
            if not response.is_success:
                response.headers.pop("content-encoding", None)  # the body is plain by now
                kind = type(response)
                hf_raise_for_status(
                    kind(response.status_code, headers=response.headers, content=body, request=response.request)
                )
            return _Page(url, _json(body, urlsplit(url).path), response.links.get("next", {}).get("url"))
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
            f"the hub's API at {here[1]} leads to {there[1]}",
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
