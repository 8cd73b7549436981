"""A local stand-in for the Hugging Face hub and its CDN, as nasty as the real ones by switches (`FakeHub.faults`).

Speaks what the real `huggingface_hub` uses: model info with blobs, tree, search, resolve (HEAD and GET) with its `X-`
headers and the redirect to a CDN on another origin with a token that may expire, ranges, error codes. For manual use:

    python -m tests.fakes.hf_server owner/repo model-Q4_K_M.gguf …     then HF_ENDPOINT=http://127.0.0.1:PORT
"""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.fakes.hf_handler import handler_of
from tests.fakes.hf_state import Content, Faults, Repo, Request


class FakeHub:
    """Two servers in threads: `url` is the hub, `cdn_url` where LFS files come from. Use as a context manager."""

    TOKEN = "hf_good"  # opens gated and private repositories
    STRANGER = "hf_stranger"  # a valid token of somebody who accepted no terms

    def __init__(self, port: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}  # repositories' old names
        self.faults = Faults()
        self.requests: list[Request] = []
        self.lock = threading.Lock()
        self.tokens: dict[str, int] = {}
        self.cdn_requests = 0
        self.cdn_name: str | None = None  # what redirects call the CDN, if not `cdn_url`
        self.at_once = {"hub": 0, "cdn": 0}  # connections now …
        self.most_at_once = {"hub": 0, "cdn": 0}  # … and at most
        self.stopping = threading.Event()
        self._hub = _Server(("127.0.0.1", port), handler_of(self, "hub"))
        self._cdn = _Server(("127.0.0.1", 0), handler_of(self, "cdn"))
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

    @property
    def connections(self) -> int:
        """Open connections to hub and CDN."""
        return self._hub.open_connections + self.cdn_connections

    @property
    def cdn_connections(self) -> int:
        """Open connections to the CDN, so those of bytes: a client of the API may keep one to the hub."""
        return self._cdn.open_connections

    def ranges(self, server: str = "cdn") -> list[str]:
        """Range headers of the requests for file bytes, in order, without the one-byte probes."""
        with self.lock:
            return [r.range for r in self.requests if r.server == server and r.range and r.range != "bytes=0-0"]

    def hang_up(self) -> None:
        """Ends all connections, as a server does with idle ones, and with them their threads."""
        for server in (self._hub, self._cdn):
            server.close_connections()

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
        self.hang_up()
        for server in (self._hub, self._cdn):
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

    @property
    def open_connections(self) -> int:
        """How many clients have not hung up."""
        return len(self._open)

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


def main() -> None:
    """Serves the named files as one repository until interrupted."""
    if len(sys.argv) < 3:
        sys.exit("usage: python -m tests.fakes.hf_server OWNER/REPO FILE…")
    with FakeHub() as hub:
        hub.add(sys.argv[1], {Path(name).name: Path(name) for name in sys.argv[2:]})
        print(f"HF_ENDPOINT={hub.url}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
