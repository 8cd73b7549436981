"""The answers of the fake hub and its CDN, faults included."""

from __future__ import annotations

import gzip
import json
import re
import secrets
import socket
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.corrupt_peer import INVERTED
from tests.fakes.hf_state import Repo, Request

if TYPE_CHECKING:
    from tests.fakes.hf_server import FakeHub

CHUNK = 64 * 1024


def handler_of(hub: FakeHub, server: str) -> type[BaseHTTPRequestHandler]:
    """The handler class of one of the two servers."""
    return type("Handler", (_Handler,), {"hub": hub, "role": server})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub
    role: str
    _number = 1  # of this request among those to the CDN

    def setup(self) -> None:
        super().setup()
        with self.hub.lock:
            now = self.hub.at_once[self.role] = self.hub.at_once[self.role] + 1
            self.hub.most_at_once[self.role] = max(now, self.hub.most_at_once[self.role])
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def finish(self) -> None:
        with self.hub.lock:
            self.hub.at_once[self.role] -= 1
        super().finish()

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
        elif self.hub.faults.api_redirect is not None:
            self._head(307, {"Location": self.hub.faults.api_redirect, "Content-Length": "0"})
        elif self.hub.faults.api_refuse is not None:
            self._error(403, None, self.hub.faults.api_refuse)
        elif self.hub.faults.api_body is not None:
            self._raw(self.hub.faults.api_body)
        elif renamed := self.hub.renamed.get("/".join(path.split("/")[:2])):
            self._head(307, {"Location": self.path.replace(path, renamed), "Content-Length": "0"})
        elif not path:
            self._search(query)
        elif match := re.fullmatch(r"([^/]+/[^/]+)/tree/([^/]+)", path):
            self._tree(match[1], match[2], query)
        elif match := re.fullmatch(r"([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2], "blobs" in query)
        else:
            self._error(404, None, "Not found")

    def _search(self, query: dict[str, list[str]]) -> None:
        """Every word is in the name; `expand` asks for fields by name, and then no others come."""
        words = query.get("search", [""])[0].lower().split()
        sort = query.get("sort", ["trendingScore"])[0]
        if sort not in ("trendingScore", "downloads", "likes", "lastModified", "createdAt"):
            self._error(400, None, f"Invalid sort parameter: {sort}")
            return
        gguf = "gguf" in query.get("filter", [])
        found = [
            self._listed(name, repo)
            for name, repo in self.hub.repos.items()
            if all(word in name.lower() for word in words) and (not gguf or _has_gguf(repo)) and not repo.private
        ]
        if sort in ("downloads", "likes", "lastModified"):
            found.sort(key=lambda item: item[sort], reverse=True)
        wanted = (
            {"_id", "id", *query["expand"]} if "expand" in query else set(found[0] if found else ()) - {"lastModified"}
        )
        self._json([{k: v for k, v in item.items() if k in wanted} for item in found[: _limit(query)]])

    @staticmethod
    def _listed(name: str, repo: Repo) -> dict[str, Any]:
        counts = {"downloads": repo.downloads, "likes": repo.likes, "lastModified": repo.updated}
        gated = "auto" if repo.gated else False
        return {"_id": "1", "id": name, "modelId": name, "private": False, "tags": ["gguf"], "gated": gated, **counts}

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
            size = repo.size(file) + self.hub.faults.size_lie + self.hub.faults.api_lie
            entry |= {"size": size, "blobId": repo.oids[file][:40]}
            if _is_lfs(file):
                entry["lfs"] = {"sha256": repo.oids[file], "size": size, "pointerSize": 135}
        return entry

    def _tree(self, name: str, revision: str, query: dict[str, list[str]]) -> None:
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
        begin = int(query.get("cursor", ["0"])[0])
        end = begin + self.hub.faults.page_size
        more = self.hub.faults.next_page or f"{self.hub.url}{self.path.partition('&cursor')[0]}&cursor={end}"
        self._json(entries[begin:end], {"Link": f'<{more}>; rel="next"'} if end < len(entries) else {})

    def _repo(self, name: str, revision: str | None) -> Repo | None:
        """The repository, or None after an answer as the real hub gives it."""
        token = self.headers.get("authorization")
        good = token == f"Bearer {self.hub.TOKEN}"
        repo = self.hub.repos.get(name)
        if token and not good and token != f"Bearer {self.hub.STRANGER}":
            self._error(401, None, "Invalid credentials in Authorization header")
        elif repo is None or (repo.private and not good):
            if token:
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
            status = 403 if self.headers.get("authorization") else 401
            self._error(status, "GatedRepo", f"Access to model {match[1]} is restricted.")
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
        target = self.hub.faults.redirect_to or f"{self.hub.cdn_name or self.hub.cdn_url}/{name}/{file}?token={token}"
        linked = {
            "X-Repo-Commit": repo.sha,
            "X-Linked-Size": str(repo.size(file) + self.hub.faults.size_lie + self.hub.faults.promise_lie),
            "X-Linked-Etag": f'"{repo.oids[file]}"',
        }
        plain = {"Location": target, "Content-Length": "0"}
        tag = {"ETag": f'"{repo.oids[file]}"'}
        self._head(302, plain if self.hub.faults.plain_mirror else {**linked, **plain, **tag})

    def _cdn(self, path: str, query: dict[str, list[str]]) -> None:
        owner, name, file = path.strip("/").split("/", 2)
        token = query.get("token", [""])[0]
        with self.hub.lock:
            self._number = self.hub.cdn_requests = self.hub.cdn_requests + 1
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
        if faults.silent:
            self.hub.stopping.wait(60)
            raise ConnectionAbortedError("silent on purpose")
        if faults.gate is not None and self.headers.get("range") != "bytes=0-0":
            faults.gate.wait(60)
        if self._is_after(faults.page_after):
            self._page()
            return
        size = repo.size(file)
        etag = repo.oids[file]
        if self._is_after(faults.etag_after):
            etag = "another"
        if faults.plain_mirror:
            etag = parse_qs(urlsplit(self.path).query).get("token", ["none"])[0]
        head = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes", **extra}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or "")
        if asked is None or faults.no_ranges or self._is_after(faults.no_ranges_after):
            self._body(repo, file, 200, head, 0, size)
            return
        first, last = int(asked[1]), min(size - 1, int(asked[2] or size - 1))
        if first >= size:
            self._error(416, None, "Range", {"Content-Range": f"bytes */{size}"})
            return
        back = min(first, last - first + 1) if faults.shifted_range else 0
        head["Content-Range"] = f"bytes {first - back}-{last - back}/{size + faults.size_lie + faults.total_lie}"
        self._body(repo, file, 206, head, first, last - first + 1)

    def _body(self, repo: Repo, file: str, status: int, head: dict[str, str], offset: int, count: int) -> None:
        faults = self.hub.faults
        if faults.gzipped:
            self._zipped(repo.read(file, offset, count), status, head)
            return
        early = faults.end_early if faults.end_early is not None and count > 2 * faults.end_early else 0
        chunked = count > 1 and (early > 0 or faults.too_long > 0)
        sending = count - early
        head |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(count + faults.length_lie)}
        self.close_connection |= faults.length_lie != 0
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

    def _is_after(self, requests: int | None) -> bool:
        return requests is not None and self.hub.cdn_requests > requests

    def _zipped(self, data: bytes, status: int, head: dict[str, str]) -> None:
        body = gzip.compress(data, 1)
        self._head(status, {**head, "Content-Encoding": "gzip", "Content-Length": str(len(body))})
        self.wfile.write(body)

    def _page(self) -> None:
        body = b"<!doctype html><title>Sign in</title>" + b" " * 2000
        self._head(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(body))})
        self.wfile.write(body)

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
        if faults.rate is not None and self._number > faults.rate_after:
            allowed = min(allowed, max(1, faults.rate // 10))
            self.hub.stopping.wait(allowed / faults.rate)
        return allowed

    def _flipped(self, data: bytes, offset: int) -> bytes:
        if self.hub.faults.garble:
            return data.translate(INVERTED)
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

    def _json(self, body: Any, extra: dict[str, str] | None = None) -> None:
        self._raw(json.dumps(body).encode(), extra)

    def _raw(self, data: bytes, extra: dict[str, str] | None = None) -> None:
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(data)), **(extra or {})})
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


def _limit(query: dict[str, list[str]]) -> int:
    return min(1000, int(query.get("limit", ["1000"])[0]))  # a page of the real one


def _has_gguf(repo: Repo) -> bool:
    return any(file.endswith(".gguf") for file in repo.files)


def _is_lfs(file: str) -> bool:
    return file.endswith((".gguf", ".safetensors", ".bin"))
