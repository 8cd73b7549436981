"""Other people's clients: the magnet that hali prints is all they need on one LAN, and hali takes from them by a magnet alone."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hali.hashing.files import hash_file
from hali.model.ids import InfoHashes
from hali.model.units import MIB
from hali.transfer import magnet, metainfo
from hali.transfer.session import Finished, SessionOptions, TorrentSession, running
from tests.fakes.aria2 import aria2c
from tests.fakes.torrents import LOCAL, content, events_of

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 60.0  # LSD answers in about 1 s, aria2 asks again after 4 s
EVERYWHERE = SessionOptions(port=0, addresses=("0.0.0.0",))


class Model:
    """A file with a torrent that hali built."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self.content = content(20 * MIB + 3, name)
        self.path = folder / name
        self.path.write_bytes(self.content)
        self.raw = metainfo.build(hash_file(self.path), name)
        self.infohashes = metainfo.parse(self.raw).infohashes
        self.torrent = folder / "model.torrent"
        self.torrent.write_bytes(self.raw)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """Its own name and content for each test, so that LSD of one test cannot feed another."""
    return Model(tmp_path / "seed", f"{tmp_path.name[:40]}.gguf")


def multicast_works() -> bool:
    """Whether a multicast packet of this machine comes back to it, as LSD needs; not so in some containers."""
    group, port = "239.192.152.143", 6771
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        try:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            receiver.bind(("", port))
            membership = struct.pack("4s4s", socket.inet_aton(group), socket.inet_aton("0.0.0.0"))
            receiver.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            receiver.settimeout(2.0)
            sender.sendto(b"hali test", (group, port))
            while receiver.recv(100) != b"hali test":
                pass
        except OSError:
            return False
        return True


needs_multicast = pytest.mark.skipif(not multicast_works(), reason="NO MULTICAST on this machine: LSD cannot be tested")


def client(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.fakes.bare_libtorrent", *arguments]


@asynccontextmanager
async def bare_seeder(model: Model, *options: str) -> AsyncIterator[int]:
    """A plain libtorrent in a process of its own that seeds the model; its port."""
    command = client("seed", str(model.path.parent), str(model.torrent), *options)
    async with await anyio.open_process(command, cwd=ROOT, stderr=None) as process:
        assert process.stdout is not None
        with anyio.fail_after(DEADLINE_S):
            port = int(await process.stdout.receive())
        try:
            yield port
        finally:
            process.kill()


async def downloads(command: list[str], folder: Path, model: Model) -> str:
    """Run a foreign client; its output once it has the same bytes."""
    with anyio.fail_after(DEADLINE_S):
        done = await anyio.run_process(command, cwd=ROOT, stderr=subprocess.STDOUT, check=False)
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output
    assert (folder / model.path.name).read_bytes() == model.content
    return output


@asynccontextmanager
async def hali_seeds(model: Model, options: SessionOptions) -> AsyncIterator[TorrentSession]:
    async with running(options) as session:
        await session.seed(model.raw, model.path.parent)
        yield session


async def test_hali_fetches_by_magnet_from_a_plain_libtorrent(tmp_path: Path, model: Model) -> None:
    async with bare_seeder(model, "--no-lsd") as port, running(LOCAL) as session:
        link = magnet.parse(magnet.build(model.infohashes, peers=[("127.0.0.1", port)]))
        async with session.fetch(link, tmp_path) as fetch:
            with anyio.fail_after(DEADLINE_S):
                assert isinstance((await events_of(fetch))[-1], Finished)

    assert (tmp_path / model.path.name).read_bytes() == model.content


async def test_a_plain_libtorrent_fetches_from_hali_by_a_magnet_with_our_address(tmp_path: Path, model: Model) -> None:
    async with hali_seeds(model, LOCAL) as session:
        link = magnet.build(model.infohashes, model.path.name, peers=[("127.0.0.1", session.port)])
        await downloads(client("fetch", str(tmp_path), link, "--no-lsd"), tmp_path, model)


@needs_multicast
@pytest.mark.parametrize("which", ["v1", "v2", "both"])
async def test_a_plain_libtorrent_finds_hali_by_the_magnet_alone(tmp_path: Path, model: Model, which: str) -> None:
    hashes = {
        "v1": InfoHashes(v1=model.infohashes.v1),
        "v2": InfoHashes(v2=model.infohashes.v2),
        "both": model.infohashes,
    }[which]
    async with hali_seeds(model, EVERYWHERE):
        await downloads(client("fetch", str(tmp_path), magnet.build(hashes, model.path.name)), tmp_path, model)


@needs_multicast
@pytest.mark.parametrize("first", ["seeder", "leecher"])
async def test_hali_finds_a_plain_libtorrent_by_the_magnet_alone(tmp_path: Path, model: Model, first: str) -> None:
    async with running(EVERYWHERE) as session, session.fetch(magnet.Magnet(model.infohashes), tmp_path) as fetch:
        if first == "leecher":
            await session.status()  # the fetch has been announced, and nobody was there
        async with bare_seeder(model):
            with anyio.fail_after(DEADLINE_S):
                assert isinstance((await events_of(fetch))[-1], Finished)

    assert (tmp_path / model.path.name).read_bytes() == model.content


@needs_multicast
async def test_two_halis_of_one_machine_find_each_other_by_lsd(tmp_path: Path, model: Model) -> None:
    link = magnet.Magnet(model.infohashes)
    async with hali_seeds(model, EVERYWHERE), running(EVERYWHERE) as leecher, leecher.fetch(link, tmp_path) as fetch:
        with anyio.fail_after(DEADLINE_S):
            assert isinstance((await events_of(fetch))[-1], Finished)

    assert (tmp_path / model.path.name).read_bytes() == model.content


# ---- aria2


@needs_multicast
async def test_aria2_fetches_from_hali_by_the_magnet_alone(tmp_path: Path, model: Model) -> None:
    command = [
        aria2c(),
        "--no-conf",
        "--enable-dht=false",
        "--bt-enable-lpd=true",
        "--seed-time=0",
        f"--dir={tmp_path}",
    ]
    async with hali_seeds(model, EVERYWHERE):
        link = magnet.build(model.infohashes, model.path.name)
        await downloads([*command, "--console-log-level=warn", link], tmp_path, model)


@needs_multicast
async def test_hali_fetches_from_aria2_by_the_magnet_alone(tmp_path: Path, model: Model) -> None:
    command = [
        aria2c(),
        "--no-conf",
        "--enable-dht=false",
        "--bt-enable-lpd=true",
        "--seed-ratio=0.0",
        "--check-integrity=true",
    ]
    command += [f"--dir={model.path.parent}", str(model.torrent)]
    async with await anyio.open_process(command, stdout=subprocess.DEVNULL) as process, running(EVERYWHERE) as session:
        try:
            async with session.fetch(magnet.Magnet(model.infohashes), tmp_path) as fetch:
                with anyio.fail_after(DEADLINE_S):
                    assert isinstance((await events_of(fetch))[-1], Finished)
        finally:
            process.kill()

    assert (tmp_path / model.path.name).read_bytes() == model.content
