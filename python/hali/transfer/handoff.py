"""Give a finished model's torrent to a running BitTorrent client, which then seeds hali's own file: nothing is copied."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import libtorrent as lt
import msgspec

from hali.model.errors import Failed, NotRunning, Refused
from hali.model.ids import InfoHashes
from hali.transfer.alerts import infohashes_of
from hali.transfer.v1_twin import v1_twin

ANSWER_S = 30.0  # both answer at once, but for the moment in which they look at a file of many GB
SETTLE_S = 10.0  # an added torrent is listed within a second; a client that is checking it needs no waiting for
POLL_S = 0.2


class Account(msgspec.Struct, frozen=True):
    """Where a client listens, and who we are to it; empty names where it asks for none."""

    url: str
    user: str = ""
    password: str = ""


class HandedOver(msgspec.Struct, frozen=True):
    """What the client made of it: its own word for the torrent's state, and the infohash that it lists it by."""

    state: str
    infohash: str


def to_qbittorrent(account: Account, torrent: bytes, directory: Path) -> HandedOver:
    """Add by the Web API, unchecked. NotRunning, Refused (log-in), Failed (it cannot read the file)."""
    infohash = _infohashes(torrent).best[:40]  # its id of a torrent: the v2 infohash, cut to the length of a v1 one
    with _client(account) as http:
        # It compares the Referer with its own address against requests of foreign web pages.
        http.headers["Referer"] = account.url
        if account.user or account.password:
            answer = _sent(http, "api/v2/auth/login", data={"username": account.user, "password": account.password})
            if answer.text == "Fails.":
                raise Refused("qBittorrent does not accept the user name and password", hint=_SECRET % "qbittorrent")
        fields = {"savepath": str(directory), "skip_checking": "true", "autoTMM": "false", "paused": "false"}
        if _qbittorrent_state(http, infohash) is None:
            files = {"torrents": ("model.torrent", torrent, "application/x-bittorrent")}
            if _sent(http, "api/v2/torrents/add", data=fields, files=files).text != "Ok.":
                raise Failed("qBittorrent does not take the torrent", hint="its log says why")
        state = _settled(lambda: _qbittorrent_state(http, infohash))
    if state in ("error", "missingFiles"):
        raise Failed(f"qBittorrent cannot read {directory} ({state})", hint="it must run as a user that may")
    return HandedOver(state, infohash)


def _qbittorrent_state(http: httpx.Client, infohash: str) -> str | None:
    answer = _sent(http, "api/v2/torrents/info", params={"hashes": infohash})
    found: list[dict[str, Any]] = _json(answer)
    # A torrent is listed before its file was looked at.
    return str(found[0]["state"]) if found and found[0]["state"] != "checkingResumeData" else None


def to_transmission(account: Account, torrent: bytes, directory: Path) -> HandedOver:
    """Add by RPC and let it verify. NotRunning, Refused (log-in), Failed. Before 4.0 it gets the v1 torrent of the same pieces."""
    with _client(account) as http:
        if account.user or account.password:
            http.auth = (account.user, account.password)
        version = str(_rpc(http, "session-get")["version"])
        if int(version.partition(".")[0]) < 4:
            torrent = v1_twin(torrent)
        infohash = str(_infohashes(torrent).v1)
        body = {"metainfo": base64.b64encode(torrent).decode(), "download-dir": str(directory), "paused": False}
        added = _rpc(http, "torrent-add", **body)
        if "torrent-added" in added:
            _rpc(http, "torrent-verify", ids=[infohash])
        state = _settled(lambda: _transmission_state(http, infohash))
    return HandedOver(state, infohash)


# tr_torrent_activity in the order of its numbers
_ACTIVITIES = ("stopped", "queued to verify", "verifying", "queued", "downloading", "queued to seed", "seeding")


def _transmission_state(http: httpx.Client, infohash: str) -> str | None:
    fields = ["status", "errorString", "recheckProgress"]
    found = _rpc(http, "torrent-get", ids=[infohash], fields=fields)["torrents"]
    if not found or found[0]["status"] == 0:  # stopped for a moment between adding and verifying
        return None
    if found[0]["errorString"]:
        raise Failed(f"Transmission: {found[0]['errorString']}", hint="it must run as a user that may read the model")
    return _ACTIVITIES[found[0]["status"]]


def _rpc(http: httpx.Client, method: str, **arguments: Any) -> dict[str, Any]:
    """One call. Transmission hands out a session id with status 409 and wants it back (its guard against foreign pages)."""
    body = json.dumps({"method": method, "arguments": arguments})
    answer = _sent(http, "transmission/rpc", content=body, allowed=409)
    if answer.status_code == 409:
        http.headers["X-Transmission-Session-Id"] = answer.headers.get("X-Transmission-Session-Id", "")
        answer = _sent(http, "transmission/rpc", content=body)
    reply: dict[str, Any] = _json(answer)
    if reply.get("result") != "success":
        raise Failed(f"Transmission refuses {method}: {reply.get('result')}")
    return dict(reply.get("arguments", {}))


def _infohashes(torrent: bytes) -> InfoHashes:
    return infohashes_of(lt.load_torrent_buffer(torrent).info_hashes)


_SECRET = "set handoff.%s_user, and the password in the environment or with `hali config set`"


def _client(account: Account) -> httpx.Client:
    return httpx.Client(
        base_url=account.url, timeout=ANSWER_S, trust_env=False
    )  # no proxy: it is on this machine or LAN


def _sent(http: httpx.Client, path: str, *, allowed: int = 0, **what: Any) -> httpx.Response:
    """GET, or POST where there is a body; an answer that means yes, or the error for it. Never shows what was sent."""
    method = "GET" if set(what) <= {"params"} else "POST"
    try:
        answer = http.request(method, path, **what)
    except httpx.HTTPError as exc:
        raise NotRunning(f"no client answers at {http.base_url}: {exc or type(exc).__name__}") from None
    if answer.status_code in (401, 403):
        raise Refused(f"{http.base_url} wants a user name and password ({answer.status_code})", hint=_SECRET % "…")
    if answer.status_code >= 400 and answer.status_code != allowed:
        raise Failed(f"{http.base_url}{path} answers {answer.status_code}")
    return answer


def _json(answer: httpx.Response) -> Any:
    """The answer's value; Failed when something else than the client listens there."""
    try:
        return answer.json()
    except ValueError:
        raise Failed(f"{answer.url} does not answer as the client would", hint="see the keys handoff.*") from None


def _settled(state: Callable[[], str | None]) -> str:
    """The first state that the client tells; Failed when it has not heard of the torrent for long."""
    deadline = time.monotonic() + SETTLE_S
    while (found := state()) is None:
        if time.monotonic() > deadline:
            raise Failed(f"the client took the torrent, but does not list it within {SETTLE_S:.0f} s")
        time.sleep(POLL_S)
    return found
