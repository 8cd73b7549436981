"""LAN presence: tells the neighbours what we have, remembers what they have, asks and answers.

Announcements go out at once at the start and on every change, then every 30 s ± 20 %; of a long catalogue only the news
is told at once. A query is answered within 250 ms by those who have what it names; once three have answered the rest
stay silent. Answers are multicast, so that everybody learns from them and all daemons of a machine hear them; only a
query that came by unicast (from another subnet, `lan.peers`) is answered by unicast.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterable, Sequence

import anyio
import anyio.abc
import msgspec

from hali.runtime.channels import Watch
from hali.runtime.log import get_logger
from hali.transfer.lan_answers import Answers
from hali.transfer.lan_catalogue import Catalogue
from hali.transfer.lan_inbox import Inbox, Page, Question, Stale, Us
from hali.transfer.lan_index import LanIndex
from hali.transfer.lan_match import wants_for
from hali.transfer.lan_net import receive
from hali.transfer.lan_outbox import LanOptions, Outbox
from hali.transfer.lan_packets import LanModel, Signer, Speaker, to_wire
from hali.transfer.lan_view import LanEntry
from hali.wire.lan import Want, WantKind

__all__ = ["LanAnnouncer", "LanEntry", "LanModel", "LanOptions", "Signer", "Traffic"]

log = get_logger(__name__)

DEBOUNCE = 0.05  # several models set within this time go out as one announcement
GATHER = 0.12  # after the first hit for a text, others with the same text may follow
ASK_AGAIN = 0.3  # a lost query or answer costs this much, not the whole pull
LOOK_GAP = 0.02  # between looks at the index while a query waits: looking at a full one takes 10 ms
LISTENED = 1.0  # after this, what the question of the start brought is there: nodes answer within 250 ms
REFRESH = 2.0  # how soon a new interface (Wi-Fi joined, cable plugged) is noticed; a look takes a millisecond
READS_PER_TURN = 64  # datagrams before other tasks get their turn


class Traffic(msgspec.Struct, frozen=True):
    """What went over the LAN since the service began, and what is remembered of it."""

    packets_in: int  # every datagram
    packets_out: int
    send_failed: int
    accepted: dict[str, int]  # by kind of packet
    ignored: dict[str, int]  # our own multicast, copies over another interface
    dropped: dict[str, int]  # by reason, see `lan_inbox`
    nodes: int
    models: int
    evicted_nodes: int  # that gave way to others
    refused_models: int  # for which there was no place
    degraded: str | None


class LanAnnouncer:
    """The service. `set_models`, `entries` and `traffic` may be called at any time, `query` while it runs."""

    def __init__(self, signer: Signer, options: LanOptions, bt_port: Callable[[], int]) -> None:
        self.changes: Watch[int] = Watch(0)  # a number that grows whenever `entries` may answer differently
        self._options = options
        self._bt_port = bt_port
        self._speaker = Speaker(signer, options.secret)
        self._index = LanIndex(self._on_change)
        us = Us(self._speaker.node_id, self._speaker.session, self._speaker.epoch)
        self._inbox = Inbox(self._index, us, options.secret, v1=options.v1)
        self._answers = Answers(self._speaker, self._index, self._nonce, self._announce_by)
        self._catalogue = Catalogue()
        self._outbox: Outbox | None = None  # while it runs
        self._asked_all = float("inf")  # when we last asked everybody for everything
        self._due = 0.0  # of the next complete announcement
        self._news_due = float("inf")
        self._kick = anyio.Event()

    @property
    def node_id(self) -> str:
        """Our node id, hex."""
        return self._speaker.node_id.hex()

    @property
    def traffic(self) -> Traffic:
        """The counters of now."""
        inbox, outbox = self._inbox, self._outbox
        taken = inbox.accepted.total() + inbox.ignored.total() + inbox.drops.total()
        return Traffic(
            packets_in=taken,
            packets_out=outbox.sent if outbox else 0,
            send_failed=outbox.failed if outbox else 0,
            accepted=dict(inbox.accepted),
            ignored=dict(inbox.ignored),
            dropped=dict(inbox.drops),
            nodes=len(self._index),
            models=self._index.models,
            evicted_nodes=self._index.evicted,
            refused_models=self._index.refused,
            degraded=outbox.degraded if outbox else None,
        )

    def set_models(self, models: Iterable[LanModel]) -> None:
        """What we have from now on; announced within 50 ms. ValueError for a model without SHA-256 or v2 infohash."""
        self._catalogue.set(to_wire(models))
        if self._catalogue.is_new and self._outbox is not None:
            self._news_due = min(self._news_due, anyio.current_time() + DEBOUNCE)
            self._kick.set()

    def entries(self) -> list[LanEntry]:
        """What the neighbours have, by model id."""
        return self._index.entries(anyio.current_time())

    def nodes(self) -> frozenset[str]:
        """The neighbours that have something, by node id."""
        return self._index.offering()

    @property
    def alone(self) -> bool:
        """Whether nobody has anything, as far as those tell who were asked. Unknown, thus False, at first."""
        return anyio.current_time() - self._asked_all >= LISTENED and not self._index.offering()

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
                    await anyio.sleep(LOOK_GAP)
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
                if outbox.degraded:
                    log.warning("lan.degraded", reason=outbox.degraded)
                log.info("lan.started", port=self._options.port, interfaces=outbox.interface_names)
                tasks.start_soon(self._resolve_peers, outbox)
                await self._ask_all(outbox)
                self._due = anyio.current_time()
                task_status.started()
                await self._announce_forever(outbox, tasks)
        finally:
            self._outbox = None
            if self._catalogue.says_something:
                outbox.send_now(self._speaker.goodbye())
            outbox.close()

    # Sending

    async def _announce_forever(self, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            self._kick = anyio.Event()
            wait = min(self._due - anyio.current_time(), self._news_due - anyio.current_time(), REFRESH)
            with anyio.move_on_after(max(0.0, wait)):
                await self._kick.wait()
            if self._refresh(outbox, tasks):
                self._announce_by(DEBOUNCE)
                await self._ask_all(outbox)  # there may be others, who heard of nothing new
            self._index.expire(anyio.current_time())
            if anyio.current_time() >= self._news_due and self._catalogue.needs_round:
                self._due = anyio.current_time()
            if anyio.current_time() >= self._due:
                spread = 1.0 + random.uniform(-self._options.jitter, self._options.jitter)
                self._due = anyio.current_time() + self._options.interval * spread
                await self._announce(outbox)
            await self._tell_news(outbox)

    async def _announce(self, outbox: Outbox) -> None:
        self._answers.announcing()
        said_something = self._catalogue.says_something
        models, self._news_due = self._catalogue.take_all(), float("inf")
        if models or said_something:  # nobody needs to hear that we have nothing, unless we had something before
            self._speaker.port = self._bt_port()
            for packet in self._speaker.announcement(models):
                await outbox.send(self._catalogue.still(packet), bulk=True)
                await self._tell_news(outbox)
        await self._ask(outbox, (), multicast=False)  # models of `lan.peers` reach us only as answers

    async def _tell_news(self, outbox: Outbox) -> None:
        if anyio.current_time() >= self._news_due:
            self._news_due = float("inf")
            news = self._catalogue.take_news()
            for packet in self._speaker.changes(news) if news else ():
                await outbox.send(packet)

    async def _ask_repeatedly(self, outbox: Outbox, wants: Sequence[Want]) -> None:
        while True:
            await self._ask(outbox, wants)
            await anyio.sleep(ASK_AGAIN)

    async def _ask_all(self, outbox: Outbox) -> None:
        await self._ask(outbox, ())
        self._asked_all = anyio.current_time()

    async def _ask(self, outbox: Outbox, wants: Sequence[Want], *, multicast: bool = True) -> None:
        if multicast or outbox.has_peers:
            await outbox.send(self._speaker.query(wants, self._nonce()), multicast=multicast)

    def _nonce(self) -> bytes:
        return self._inbox.new_nonce(anyio.current_time())

    async def _resolve_peers(self, outbox: Outbox) -> None:
        """Names may be slow to resolve, and mean another address tomorrow."""
        while self._options.peers:
            if await outbox.resolve_peers():
                self._inbox.reach = outbox.reach
                self._announce_by(0.0)
            await anyio.sleep(self._options.interval)

    # Receiving

    async def _listen(self, sock: socket.socket, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            await anyio.wait_readable(sock)
            for _ in range(READS_PER_TURN):
                try:
                    self._take(sock, outbox, tasks)
                except BlockingIOError:
                    break
                except OSError as error:  # an ICMP answer to an earlier send; the socket itself is fine
                    log.debug("lan.receive_failed", error=str(error))
                    break
            await anyio.lowlevel.checkpoint()

    def _take(self, sock: socket.socket, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        came, now, inbox = receive(sock), anyio.current_time(), self._inbox
        unicast = inbox.reach.is_mine(came.sent_to)
        found = inbox.receive(came.datagram, came.host, came.port, now=now, wall=time.time(), unicast=unicast)
        if isinstance(found, Question):
            self._speaker.port = self._bt_port()
            self._answers.question(found, self._catalogue.models, outbox, tasks)
        elif isinstance(found, Stale):
            self._answers.stale(found, outbox, tasks)
        elif isinstance(found, Page):
            self._answers.page(found, outbox, tasks)

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
        if changed:
            self._inbox.reach = outbox.reach
        for sock in fresh:
            tasks.start_soon(self._listen, sock, outbox, tasks)
        return changed
