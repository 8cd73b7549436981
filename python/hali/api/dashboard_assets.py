"""The dashboard's page and its files: a fixed table read once from the package, so that no name a client sends is ever opened."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hali.api.origins import RawHeaders, values
from hali.api.routes import Endpoint
from hali.model.errors import NotFound

FOLDER = Path(__file__).parent / "assets"
PAGE = "index.html"
ROUTE = "/assets/{name}"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
}
# The page may load its own files and talk to this server, and nothing else; no inline script or style.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


class Asset(msgspec.Struct, frozen=True):
    """One file: its bytes, media type and strong ETag."""

    body: bytes
    media_type: str
    etag: str


@cache
def assets() -> dict[str, Asset]:
    """All files of the folder, by name."""
    files = [path for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES]
    return {path.name: _asset(path.read_bytes(), TYPES[path.suffix]) for path in files}


def _asset(body: bytes, media_type: str) -> Asset:
    return Asset(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


async def asset(request: Request) -> Response:
    """One of the page's files."""
    found = assets().get(request.path_params["name"])
    if found is None:
        raise NotFound("there is no such file", code="no_file")
    return answer(request, found)


def page(request: Request) -> Response:
    """The dashboard itself."""
    return answer(request, assets()[PAGE])


def answer(request: Request, found: Asset) -> Response:
    """`found`, or 304 where the client has it. It asks each time: an updated daemon must not be shown by an old page."""
    headers = {
        "etag": found.etag,
        "cache-control": "no-cache",
        "content-security-policy": POLICY,
        "vary": "Accept",
    }
    if found.etag in [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers={**headers, "content-type": found.media_type})


def public(route: str | None, headers: RawHeaders) -> bool:
    """The page and its files hold nothing of this node's, and must be there to ask for a key."""
    return route == ROUTE or (route == "/" and wants_page(headers))


def wants_page(headers: RawHeaders) -> bool:
    """`Accept` names HTML and likes JSON no better: browsers do, programs that take anything (`*/*`) do not."""
    liked = dict(_accepted(b",".join(values(headers, b"accept")).decode("latin-1")))
    html = liked.get("text/html", 0.0)
    return html > 0 and html >= liked.get("application/json", 0.0)


def _accepted(header: str) -> list[tuple[str, float]]:
    found = []
    for part in header.lower().split(","):
        name, *parameters = [piece.strip() for piece in part.split(";")]
        found.append((name, next((_quality(p[2:]) for p in parameters if p.startswith("q=")), 1.0)))
    return found


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # what cannot be read is not wanted


ROUTES = (
    Endpoint(ROUTE, asset, summary="A file of the dashboard's page", tag="dashboard", media="text/html", error=None),
)
