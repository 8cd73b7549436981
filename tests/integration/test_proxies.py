"""Proxies that the environment names: SOCKS5 ones are used, and what is none is told in words wherever HTTP is spoken."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from huggingface_hub import close_session

from hali.model.errors import TransferFailed
from hali.registry.client import RegistryClient
from hali.transfer.http_document import fetch_document
from hali.transfer.http_retry import HttpPolicy
from hali.transfer.hub import Hub
from tests.fakes.hf_server import FakeHub

ONCE = HttpPolicy(attempts=1)


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    close_session()  # a client knows the proxies of the time when it was made
    yield
    close_session()


@contextmanager
def socks5(port: int) -> Iterator[tuple[int, list[bytes]]]:
    """A SOCKS5 proxy that leads everybody to a local port; its own port, and the names that it was asked for."""
    asked: list[bytes] = []

    def carry(here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):  # one of them has gone
            while data := here.recv(65536):
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with client, client.makefile("rb") as read:
            read.read(read.read(2)[1])  # ways to log in
            client.sendall(b"\x05\x00")
            kind = read.read(4)[3]
            asked.append(read.read(read.read(1)[0] if kind == 3 else 4))
            read.read(2)
            client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
            with socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=carry, args=(server, client))
                back.start()
                carry(client, server)
                back.join()

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            open_now.append(client)
            threads.append(threading.Thread(target=serve, args=(client,)))
            threads[-1].start()

    open_now: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in open_now:  # huggingface_hub keeps its connections
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for worker in threads:
                worker.join()


async def test_a_socks5_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub() as hub, socks5(int(hub.url.rpartition(":")[2])) as (port, asked):
        hub.add("o/r", {"m-Q4_0.gguf": b"4" * 2000})
        monkeypatch.setenv("all_proxy", f"socks5h://127.0.0.1:{port}")
        listing = await Hub("http://hub.example", policy=ONCE).resolve("o/r")
        assert [file.size for file in listing.files] == [2000]
        body = await fetch_document("http://hub.example/api/models/o/r", trusted=True, limit=10_000, policy=ONCE)
        assert b"m-Q4_0.gguf" in body
        assert set(asked) == {b"hub.example"}


@pytest.mark.parametrize("proxy", ["::::", "foo://127.0.0.1:1", "socks4://127.0.0.1:1", "http://"])
async def test_what_is_no_proxy_is_told_in_words(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    told = "what HTTPS_PROXY names is no HTTP or SOCKS5 proxy"
    with pytest.raises(TransferFailed, match=told):
        await Hub("http://127.0.0.1:1", policy=ONCE).resolve("o/r")
    with pytest.raises(TransferFailed, match=told):
        await fetch_document("http://127.0.0.1:1/x", trusted=True, limit=10, policy=ONCE)
    async with RegistryClient("http://127.0.0.1:1") as registry:
        with pytest.raises(TransferFailed, match=told):
            await registry.search("x", 1)
