"""A local stand-in for the Hugging Face hub and its CDN, as nasty as the real ones by switches (`FakeHub.faults`).

Speaks what the real `huggingface_hub` uses: model info with blobs, tree, search, resolve (HEAD and GET) with its `X-`
headers and the redirect to a CDN on another origin with a token that may expire, ranges, error codes. For manual use:

    python tests/fakes/hf_server.py owner/repo model-Q4_K_M.gguf …     then HF_ENDPOINT=http://127.0.0.1:PORT
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import secrets
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CHUNK = 64 * 1024
Content = bytes | Path


@dataclasses.dataclass
class Faults:
    """What goes wrong. Counters count down with each affected request; the rest stays until changed."""

    busy: int = 0  # next requests for bytes answer `busy_status` with `retry_after`
    busy_status: int = 429
    retry_after: str | None = "1"
    api_busy: int = 0  # the same for the API
    cut_every: int | None = None  # the connection breaks after so many body bytes
    cut_times: int | None = None  # … so often; None = always
    token_uses: int | None = None  # a CDN address works for so many requests, then answers 403
    size_lie: int = 0  # added to every size that is told
    etag_after: int | None = None  # after so many CDN requests the ETag is another one
    end_early: int | None = None  # Content-Length is right, the chunked body is not: so many bytes fewer
    too_long: int = 0  # so many bytes more than asked for, chunked
    shifted_range: bool = False  # Content-Range names another place than asked for
    flip_at: int | None = None  # one bit of this byte of the file is wrong
    stall_after: int | None = None  # silence after so many body bytes
    stall_times: int | None = None
    no_ranges: bool = False
    rate: int | None = None  # bytes per second and connection
    no_redirect: bool = False  # files come from the hub itself
    redirect_to: str | None = None  # instead of the CDN
    no_blobs: bool = False  # model info names files only, as some mirrors do
    refuse: int | None = None  # every request for bytes answers with this status


@dataclasses.dataclass
class Request:
    """One request as the server saw it, noted before the answer goes out; `sent` are body bytes of a file so far."""

    server: str  # hub or cdn
    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int
    sent: int = 0


@dataclasses.dataclass
class Repo:
    """A repository with one commit."""

    files: dict[str, Content]
    gated: bool = False
    private: bool = False
    sha: str = ""
    oids: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.oids = {name: _sha256(content) for name, content in self.files.items()}
        self.sha = hashlib.sha1(json.dumps(self.oids, sort_keys=True).encode()).hexdigest()

    def size(self, name: str) -> int:
        """Bytes of a file."""
        content = self.files[name]
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def read(self, name: str, offset: int, count: int) -> bytes:
        """A stretch of a file."""
        content = self.files[name]
        if isinstance(content, bytes):
            return content[offset : offset + count]
        with content.open("rb") as file:
            file.seek(offset)
            return file.read(count)


class FakeHub:
    """Two servers in threads: `url` is the hub, `cdn_url` where LFS files come from. Use as a context manager."""

    TOKEN = "hf_good"  # opens gated and private repositories

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults = Faults()
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.tokens: dict[str, int] = {}
        self.cdn_requests = 0
        self.stopping = threading.Event()
        self._hub = _Server(("127.0.0.1", port), _handler(self, "hub"))
        self._cdn = _Server(("127.0.0.1", 0), _handler(self, "cdn"))
        self._threads = [threading.Thread(target=s.serve_forever, args=(0.05,)) for s in (self._hub, self._cdn)]

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._hub.server_address[1]}"

    @property
    def cdn_url(self) -> str:
        """Another origin than `url`."""
        return f"http://127.0.0.1:{self._cdn.server_address[1]}"

    def add(self, repo: str, files: dict[str, Content], *, gated: bool = False, private: bool = False) -> Repo:
        """Publishes a repository (again: replaces it with a new commit)."""
        self.repos[repo] = Repo(files, gated=gated, private=private)
        return self.repos[repo]

    @property
    def bytes_sent(self) -> int:
        """Body bytes of files, from hub and CDN."""
        with self.lock:
            return sum(r.sent for r in self.requests if not r.path.startswith("/api/"))

    def ranges(self, server: str = "cdn") -> list[str]:
        """Range headers of the requests for file bytes, in order, without the one-byte probes."""
        with self.lock:
            return [r.range for r in self.requests if r.server == server and r.range and r.range != "bytes=0-0"]

    def spend(self, counter: str) -> bool:
        """Counts a fault down; True if it applies to this request."""
        with self.lock:
            left = getattr(self.faults, counter)
            if left is None:
                return True
            if left <= 0:
                return False
            setattr(self.faults, counter, left - 1)
            return True

    def __enter__(self) -> FakeHub:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.close_connections()
            server.server_close()  # joins the handlers' threads
        for thread in self._threads:
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Ends idle keep-alive connections, whose handlers would block the shutdown."""
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # clients may go at any time
            super().handle_error(request, client_address)


