"""What we answer to verified questions: never with more bytes than the question had, and by multicast only to the link.

A question without wants brings the next complete announcement forward, in the long run at most once in 10 s however many
ask: together they make us say at most four times what we say anyway. By unicast it is answered page by page.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import anyio
import anyio.abc
import msgspec

from hali.transfer.lan_inbox import Page, Question, Stale
from hali.transfer.lan_index import LanIndex
from hali.transfer.lan_match import matcher
from hali.transfer.lan_outbox import Outbox
from hali.transfer.lan_packets import Speaker
from hali.wire.lan import MAX_PACKET, Flag, Model, Packet, WantKind

ANSWER_DELAY = 0.1  # answers are spread over this; with the pace still inside the promised 250 ms
ENOUGH_ANSWERS = 3  # a downloader learns of more peers from the swarm itself
MAX_PENDING = 32
MAX_PROBING = 8  # signs of life waiting for their turn; the node will speak again
ROUND_GAP = 1.0  # between announcements on request: those who start together are served together
ROUND_EVERY, ROUND_BURST = 10.0, 10.0  # seconds for one of them in the long run, and how many may come sooner
PROBE_GAP = 5.0  # between signs of life asked of one node
MAX_PROBED = 256  # nodes with wrong clocks; beyond it the oldest may be asked again sooner
MAX_PAGES = 700  # of one neighbour's catalogue; some 4,900 models, more than the index takes of one node


class Answers:
    """Acts on what the inbox hands out. `announce_by(delay)` brings the next complete announcement forward."""

    def __init__(
        self, speaker: Speaker, index: LanIndex, nonce: Callable[[], bytes], announce_by: Callable[[float], None]
    ) -> None:
        self._speaker, self._index, self._nonce, self._announce_by = speaker, index, nonce, announce_by
        self._pending = 0
        self._rounds, self._rounds_at = ROUND_BURST, 0.0
        self._promised = float("-inf")  # when the last announcement on request was or is due
        self._probed: dict[bytes, float] = {}
        self._probing = 0
        self._paging: set[str] = set()

    def question(self, asked: Question, models: Sequence[Model], outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        """Plans an answer if we have one."""
        wants, now = asked.packet.wants, anyio.current_time()
        alive = any(w.kind == WantKind.NODE and w.value == self._speaker.node_id for w in wants)
        if alive or (not wants and asked.reply_to is None):
            if models:
                self._bring_forward(now)
            if not alive:
                return
        fits = matcher(wants)
        fitting = [m for m in models if not wants or fits(m.id, m.sha256, m.v2, m.v1)]
        if (fitting or alive) and self._pending < MAX_PENDING:
            self._pending += 1
            tasks.start_soon(self._answer, outbox, asked, fitting, alive, now)

    def announcing(self) -> None:
        """A complete announcement begins now, perhaps before its time; who asks from now on needs another one."""
        self._promised = min(self._promised, anyio.current_time())

    def stale(self, found: Stale, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        """Asks a node that is not believed for a sign of life."""
        now = anyio.current_time()
        if self._probing >= MAX_PROBING or now - self._probed.get(found.node, float("-inf")) <= PROBE_GAP:
            return
        self._probed.pop(found.node, None)
        self._probed[found.node] = now
        if len(self._probed) > MAX_PROBED:
            del self._probed[next(iter(self._probed))]
        self._probing += 1
        tasks.start_soon(self._probe, found, outbox)

    def page(self, first: Page, outbox: Outbox, tasks: anyio.abc.TaskGroup) -> None:
        """Asks for the rest of a catalogue of which one page came."""
        host, _ = first.source
        if host not in self._paging and outbox.is_peer(host):
            self._paging.add(host)
            tasks.start_soon(self._turn_pages, first, outbox)

    def _bring_forward(self, now: float) -> None:
        if now < self._promised:
            return  # that one will serve this question too
        self._rounds = min(ROUND_BURST, self._rounds + (now - self._rounds_at) / ROUND_EVERY)
        self._rounds_at = now
        allowed = max(self._promised + ROUND_GAP, now + (1.0 - self._rounds) * ROUND_EVERY)
        self._rounds -= 1.0
        self._promised = max(allowed, now + random.uniform(0, ANSWER_DELAY))
        self._announce_by(self._promised - now)

    async def _probe(self, found: Stale, outbox: Outbox) -> None:
        try:
            probe = self._speaker.probe(found.node, self._nonce())
            if found.reply_to is None:
                await outbox.send_lean(probe, found.limit, bulk=True)
            else:
                await outbox.answer(probe, found.reply_to, found.limit, bulk=True)
        finally:
            self._probing -= 1

    async def _answer(self, outbox: Outbox, asked: Question, models: list[Model], alive: bool, since: float) -> None:
        try:
            if alive and asked.reply_to is None:
                await outbox.send_lean(self._speaker.sign_of_life(asked.packet.nonce), asked.limit)
            elif alive:
                await outbox.answer(self._speaker.sign_of_life(asked.packet.nonce), asked.reply_to, asked.limit)
            elif asked.reply_to is not None:
                packet = self._page(models, asked)
                await outbox.answer(packet, asked.reply_to, asked.limit, bulk=packet.part > 0)
            else:
                await anyio.sleep(random.uniform(0, ANSWER_DELAY))
                models = [m for m in models if not self._is_answered(m, since)]
                if models:  # who asks for "a" does not get the catalogue
                    packet, *_ = self._speaker.answer(models, asked.packet.nonce, asked.limit)
                    await outbox.answer(packet, None, asked.limit)
        finally:
            self._pending -= 1

    def _is_answered(self, model: Model, since: float) -> bool:
        """Whether enough others have said that they have it: who asks cannot begin with parts only."""
        complete = bool(model.flags & Flag.COMPLETE)
        return self._index.holders_since(model.sha256, since, complete=complete) >= ENOUGH_ANSWERS

    def _page(self, models: list[Model], asked: Question) -> Packet:
        pages = self._speaker.answer(models, asked.packet.nonce, asked.limit)
        if asked.packet.wants:
            return pages[0]
        number = min(asked.packet.part, len(pages) - 1)
        return msgspec.structs.replace(pages[number], part=number, pages=len(pages))

    async def _turn_pages(self, first: Page, outbox: Outbox) -> None:
        try:
            for number in range(1, min(first.pages, MAX_PAGES)):
                query = self._speaker.query((), self._nonce(), page=number)
                await outbox.answer(query, first.source, MAX_PACKET, bulk=True)
        finally:
            self._paging.discard(first.source[0])
