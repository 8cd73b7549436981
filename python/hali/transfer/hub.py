"""The Hugging Face hub: what a repository holds and where its bytes are.

The library finds tokens and knows the API; the bytes are `http.py`'s.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import anyio
import msgspec

from hali._version import __version__
from hali.model.errors import HaliError, NotFound, ProtocolError, Refused, TransferFailed, UsageError
from hali.model.filenames import is_safe_path
from hali.model.ids import is_hex
from hali.model.units import format_duration
from hali.model.urls import origin
from hali.runtime.log import get_logger
from hali.transfer.http_retry import RETRYABLE_STATUS, HttpPolicy, retry_after, wait_before_retry
from hali.transfer.hub_api import Query, ask, ask_all
from hali.transfer.hub_choice import HubName, choose_model, is_repo_name, parse_hub_name
from hali.transfer.hub_models import GgufModel, RepoFile, RepoListing, quant_of
from hali.transfer.proxies import behind_proxy

__all__ = [
    "GgufModel",
    "Hub",
    "HubFile",
    "HubName",
    "RepoFile",
    "RepoListing",
    "SearchHit",
    "choose_model",
    "parse_hub_name",
    "quant_of",
]

log = get_logger(__name__)
T = TypeVar("T")
J = TypeVar("J", dict[str, Any], list[dict[str, Any]])

TOTAL_TIMEOUT = 60.0  # with all retries; a person waits at the other end
MAX_SIZE = 1 << 43  # 8 TiB; the largest files on the hub have 50 GB, a bigger number is a lie
_TOKEN_HINT = "accept its terms on the hub, then set HF_TOKEN or run `hf auth login`"
_EXPAND = ["downloads", "likes", "lastModified", "gated"]  # without it an answer has no time; then it has only these
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z\Z", re.ASCII)
_THREADS = 4  # at a time; a hung one is abandoned at its deadline and must not block the next


class HubFile(msgspec.Struct, frozen=True):
    """Where a file's bytes are: for `RangeSource(url, headers=headers, trusted=True)`."""

    url: str
    headers: dict[str, str]


class SearchHit(msgspec.Struct, frozen=True):
    """One repository with GGUF files."""

    repo: str
    downloads: int | None
    likes: int | None
    gated: bool
    updated: str | None = None  # RFC 3339, UTC


