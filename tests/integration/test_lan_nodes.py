"""Nodes that find each other over real sockets on the loopback interface, which every machine and container has."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hali.config.identity import Identity
from hali.model.ids import InfoHashes
from hali.transfer import lan, lan_answers, lan_packets
from hali.transfer.lan import LanAnnouncer, LanModel, LanOptions
from hali.transfer.lan_net import GROUP4
from hali.wire.lan import Kind, Want, WantKind, decode
from tests.fakes.lan_node import FakeNode
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 10.0  # generous: CI machines stall; the promises below are a second or less


def identity(seed: int) -> Identity:
    return Identity(Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big")))


def ours(number: int, name: str = "smollm2:135m:instruct:q4_1") -> LanModel:
    mark = f"{number:08x}"
    return LanModel(name, mark * 8, InfoHashes(v1=mark * 5, v2=mark * 8), 1000 + number)


@pytest.fixture
def port() -> int:
    """A UDP port that nothing else uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


@asynccontextmanager
async def running(node: LanAnnouncer) -> AsyncIterator[LanAnnouncer]:
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: node.run(task_status=task_status))
        yield node
        group.cancel_scope.cancel()


def node(seed: int, port: int, **options: Any) -> LanAnnouncer:
    return LanAnnouncer(
        identity(seed), LanOptions(**({"port": port, "interfaces": ("lo",)} | options)), lambda: 7000 + seed
    )


async def test_a_node_is_heard_at_once_with_all_it_takes_to_fetch(port: int) -> None:
    first, second = node(1, port), node(2, port)
    first.set_models([ours(5)])
    async with running(second), running(first):
        await until(second.entries)
        (entry,) = second.entries()
    assert entry.peers == (("127.0.0.1", 7001),)
    assert (entry.model_id, entry.size, entry.sha256_prefix) == ("smollm2:135m:instruct:q4_1", 1005, "00000005" * 4)
    assert entry.infohashes == ours(5).infohashes


async def test_a_late_node_hears_of_the_others_without_waiting_for_their_next_turn(port: int) -> None:
    first, second = node(1, port), node(2, port)
    first.set_models([ours(5)])
    async with running(first):
        await until(lambda: first.traffic.packets_out >= 2)
        async with running(second):
            await until(second.entries)


async def test_a_query_is_answered_and_returns_with_the_first_hit(port: int) -> None:
    first, second = node(1, port), node(2, port)
    first.set_models([ours(5), ours(6, "llama:8b:instruct:q4_k_m")])
    async with running(first), running(second):
        for text in ("smollm2", "00000005" * 8, "00000005" * 5, "SMOLLM2:135m"):
            second._index.expire(float("inf"))  # what came with the start is forgotten, so it has to ask
            assert second.entries() == []
            with anyio.fail_after(DEADLINE):
                found = await second.query(text, timeout=DEADLINE)
            assert [e.size for e in found] == [1005]