def _handler(hub: FakeHub, server: str) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"hub": hub, "role": server})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    role: str

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet; `hub.requests` has it all."""

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        headers = self.headers.get("range"), self.headers.get("authorization")
        self._seen = Request(self.role, self.command, path, *headers, status=0)
        if self.role == "cdn":
            self._cdn(path, query)
        elif path.startswith("/api/models"):
            self._api(path.removeprefix("/api/models").strip("/"), query)
        else:
            self._resolve(path.strip("/"))

    # The API

    def _api(self, path: str, query: dict[str, list[str]]) -> None:
        if self.hub.spend("api_busy"):
            self._busy()
        elif not path:
            self._search(query)
        elif match := re.fullmatch(r"([^/]+/[^/]+)/tree/([^/]+)", path):
            self._tree(match[1], match[2])
        elif match := re.fullmatch(r"([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2], "blobs" in query)
        else:
            self._error(404, None, "Not found")

    def _search(self, query: dict[str, list[str]]) -> None:
        words = query.get("search", [""])[0].lower()
        found = [
            {"id": name, "modelId": name, "sha": repo.sha, "downloads": 7, "likes": 1, "tags": ["gguf"]}
            for name, repo in self.hub.repos.items()
            if words in name.lower() and any(file.endswith(".gguf") for file in repo.files)
        ]
        self._json(found[: int(query.get("limit", ["1000"])[0])])

    def _info(self, name: str, revision: str | None, blobs: bool) -> None:
        repo = self._repo(name, revision)
        if repo is not None:
            siblings = [
                self._sibling(repo, file, blobs and not self.hub.faults.no_blobs) for file in sorted(repo.files)
            ]
            gated: str | bool = "manual" if repo.gated else False
            body = {"_id": "1", "id": name, "modelId": name, "sha": repo.sha, "siblings": siblings, "gated": gated}
            self._json({**body, "private": repo.private, "tags": ["gguf"], "downloads": 7, "likes": 1})

    def _sibling(self, repo: Repo, file: str, blobs: bool) -> dict[str, Any]:
        entry: dict[str, Any] = {"rfilename": file}
        if blobs:
            size = repo.size(file) + self.hub.faults.size_lie
            entry |= {"size": size, "blobId": repo.oids[file][:40]}
            if _is_lfs(file):
                entry["lfs"] = {"sha256": repo.oids[file], "size": size, "pointerSize": 135}
        return entry

    def _tree(self, name: str, revision: str) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        entries = []
        for file in sorted(repo.files):
            size = repo.size(file)
            entry: dict[str, Any] = {"type": "file", "path": file, "size": size, "oid": repo.oids[file][:40]}
            if _is_lfs(file):
                entry["lfs"] = {"oid": repo.oids[file], "size": size, "pointerSize": 135}
            entries.append(entry)
        self._json(entries)

    def _repo(self, name: str, revision: str | None) -> Repo | None:
        """The repository, or None after an answer as the real hub gives it."""
        token = self.headers.get("authorization")
        good = token == f"Bearer {self.hub.TOKEN}"
        repo = self.hub.repos.get(name)
        if token and not good:
            self._error(401, None, "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not good):
            if good:
                self._error(404, "RepoNotFound", "Repository not found")
            else:  # the hub does not tell strangers what exists
                self._error(401, None, "Invalid username or password.")
        elif revision not in (None, "main", repo.sha):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return repo
        return None

    # Files

    def _resolve(self, path: str) -> None:
        match = re.fullmatch(r"([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if match is None:
            self._error(404, None, "Not found")
            return
        repo = self._repo(match[1], match[2])
        if repo is None:
            return
        file = match[3]
        if repo.gated and self.headers.get("authorization") != f"Bearer {self.hub.TOKEN}":
            self._error(401, "GatedRepo", f"Access to model {match[1]} is restricted.")
        elif file not in repo.files:
            self._error(404, "EntryNotFound", "Entry not found")
        elif _is_lfs(file) and not self.hub.faults.no_redirect:
            self._redirect(match[1], repo, file)
        else:
            self._file(repo, file, {"X-Repo-Commit": repo.sha})

    def _redirect(self, name: str, repo: Repo, file: str) -> None:
        token = secrets.token_hex(8)
        with self.hub.lock:
            self.hub.tokens[token] = 0
        target = self.hub.faults.redirect_to or f"{self.hub.cdn_url}/{name}/{file}?token={token}"
        linked = {
            "X-Repo-Commit": repo.sha,
            "X-Linked-Size": str(repo.size(file) + self.hub.faults.size_lie),
            "X-Linked-Etag": f'"{repo.oids[file]}"',
        }
        self._head(302, {**linked, "Location": target, "Content-Length": "0", "ETag": f'"{repo.oids[file]}"'})

    def _cdn(self, path: str, query: dict[str, list[str]]) -> None:
        owner, name, file = path.strip("/").split("/", 2)
        token = query.get("token", [""])[0]
        with self.hub.lock:
            self.hub.cdn_requests += 1
            known = token in self.hub.tokens
            self.hub.tokens[token] = uses = self.hub.tokens.get(token, 0) + 1
        limit = self.hub.faults.token_uses
        if not known or (limit is not None and uses > limit):
            self._error(403, None, "Request has expired")
            return
        self._file(self.hub.repos[f"{owner}/{name}"], file, {})

    def _file(self, repo: Repo, file: str, extra: dict[str, str]) -> None:
        faults = self.hub.faults
        if faults.refuse is not None:
            self._error(faults.refuse, None, "no")
            return
        if self.hub.spend("busy"):
            self._busy()
            return
        size = repo.size(file)
        etag = repo.oids[file]
        if faults.etag_after is not None and self.hub.cdn_requests > faults.etag_after:
            etag = "another"
        head = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes", **extra}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or "")
        if asked is None or faults.no_ranges:
            self._body(repo, file, 200, head, 0, size)
            return
        first, last = int(asked[1]), min(size - 1, int(asked[2] or size - 1))
        if first >= size:
            self._error(416, None, "Range", {"Content-Range": f"bytes */{size}"})
            return
        back = min(first, last - first + 1) if faults.shifted_range else 0
        head["Content-Range"] = f"bytes {first - back}-{last - back}/{size + faults.size_lie}"
        self._body(repo, file, 206, head, first, last - first + 1)

    def _body(self, repo: Repo, file: str, status: int, head: dict[str, str], offset: int, count: int) -> None:
        faults = self.hub.faults
        early = faults.end_early if faults.end_early is not None and count > 2 * faults.end_early else 0
        chunked = count > 1 and (early > 0 or faults.too_long > 0)
        sending = count - early
        head |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(count)}
        self._head(status, head)
        if self.command == "HEAD":
            return
        while (done := self._seen.sent) < sending:
            step = min(CHUNK, sending - done, self._until_trouble(done))
            data = self._flipped(repo.read(file, offset + done, step), offset + done)
            self._seen.sent += len(data)
            self._write(data, chunked)
        if chunked:
            self._write(b"x" * faults.too_long, True)
            self.wfile.write(b"0\r\n\r\n")

    def _until_trouble(self, done: int) -> int:
        """How many bytes may go before the next cut or stall; cuts and stalls when it is time."""
        faults, allowed = self.hub.faults, CHUNK
        if faults.cut_every is not None:
            if done >= faults.cut_every and self.hub.spend("cut_times"):
                raise ConnectionAbortedError("cut on purpose")
            allowed = _up_to(faults.cut_every, done, allowed)
        if faults.stall_after is not None:
            if done >= faults.stall_after and self.hub.spend("stall_times"):
                self.hub.stopping.wait(60)
                raise ConnectionAbortedError("stalled on purpose")
            allowed = _up_to(faults.stall_after, done, allowed)
        if faults.rate is not None:
            allowed = min(allowed, max(1, faults.rate // 10))
            self.hub.stopping.wait(allowed / faults.rate)
        return allowed

    def _flipped(self, data: bytes, offset: int) -> bytes:
        flip = self.hub.faults.flip_at
        if flip is None or not offset <= flip < offset + len(data):
            return data
        changed = bytearray(data)
        changed[flip - offset] ^= 1
        return bytes(changed)

    def _write(self, data: bytes, chunked: bool) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)

    # Answers

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self._seen.status = status
        with self.hub.lock:
            self.hub.requests.append(self._seen)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, body: Any) -> None:
        data = json.dumps(body).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(data))})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _busy(self) -> None:
        wait = self.hub.faults.retry_after
        self._error(self.hub.faults.busy_status, None, "slow down", {"Retry-After": wait} if wait else {})

    def _error(self, status: int, code: str | None, message: str, extra: dict[str, str] | None = None) -> None:
        data = json.dumps({"error": message}).encode()
        head = {"X-Error-Message": message, "Content-Length": str(len(data)), **(extra or {})}
        if code:
            head["X-Error-Code"] = code
        self._head(status, head)
        if self.command != "HEAD":
            self.wfile.write(data)


def _up_to(mark: int, done: int, allowed: int) -> int:
    return min(allowed, mark - done) if done < mark else allowed


def _is_lfs(file: str) -> bool:
    return file.endswith((".gguf", ".safetensors", ".bin"))


def _sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Serves the named files as one repository until interrupted."""
    if len(sys.argv) < 3:
        sys.exit("usage: hf_server.py OWNER/REPO FILE…")
    with FakeHub() as hub:
        hub.add(sys.argv[1], {Path(name).name: Path(name) for name in sys.argv[2:]})
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
