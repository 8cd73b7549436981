"""LAN presence: tells the neighbours what we have, remembers what they have, asks and answers.

Announcements go out at once at the start and on every change, then every 30 s ± 20 %. A query is answered within 250 ms
by those who have what it names; once three have answered the rest stay silent. Answers are multicast, so that everybody
learns from them and all daemons of a machine hear them; only a query that came by unicast (from another subnet,
`lan.peers`) is answered by unicast, with no more bytes than it had itself.
"""

from __future__ import annotations

import random
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import anyio
import anyio.abc

from hali.runtime.channels import Watch
from hali.runtime.log import get_logger
from hali.transfer.lan_inbox import Inbox, Question, Stale
from hali.transfer.lan_index import LanEntry, LanIndex
from hali.transfer.lan_match import model_fits, wants_for
from hali.transfer.lan_outbox import LanOptions, Outbox
from hali.transfer.lan_packets import LanModel, Signer, Speaker, to_wire
from hali.wire.lan import MAX_PACKET, Model, Want, WantKind

__all__ = ["LanAnnouncer", "LanEntry", "LanModel", "LanOptions", "Signer"]

log = get_logger(__name__)

DEBOUNCE = 0.05  # several models set within this time go out as one announcement
ANSWER_DELAY = 0.1  # answers are spread over this; with the pace below still inside the promised 250 ms
ENOUGH_ANSWERS = 3  # a downloader learns of more peers from the swarm itself
GATHER = 0.12  # after the first hit for a text, others with the same text may follow
ASK_AGAIN = 0.3  # a lost query or answer costs this much, not the whole pull
MIN_ROUND_GAP = 0.5  # between full announcements on request, however many ask
REFRESH = 5.0  # how soon a new interface (Wi-Fi joined, cable plugged) is noticed
PROBE_GAP = 5.0  # between signs of life asked of one node
MAX_PENDING_ANSWERS = 32
MAX_ANSWER_PACKETS = 3  # some twenty models; who asks for "a" does not get the catalogue
READS_PER_TURN = 64  # datagrams before other tasks get their turn