async def test_a_node_is_alone_once_it_has_listened_and_nobody_has_anything(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = node(1, port), node(2, port)
    async with running(second):
        monkeypatch.setattr(lan, "LISTENED", float("inf"))
        assert not second.alone, "an answer may be on its way"
        monkeypatch.setattr(lan, "LISTENED", 0.0)
        assert second.alone
        async with running(first):
            await until(lambda: second.traffic.accepted.get("query"))
            assert second.alone, "one that has nothing"
            first.set_models([ours(5)])
            await until(second.entries)
            assert not second.alone
        await until(lambda: second.alone)
    assert second.alone


async def test_an_answer_names_the_torrent_port_of_now(port: int) -> None:
    ports = [7001]
    first = LanAnnouncer(identity(1), LanOptions(port=port, interfaces=("lo",)), lambda: ports[-1])
    first.set_models([ours(5)])
    async with running(node(2, port)) as second, running(first):
        await until(second.entries)
        ports.append(7999)
        second._index.expire(float("inf"))
        (entry,) = await second.query("smollm2", timeout=DEADLINE)
    assert entry.peers == (("127.0.0.1", 7999),)


async def test_nobody_having_it_takes_the_timeout_and_no_longer(port: int) -> None:
    async with running(node(1, port)) as first, running(node(2, port)):
        with anyio.fail_after(DEADLINE):
            assert await first.query("nothing", timeout=0.2) == []
            assert await first.query("", timeout=5) == []


async def test_what_is_known_is_answered_without_a_packet(port: int) -> None:
    first, second = node(1, port), node(2, port)
    first.set_models([ours(5)])
    async with running(second), running(first):
        await until(second.entries)
        sent = second.traffic.packets_out
        assert await second.query("smollm2")
        assert second.traffic.packets_out == sent


async def test_a_change_is_told_at_once_and_what_is_gone_is_dropped(port: int) -> None:
    first, second = node(1, port), node(2, port)
    async with running(second), running(first):
        first.set_models([ours(1), ours(2)])
        await until(lambda: len(second.entries()) == 2)
        first.set_models([ours(2)])
        await until(lambda: [e.size for e in second.entries()] == [1002])
        first.set_models([])
        await until(lambda: second.entries() == [])


async def test_many_changes_in_a_moment_are_one_announcement(port: int) -> None:
    first = node(1, port)
    async with running(first), running(node(2, port)) as second:
        before = first.traffic.packets_out
        for count in range(1, 6):
            first.set_models([ours(n) for n in range(count)])
        await until(lambda: len(second.entries()) == 5)
        assert first.traffic.packets_out == before + 1


async def test_goodbye_removes_a_node_at_once(port: int) -> None:
    first, second = node(1, port), node(2, port)
    first.set_models([ours(5)])
    async with running(second):
        async with running(first):
            await until(second.entries)
        await until(lambda: not second.entries())
    assert second.traffic.accepted["goodbye"] == 1


async def test_more_models_than_a_packet_holds_all_arrive(port: int) -> None:
    first, second = node(1, port), node(2, port)
    first.set_models([ours(n, f"model-{n}:7b:instruct:q4_k_m") for n in range(100)])
    async with running(second), running(first):
        await until(lambda: len(second.entries()) == 100)


async def test_only_holders_of_the_secret_hear_each_other(port: int) -> None:
    first, second, stranger = node(1, port, secret=b"a" * 32), node(2, port, secret=b"a" * 32), node(3, port)
    first.set_models([ours(5)])
    stranger.set_models([ours(6)])
    async with running(second), running(stranger), running(first):
        await until(second.entries)
        await until(lambda: second.traffic.dropped.get("mac"))
        assert [e.size for e in second.entries()] == [1005]


async def test_a_restarted_node_is_heard_even_with_its_clock_set_back(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = node(1, port), node(2, port)
    first.set_models([ours(5)])
    async with running(second):
        async with running(first):
            await until(second.entries)
        past = SimpleNamespace(time=lambda: 5.0, time_ns=lambda: 5_000_000_000)
        monkeypatch.setattr(lan_packets, "time", past)
        again = node(1, port)
        again.set_models([ours(6)])
        async with running(again):
            await until(lambda: [e.size for e in second.entries()] == [1006])


async def test_enough_holders_are_enough(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    holders = [node(seed, port) for seed in range(1, 9)]
    for holder in holders:
        holder.set_models([ours(5)])
    async with anyio.create_task_group() as group:
        for holder in holders:
            await group.start(lambda *, task_status, h=holder: h.run(task_status=task_status))
        asker = node(20, port)
        async with running(asker):
            await until(lambda: len(asker.entries()[0].peers if asker.entries() else ()) == 8)
            # What they say unasked is not counted: each has said it, and says it again in half a minute.
            await until(lambda: all(h._due > anyio.current_time() + 10 for h in holders))
            # All of them share this loop: one that stands still for a moment must not bring all answers at once.
            monkeypatch.setattr(lan_answers, "ANSWER_DELAY", 1.5)
            before = [h.traffic.packets_out for h in holders]
            asker._index.expire(float("inf"))
            assert await asker.query("00000005" * 8, timeout=DEADLINE)
            await until(lambda: not any(h._answers._pending for h in holders))
            answered = sum(h.traffic.packets_out > b for h, b in zip(holders, before, strict=True))
            assert 1 <= answered < len(holders)
        group.cancel_scope.cancel()


async def test_nodes_in_other_subnets_are_reached_by_unicast(port: int) -> None:
    far = node(1, port, interfaces=())
    far.set_models([ours(5)])
    near = node(2, port + 1, interfaces=(), peers=(f"127.0.0.1:{port}",))
    near.set_models([ours(6)])
    async with running(far), running(near):
        await until(lambda: far.entries() and near.entries())
        near._index.expire(float("inf"))
        assert [e.size for e in await near.query("smollm2", timeout=DEADLINE)] == [1005]


@pytest.mark.parametrize("padding", [60, 300, 700])
async def test_a_unicast_answer_is_never_longer_than_the_question(port: int, padding: int) -> None:
    far, asker = node(1, port, interfaces=()), FakeNode(77, "127.0.0.1")
    far.set_models([ours(n) for n in range(50)])
    want = (Want(WantKind.TEXT, b"smollm2"),)
    question = asker.datagram(kind=Kind.QUERY, wants=want, time=int(time.time()), padding=bytes(padding))
    async with running(far), await anyio.create_udp_socket(local_host="127.0.0.1") as udp:
        await udp.sendto(question, "127.0.0.1", port)
        with anyio.fail_after(DEADLINE):
            answer, _ = await udp.receive()
    assert len(answer) <= len(question)
    assert len(decode(answer).packet.models) >= (1 if padding > 100 else 0)


async def test_a_port_of_another_program_degrades_and_unicast_goes_on(port: int) -> None:
    far = node(1, port + 1, interfaces=())
    far.set_models([ours(5)])
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as t6,
    ):
        taken.bind(("", port))
        t6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        t6.bind(("::", port))
        blocked = node(2, port, peers=(f"127.0.0.1:{port + 1}",))
        async with running(far), running(blocked):
            assert "cannot open" in str(blocked.traffic.degraded)
            await until(blocked.entries)
    assert blocked.traffic.degraded is None  # it does not run any more


async def test_without_any_multicast_it_says_so(port: int) -> None:
    async with running(node(1, port, interfaces=())) as alone:
        assert alone.traffic.degraded == "no interface takes part in multicast"


async def test_a_peer_that_cannot_be_resolved_does_not_stop_the_rest(port: int) -> None:
    async with running(node(1, port, peers=("host.invalid",))) as first, running(node(2, port)) as second:
        first.set_models([ours(5)])
        await until(second.entries)


async def test_garbage_on_the_port_is_counted_and_harms_nothing(port: int) -> None:
    async with running(node(1, port)) as first, running(node(2, port)) as second:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for junk in (b"", b"\x93\xc4", bytes(2000), b"{]"):
                sock.sendto(junk, ("127.0.0.1", port))
        first.set_models([ours(5)])
        await until(second.entries)
        await until(lambda: sum(first.traffic.dropped.values()) + sum(second.traffic.dropped.values()) == 4)


async def test_an_announcement_of_the_existing_hali_is_understood(port: int) -> None:
    one = {"id": "a:1b:x:q4", "ih": "a" * 40, "repo": "o/r"}
    packet = {"v": "1", "nid": "n" * 64, "ts": int(time.time()), "p": 7000, "models": [one]}
    async with running(node(1, port)) as first:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            sock.sendto(json.dumps(packet).encode(), (GROUP4, port))
        await until(first.entries)
        (entry,) = first.entries()
    assert (entry.protocol, entry.peers, entry.infohashes.v1) == (1, (("127.0.0.1", 7000),), "a" * 40)


CHILD = """
    import sys, anyio
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from hali.config.identity import Identity
    from hali.model.ids import InfoHashes
    from hali.transfer.lan import LanAnnouncer, LanModel, LanOptions

    async def main(port, mark):
        options = LanOptions(port=port, interfaces=("lo",))
        node = LanAnnouncer(Identity(Ed25519PrivateKey.generate()), options, lambda: 9000)
        node.set_models([LanModel(f"child-{mark}:1b:x:q4", mark * 64, InfoHashes(v2=mark * 64), 1)])
        with anyio.move_on_after(60):
            async with anyio.create_task_group() as group:
                await group.start(lambda *, task_status: node.run(task_status=task_status))
                print("ready", flush=True)
                await anyio.to_thread.run_sync(sys.stdin.read)
                group.cancel_scope.cancel()

    anyio.run(main, int(sys.argv[1]), sys.argv[2])
"""


@asynccontextmanager
async def child(port: int, mark: str) -> AsyncIterator[None]:
    """A node in a process of its own, until the block ends."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(port), mark]
    paths = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": None}
    async with await anyio.open_process(command, env={**os.environ, "PYTHONPATH": paths}, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with anyio.fail_after(30):
            await process.stdout.receive()
        yield
        await process.stdin.aclose()
        with anyio.fail_after(DEADLINE):
            await process.wait()


async def test_daemons_that_share_the_port_on_one_machine_all_hear_and_all_answer(port: int) -> None:
    async with child(port, "a"), child(port, "b"), running(node(1, port)) as third, running(node(2, port)) as fourth:
        await until(lambda: len(third.entries()) == len(fourth.entries()) == 2)
        for asker in (third, fourth):
            asker._index.expire(float("inf"))
            for mark in "ab":
                assert [e.model_id for e in await asker.query(mark * 64, timeout=DEADLINE)] == [f"child-{mark}:1b:x:q4"]