class Hub:
    """One endpoint of the hub. `endpoint` None: HF_ENDPOINT or huggingface.co. `token` None: found as `hf` finds it."""

    def __init__(
        self, endpoint: str | None = None, *, token: str | None = None, policy: HttpPolicy | None = None
    ) -> None:
        if endpoint is not None:
            origin(endpoint)
            endpoint = endpoint.rstrip("/")
        self._endpoint = endpoint
        self._token = token
        self._policy = policy or HttpPolicy(attempts=4)
        self._threads = anyio.CapacityLimiter(_THREADS)

    async def resolve(self, repo: str, revision: str | None = None) -> RepoListing:
        """The files of `repo` at `revision` (default: main) and the commit they belong to."""
        return await self._call(repo, lambda: self._listing(repo, revision))

    async def file_source(self, repo: str, commit: str, file: str) -> HubFile:
        """URL of a file at a commit, and headers with the token if there is one. No network."""
        return await self._call(repo, lambda: self._source(repo, commit, file))

    async def search(self, query: str, limit: int = 20, sort: str = "downloads") -> list[SearchHit]:
        """Repositories with GGUF files that fit the words, by `downloads`, `likes` or `lastModified`, the most first."""
        return await self._call(f"search {query!r}", lambda: self._search(query, limit, sort))

    # In worker threads, where huggingface_hub is also imported: it takes a few hundred milliseconds.

    def _base(self) -> str:
        from huggingface_hub import constants

        return self._endpoint or constants.ENDPOINT

    def _safe_token(self) -> str | None:
        from huggingface_hub import constants, get_token

        scheme, host, _ = origin(self._base())
        if scheme == "http" and host not in ("127.0.0.1", "localhost", "::1"):
            return None  # a token in clear text is everybody's
        if self._token is not None or constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
            return self._token
        return get_token()

    def _headers(self) -> dict[str, str]:
        """Not by huggingface_hub's `build_hf_headers`, which asks its own endpoint what to call the program that calls it."""
        token = self._safe_token()
        if token is not None and not token.isascii():
            raise UsageError("the token for the hub has characters that no token has", hint="set HF_TOKEN anew")
        return {"user-agent": f"hali/{__version__}"} | ({"authorization": f"Bearer {token}"} if token else {})

    def _listing(self, repo: str, revision: str | None) -> RepoListing:
        if not is_repo_name(repo):
            raise UsageError(f"{repo[:80]!r} is not a repository name")
        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        info = self._get(f"/api/models/{repo}{at}", {"blobs": "true"}, dict)
        commit = str(info.get("sha") or "")
        if not is_hex(commit, 40):
            raise ProtocolError(f"{repo}: the hub names no commit")
        siblings = info.get("siblings") or []
        files = [_entry(s["rfilename"], s.get("size"), (s.get("lfs") or {}).get("sha256")) for s in siblings]
        if any(file is not None and file.is_gguf and file.size < 0 for file in files):  # mirrors that ignore `blobs`
            files = self._tree(repo, commit)
        return RepoListing(repo, commit, tuple(sorted((f for f in files if f is not None and f.size >= 0), key=_order)))

    def _tree(self, repo: str, commit: str) -> list[RepoFile | None]:
        entries = ask_all(self._url(f"/api/models/{repo}/tree/{commit}"), self._headers(), {"recursive": "1"})
        files = [e for e in entries if e.get("type") == "file"]
        return [_entry(e["path"], e.get("size"), (e.get("lfs") or {}).get("oid")) for e in files]

    def _source(self, repo: str, commit: str, file: str) -> HubFile:
        from huggingface_hub import hf_hub_url

        if not is_safe_path(file):  # a link may name it, and the token goes along
            raise UsageError(f"{file[:80]!r} is not the path of a file in a repository")
        url = hf_hub_url(repo, file, revision=commit, endpoint=self._base())
        return HubFile(url, self._headers())

    def _search(self, query: str, limit: int, sort: str) -> list[SearchHit]:
        params: Query = {"search": query, "filter": "gguf", "sort": sort, "limit": str(limit), "expand": _EXPAND}
        # Names are shown on terminals: nothing but the characters that names have.
        return [_hit(item) for item in self._get("/api/models", params, list)[:limit] if is_repo_name(str(item["id"]))]

    def _get(self, path: str, params: Query, kind: type[J]) -> J:
        found = ask(self._url(path), self._headers(), params)
        if not isinstance(found, kind):
            raise ProtocolError(f"{path}: the hub's answer has another form than its API")
        return found

    def _url(self, path: str) -> str:
        """For requests of our own: HfApi's methods sleep through Retry-After in the thread, and follow redirects wherever these lead."""
        from huggingface_hub import constants, errors

        if constants.HF_HUB_OFFLINE:
            raise errors.OfflineModeIsEnabled("offline")
        behind_proxy()  # or it fails
        return self._base() + quote(path, safe="/%")

    # Deadlines and retries

    async def _call(self, what: str, work: Callable[[], T]) -> T:
        failures = 0
        try:
            with anyio.fail_after(TOTAL_TIMEOUT) as scope:
                while True:
                    result = await anyio.to_thread.run_sync(
                        _outcome, what, work, abandon_on_cancel=True, limiter=self._threads
                    )
                    if not isinstance(result, _Again):
                        return result
                    failures += 1
                    if failures >= self._policy.attempts:
                        raise result.error
                    log.debug("hub.retry", what=what, error=str(result.error))
                    wait = wait_before_retry(self._policy, failures, result.after)
                    if result.after is not None and anyio.current_time() + wait > scope.deadline:
                        raise _told_when(result.error, result.after)
                    await anyio.sleep(wait)
        except TimeoutError:
            raise TransferFailed(f"{what}: the hub did not answer within {TOTAL_TIMEOUT:.0f} s") from None