class LanAnnouncer:
    """The service. `set_models`, `entries` and `counters` may be called at any time, `query` while it runs."""

    def __init__(self, signer: Signer, options: LanOptions, bt_port: Callable[[], int]) -> None:
        self.changes: Watch[int] = Watch(0)  # a number that grows whenever `entries` may answer differently
        self._options = options
        self._bt_port = bt_port
        self._speaker = Speaker(signer, options.secret)
        self._index = LanIndex(self._on_change)
        self._inbox = Inbox(self._index, self._speaker.node_id, options.secret, v1=options.v1)
        self._models: tuple[Model, ...] = ()
        self._said_something = False
        self._outbox: Outbox | None = None  # while it runs
        self._due = 0.0
        self._kick = anyio.Event()
        self._last_round = float("-inf")
        self._answers = 0
        self._probed: OrderedDict[bytes, float] = OrderedDict()

    @property
    def node_id(self) -> str:
        """Our node id, hex."""
        return self._speaker.node_id.hex()

    @property
    def counters(self) -> dict[str, int]:
        """Packets sent, accepted (by kind) and dropped (by reason), and the size of the index."""
        counts = {"nodes": len(self._index)} | (self._outbox.counters if self._outbox else {})
        counts |= {f"accepted.{kind}": n for kind, n in self._inbox.accepted.items()}
        return counts | {f"dropped.{reason}": n for reason, n in self._inbox.drops.items()}

    @property
    def degraded(self) -> str | None:
        """Why we hear or reach less than we should; None if all is well or we do not run."""
        return self._outbox.degraded if self._outbox else None

    def set_models(self, models: Iterable[LanModel]) -> None:
        """What we have from now on; announced within 50 ms. ValueError for a model without SHA-256 or v2 infohash."""
        wire = to_wire(models)
        if wire != self._models:
            self._models = wire
            self._announce_by(DEBOUNCE)

    def announce_soon(self) -> None:
        """To be called when the BitTorrent port changed."""
        self._announce_by(DEBOUNCE)

    def entries(self) -> list[LanEntry]:
        """What the neighbours have, by model id."""
        return self._index.entries(anyio.current_time())

    async def query(self, text: str, timeout: float = 1.0) -> list[LanEntry]:
        """Who has `text` (part of a model id, SHA-256, infohash)? What is known at once, else the answers to a query.

        Returns as soon as there is a hit (for a text a moment later: other models may fit too), empty after `timeout`.
        """
        wants = wants_for(text)
        if not wants:
            return []
        found = self._find(wants)
        if found or self._outbox is None:
            return found
        exact = wants[0].kind != WantKind.TEXT
        with anyio.move_on_after(timeout):
            async with anyio.create_task_group() as asking:
                asking.start_soon(self._ask_repeatedly, self._outbox, wants)
                while not self._find(wants):
                    await self.changes.changed()
                asking.cancel_scope.cancel()
            if not exact:
                await anyio.sleep(GATHER)
        return self._find(wants)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled, then says goodbye. Missing ports or multicast degrade it, but do not end it."""
        self._outbox = outbox = Outbox(self._speaker, self._options)
        try:
            async with anyio.create_task_group() as tasks:
                self._refresh(outbox, tasks)
                await outbox.resolve_peers()
                if outbox.degraded:
                    log.warning("lan.degraded", reason=outbox.degraded)
                log.info("lan.started", port=self._options.port, interfaces=outbox.interface_names)
                await self._ask(outbox, ())
                self._due = anyio.current_time()
                task_status.started()
                await self._announce_forever(outbox, tasks)
        finally:
            self._outbox = None
            if self._said_something:
                self._said_something = False
                outbox.send_now(self._speaker.goodbye())
            outbox.close()

    # Sending

    async def _announce_forever(self, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            self._kick = anyio.Event()
            wait = min(self._due - anyio.current_time(), REFRESH)
            with anyio.move_on_after(max(0.0, wait)):
                await self._kick.wait()
            if self._refresh(outbox, tasks):
                self._announce_by(DEBOUNCE)
            self._index.expire(anyio.current_time())
            if anyio.current_time() >= self._due:
                spread = 1.0 + random.uniform(-self._options.jitter, self._options.jitter)
                self._due = anyio.current_time() + self._options.interval * spread
                await self._announce(outbox)

    async def _announce(self, outbox: Outbox) -> None:
        await outbox.resolve_peers()
        self._last_round = anyio.current_time()
        if not self._models and not self._said_something:
            return  # nobody needs to hear that we have nothing, unless we had something before
        self._said_something = bool(self._models)
        self._speaker.port = self._bt_port()
        for packet in self._speaker.announcement(self._models):
            await outbox.send(packet)
        await self._ask(outbox, (), multicast=False)  # models of `lan.peers` reach us only as answers

    async def _ask_repeatedly(self, outbox: Outbox, wants: Sequence[Want]) -> None:
        while True:
            await self._ask(outbox, wants)
            await anyio.sleep(ASK_AGAIN)

    async def _ask(self, outbox: Outbox, wants: Sequence[Want], *, multicast: bool = True) -> None:
        nonce = self._inbox.new_nonce(anyio.current_time())
        if multicast:
            await outbox.send(self._speaker.query(wants, nonce), to_peers=False)
        if outbox.has_peers:
            await outbox.send(self._speaker.query(wants, nonce, padded=True), multicast=False)

    # Receiving

    async def _listen(self, sock: socket.socket, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            await anyio.wait_readable(sock)
            for _ in range(READS_PER_TURN):
                try:
                    datagram, address = sock.recvfrom(65_535)
                except BlockingIOError:
                    break
                except OSError as error:  # an ICMP answer to an earlier send; the socket itself is fine
                    log.debug("lan.receive_failed", error=str(error))
                    break
                self._take(datagram, _source(address), outbox, tasks)
            await anyio.lowlevel.checkpoint()

    def _take(self, datagram: bytes, source: tuple[str, int], outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        now = anyio.current_time()
        outcome = self._inbox.receive(datagram, *source, now=now, wall=time.time())
        if isinstance(outcome, Question):
            self._consider(outcome, now, outbox, tasks)
        elif isinstance(outcome, Stale) and now - self._probed.get(outcome.node, float("-inf")) > PROBE_GAP:
            self._probed[outcome.node] = now
            self._probed.move_to_end(outcome.node)
            if len(self._probed) > 256:  # nodes with wrong clocks; the oldest may be asked again sooner
                self._probed.popitem(last=False)
            tasks.start_soon(self._ask, outbox, (Want(WantKind.NODE, outcome.node),))

    def _consider(self, question: Question, now: float, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        """Plans an answer if we have one."""
        wants = question.packet.wants
        alive = any(w.kind == WantKind.NODE and w.value == self._speaker.node_id for w in wants)
        fitting = [m for m in self._models if alive or not wants or any(model_fits(w, m) for w in wants)]
        if not wants and question.reply_to is None:
            if self._models:
                self._announce_by(max(random.uniform(0, ANSWER_DELAY), self._last_round + MIN_ROUND_GAP - now))
        elif (fitting or alive) and self._answers < MAX_PENDING_ANSWERS:
            self._answers += 1
            tasks.start_soon(self._answer, outbox, question, fitting, alive, now)

    async def _answer(self, outbox: Outbox, question: Question, models: list[Model], alive: bool, asked: float) -> None:
        try:
            if question.reply_to is None and not alive:
                await anyio.sleep(random.uniform(0, ANSWER_DELAY))
                models = [m for m in models if self._index.holders_since(m.sha256, asked) < ENOUGH_ANSWERS]
                if not models:
                    return
            self._speaker.port = self._bt_port()
            limit = MAX_PACKET if question.reply_to is None else question.limit
            packets = self._speaker.answer(models, question.packet.nonce, limit)
            if question.reply_to is None:
                for packet in packets[:MAX_ANSWER_PACKETS]:
                    await outbox.send(packet, to_peers=False)
            else:
                await outbox.reply(packets[0], question.reply_to, limit)
        finally:
            self._answers -= 1

    # State

    def _on_change(self) -> None:
        self.changes.set(self.changes.value + 1)

    def _find(self, wants: Sequence[Want]) -> list[LanEntry]:
        return self._index.entries(anyio.current_time(), wants)

    def _announce_by(self, delay: float) -> None:
        if self._outbox is not None:
            self._due = min(self._due, anyio.current_time() + delay)
            self._kick.set()

    def _refresh(self, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> bool:
        """Looks at the interfaces again, and listens where that was not possible before; True if something changed."""
        changed, fresh = outbox.refresh()
        for sock in fresh:
            tasks.start_soon(self._listen, sock, outbox, tasks)
        return changed


def _source(address: tuple[object, ...]) -> tuple[str, int]:
    """(host, port) of what `recvfrom` tells; IPv6 link-local hosts with their scope, as `sendto` needs it."""
    host, port = str(address[0]), int(str(address[1]))
    if len(address) == 4 and address[3] and "%" not in host:
        host = f"{host}%{address[3]}"
    return host, port
