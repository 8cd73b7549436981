"""How much a node says, to whom, and how soon: over real sockets on the loopback interface."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator

import anyio
import anyio.lowlevel
import pytest

from hali.transfer.lan_answers import MAX_PROBING
from hali.transfer.lan_match import wants_for
from hali.transfer.lan_net import GROUP4
from hali.transfer.lan_outbox import PACE_BURST
from hali.wire.lan import Kind, Packet, Want, WantKind, decode
from tests.fakes.lan_node import FakeNode, model
from tests.integration.test_lan_nodes import DEADLINE, node, ours, port, running
from tests.waiting import until

__all__ = ["port"]  # the fixture

ADDRESS = "127.0.0.1"


class Stranger:
    """A socket of somebody whom nobody knows, and an ear in the group. Each question is by a key of its own."""

    def __init__(self, port: int) -> None:
        self.port, self.keys = port, 1000
        self.own, self.ear = self._socket(), self._socket()
        self.own.bind((ADDRESS, 0))
        self.own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ADDRESS))
        self.ear.bind((GROUP4, port))
        group = struct.pack("4s4s", socket.inet_aton(GROUP4), socket.inet_aton(ADDRESS))
        self.ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)

    @staticmethod
    def _socket() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return sock

    def close(self) -> None:
        self.own.close()
        self.ear.close()

    def datagram(self, **fields: object) -> bytes:
        self.keys += 1
        return FakeNode(self.keys, ADDRESS).datagram(**({"time": int(time.time())} | fields))

    def send(self, datagram: bytes, to: str) -> bytes:
        self.own.sendto(datagram, (to, self.port))
        return datagram

    async def reply(self) -> bytes:
        """The next datagram that comes to us alone."""
        with anyio.fail_after(DEADLINE):
            await anyio.wait_readable(self.own)
        return self.own.recv(65_535)

    async def in_the_group(self, nonce: bytes) -> tuple[bytes, Packet]:
        """The next announcement with this nonce."""
        with anyio.fail_after(DEADLINE):
            while True:
                await anyio.wait_readable(self.ear)
                datagram = self.ear.recv(65_535)
                packet = decode(datagram).packet
                if packet.kind == Kind.ANNOUNCE and packet.nonce == nonce:
                    return datagram, packet


@pytest.fixture
def stranger(port: int) -> Iterator[Stranger]:
    made = Stranger(port)
    yield made
    made.close()


TEXT = (Want(WantKind.TEXT, b"smollm2"),)


async def test_whatever_a_stranger_sends_to_a_node_he_gets_no_more_bytes_than_he_sent(
    port: int, stranger: Stranger
) -> None:
    holder = node(1, port)
    holder.set_models([ours(n) for n in range(50)])
    alive = (Want(WantKind.NODE, bytes.fromhex(holder.node_id)),)
    sha256 = (Want(WantKind.SHA256, bytes.fromhex("00000005" * 4)),)
    long = [{"wants": TEXT, "padding": bytes(n)} for n in (300, 900)]
    long += [{"part": page, "padding": bytes(900)} for page in (0, 3, 60_000)]
    short = [{"wants": wants} for wants in (TEXT, sha256, alive, ())]
    stale = [{"kind": Kind.GOODBYE}, *({"models": tuple(map(model, range(count)))} for count in (0, 1, 6))]
    asked = [{"kind": Kind.QUERY, "nonce": b"%08d" % n} | fields for n, fields in enumerate(long + short)]
    stale = [fields | {"time": 5, "epoch": 5} for fields in stale]
    one = {"id": "a:1b:x:q4", "ih": "a" * 40}
    junk = [b"", b"x" * 1500, json.dumps({"v": "1", "nid": "n", "ts": int(time.time()), "models": [one]}).encode()]
    sent = {}
    async with running(holder):
        for fields in [*asked, *stale]:
            datagram = stranger.send(stranger.datagram(**fields), ADDRESS)
            name = fields.get("nonce") or decode(datagram).node_id
            sent[name] = len(datagram)
        for datagram in junk:
            stranger.send(datagram, ADDRESS)
        due = {fields["nonce"] for fields in asked[: len(long)]} | set(list(sent)[-1:])
        while due:
            answer = await stranger.reply()
            packet = decode(answer).packet
            # An answer names its question; a question for a sign of life names whom it doubts.
            name = packet.nonce if packet.kind == Kind.ANNOUNCE else packet.wants[0].value
            assert len(answer) <= sent.pop(name)  # once only
            due.discard(name)


async def test_a_question_to_the_group_is_answered_to_the_group_only_and_not_with_more_bytes(
    port: int, stranger: Stranger
) -> None:
    holder = node(1, port)
    holder.set_models([ours(n) for n in range(50)])
    async with running(holder):
        for number, padding in enumerate((60, 300, 900)):
            nonce = b"nonce%03d" % number
            question = stranger.datagram(kind=Kind.QUERY, wants=TEXT, nonce=nonce, padding=bytes(padding))
            stranger.send(question, GROUP4)
            answer, packet = await stranger.in_the_group(nonce)
            assert len(answer) <= len(question)
            assert len(packet.models) >= (1 if padding > 100 else 0)
        with pytest.raises(BlockingIOError):
            stranger.own.recv(1)


async def test_however_many_ask_for_everything_announcements_on_request_are_few(port: int, stranger: Stranger) -> None:
    holder = node(1, port, interval=1000.0)
    holder.set_models([ours(1)])
    async with running(holder):
        for _ in range(200):
            stranger.send(stranger.datagram(kind=Kind.QUERY), GROUP4)
            await anyio.lowlevel.checkpoint()
        nonce = b"the end."
        stranger.send(stranger.datagram(kind=Kind.QUERY, wants=TEXT, nonce=nonce, padding=bytes(900)), GROUP4)
        await stranger.in_the_group(nonce)
        assert holder.traffic.accepted["query"] > 100
        assert holder.traffic.packets_out <= 5  # its own question and announcement, one on request, one answer


async def test_a_crowd_with_wrong_clocks_leaves_few_signs_of_life_to_ask_for_and_answers_go_out(
    port: int, stranger: Stranger
) -> None:
    holder = node(1, port)
    holder.set_models([ours(1)])
    async with running(holder):
        before = len(asyncio.all_tasks())
        for _ in range(150):
            stranger.send(stranger.datagram(models=(model(1),), time=5), GROUP4)
            await anyio.lowlevel.checkpoint()
        await until(lambda: holder.traffic.dropped.get("unproven") == 150)
        assert len(asyncio.all_tasks()) - before <= MAX_PROBING + 1
        question = stranger.datagram(kind=Kind.QUERY, wants=TEXT, nonce=b"a sound.", padding=bytes(900))
        stranger.send(question, GROUP4)
        await stranger.in_the_group(b"a sound.")


async def test_in_the_middle_of_a_long_announcement_questions_are_answered_and_news_is_told(port: int) -> None:
    first, second = node(1, port), node(2, port)
    everything = [ours(n, f"model-{n}:7b:instruct:q4_k_m") for n in range(1000)]
    first.set_models(everything)
    async with running(second), running(first):
        await until(second.entries)
        assert [e.size for e in await second.query("model-999:", timeout=DEADLINE)] == [1999]
        first.set_models([*everything[1:], ours(5000, "news:7b:instruct:q4_k_m")])
        await until(lambda: not second._find(wants_for("model-0:")) and second._find(wants_for("news:")))
        assert first.traffic.packets_out < 8 * PACE_BURST  # of the 145 that the announcement takes


async def test_nodes_with_and_without_the_secret_share_a_network_and_hear_nothing_of_each_other(port: int) -> None:
    secret = {"secret": b"s" * 32}
    plain, closed, plain2, closed2 = node(1, port), node(2, port, **secret), node(3, port), node(4, port, **secret)
    for number, one in enumerate((plain, closed)):
        one.set_models([ours(number)])
    async with running(plain2), running(closed2), running(plain), running(closed):
        await until(lambda: plain2.entries() and closed2.entries())
        await until(lambda: plain2.traffic.dropped.get("mac") and closed2.traffic.dropped.get("mac"))
        assert [e.size for e in plain2.entries()] == [1000]
        assert [e.size for e in closed2.entries()] == [1001]
        assert await plain2.query("00000001" * 8, timeout=0.5) == []
        assert await closed2.query("00000000" * 8, timeout=0.5) == []