def _told_when(error: HaliError, after: float) -> HaliError:
    """What the hub answered, when it wants to be asked again later than a person waits."""
    return TransferFailed(
        error.message,
        hint=f"it asks to be asked again in {format_duration(after)}",
        details={"retry_after_s": after},
    )


class _Again:
    """Passing trouble: the error to raise when patience ends, and the wait the server asked for."""

    def __init__(self, error: HaliError, after: float | None) -> None:
        self.error = error
        self.after = after


_import_lock = threading.Lock()


def _outcome(what: str, work: Callable[[], T]) -> T | _Again:
    """Runs `work`; maps what huggingface_hub raises."""
    with _import_lock:  # all that is used of it: its lazy attributes are not safe to load from several threads at once
        from huggingface_hub import (  # noqa: F401
            constants,
            errors,
            get_session,
            hf_hub_url,
            hf_raise_for_status,
        )
    network = errors.HfHubHTTPError.__mro__[1]  # HTTPError of httpx in huggingface_hub 1, of httpx2 in 2
    try:
        return work()
    except errors.HFValidationError as error:
        raise UsageError(f"{what}: not a repository name ({error})") from error
    except errors.HfHubHTTPError as error:
        return _http_error(what, error)
    except errors.OfflineModeIsEnabled as error:
        raise TransferFailed(f"{what}: offline mode is on", hint="unset HF_HUB_OFFLINE", retryable=False) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProtocolError(f"{what}: the hub's answer makes no sense ({type(error).__name__})") from error
    except Exception as error:
        if not isinstance(error, (network, OSError)):
            raise
        return _Again(TransferFailed(f"{what}: the hub cannot be reached ({type(error).__name__}: {error})"), None)


def _http_error(what: str, error: Any) -> _Again:
    from huggingface_hub import errors

    response = error.response
    status = response.status_code if response is not None else 0
    asked_with_token = "authorization" in response.request.headers if response is not None else False
    message = response.headers.get("x-error-message", "") if response is not None else ""
    message = "".join(c if c.isprintable() else "?" for c in message[:200])
    if isinstance(error, errors.GatedRepoError):
        raise Refused(f"{what}: a gated repository", hint=_TOKEN_HINT) from error
    if isinstance(error, errors.RevisionNotFoundError):
        raise NotFound(f"{what}: no such revision") from error
    if isinstance(error, errors.EntryNotFoundError):
        raise NotFound(f"{what}: no such file") from error
    if status == 401 and asked_with_token:
        hint = "check HF_TOKEN or run `hf auth login`"
        raise Refused(f"{what}: the hub does not accept the token", hint=hint) from error
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        # To strangers the hub says 401 for repositories that do not exist as for private ones.
        raise NotFound(
            f"{what}: no such repository on the hub", hint="check the name; a private one needs HF_TOKEN"
        ) from error
    if status == 403:
        raise Refused(f"{what}: the hub refuses access ({message or 'HTTP 403'})", hint=_TOKEN_HINT) from error
    failed = TransferFailed(f"{what}: the hub answers HTTP {status}")
    if status in RETRYABLE_STATUS or status >= 500:
        return _Again(failed, retry_after(response.headers))
    raise failed from error


def _entry(name: object, size: object, sha256: object) -> RepoFile | None:
    """A listed file, or None for names that could leave a folder and for sizes that cannot be; unknown size is -1."""
    if not isinstance(name, str) or not is_safe_path(name):
        log.warning("hub.bad_file_name", name=repr(name)[:200])
        return None
    if size is not None and (not isinstance(size, int) or not 0 <= size <= MAX_SIZE):
        return None
    digest = sha256 if isinstance(sha256, str) and is_hex(sha256, 64) else None
    return RepoFile(name, -1 if size is None else size, digest)


def _order(file: RepoFile) -> tuple[int, int, str]:
    return (0 if file.is_model else 1 if file.is_gguf else 2, file.size, file.name)


def _hit(item: dict[str, Any]) -> SearchHit:
    updated = item.get("lastModified")
    return SearchHit(
        str(item["id"]),
        _count(item.get("downloads")),
        _count(item.get("likes")),
        bool(item.get("gated")),
        updated if isinstance(updated, str) and _TIME.match(updated) else None,
    )


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None
