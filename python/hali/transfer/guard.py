"""Carries out the defence against hostile peers for one fetch: asks `rescue.py` and tells libtorrent."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import anyio
import anyio.to_thread
import libtorrent as lt
import msgspec

from hali.model.piecemap import PieceMap
from hali.model.units import BLOCK, piece_count
from hali.runtime.log import get_logger
from hali.transfer.auditing import Audit
from hali.transfer.evidence import Evidence
from hali.transfer.host import Host, RunningFetch
from hali.transfer.lan_interfaces import Reach, interfaces
from hali.transfer.magnet import Peer
from hali.transfer.metainfo import Metainfo
from hali.transfer.rescue import Bars, Defence, Holder
from hali.transfer.stripes import ANYTHING, Orders, levels
from hali.transfer.window import FIRST, NEVER, Priorities, Window

log = get_logger(__name__)

UNDO_S = 1.0  # after a ban (and the last undoing): the proof may follow it at once. An undoing takes 0.7 s; the honest may miss 5
RETURN_S = 2.0  # for a peer to be back at the one of its addresses that we kept: it is dialled again after one
ENOUGH = 4  # peers found honest, after which no more are asked: each costs 3 MiB


class Guard:
    """Watches the peers of one fetch. `caught` gets each address that is shut out for good, `welcome` those that are let in again.

    `read` gives the bytes of a piece as they are in the file; it may block.
    """

    def __init__(
        self,
        host: Host,
        fetch: RunningFetch,
        trusted: Iterable[str],
        *,
        patient: bool,
        caught: Callable[[str], None],
        welcome: Callable[[frozenset[str]], None],
        read: Callable[[int], bytes],
    ) -> None:
        self._host, self._fetch, self.patient = host, fetch, patient
        self._caught, self._welcome = caught, welcome
        self.evidence = Evidence(trusted)
        self.defence = Defence(self.evidence)
        self.window: Window | None = None  # before the metadata is known
        self._torrent: Metainfo | None = None
        self._map: PieceMap | None = None
        self._handle: lt.torrent_handle | None = None
        self._counting = False
        self._bars = Bars()
        self._disgraced: dict[str, float] = {}  # and when
        self._ids: dict[str, bytes] = {}  # who was last at a trusted address: a peer id
        self._doubles: set[str] = set()  # trusted addresses that would only double a connection
        self._gone: dict[bytes, float] = {}  # trusted peers (ids) that have left altogether, and when
        self._orders = ANYTHING
        self._started = float("-inf")
        self._asking = False
        self._audit = Audit(host, self._audited, self._judged, read)
        self._vouched = 0
        self._holding = False
        self._expects = False  # who was there and known to be honest when the torrent was removed: he suffices
        self._purge = False  # blocks of strangers lie in unfinished pieces, and others suffice from now on

    # ---- the torrent

    def begin(self, torrent: Metainfo, have: Collection[int], now: float) -> None:
        """The torrent is known; `have` is kept up to date by the owner."""
        self._torrent, self._map = torrent, torrent.map
        self.window = Window(torrent.pieces, have)
        self.defence.begin(torrent.length, torrent.piece_length, now)
        if self._handle is not None:  # peers that came before are asked for no more than they may be
            self._act(now)

    def attach(self, handle: lt.torrent_handle, now: float) -> None:
        """`handle` was added and has not started yet."""
        self._handle, self._started = handle, now
        self.defence.started(now)
        self._disgraced.clear()
        self._doubles.clear()
        self._gone.clear()
        if self._purge:
            self._purge = False
            self.defence.audit_ends(now)
        if self._expects:
            self.defence.expect(now)
        self.evidence.torrent_is_new()
        self._orders = ANYTHING
        if self.window is not None:
            self._prioritise(self.window.restart())
        self._act(now)

    def detach(self) -> None:
        """The torrent is about to be removed."""
        self._handle = None
        self._expects = self.defence.is_lean

    def close(self) -> None:
        """The fetch is over: nobody is asked or barred for its sake any more."""
        self._audit.close()
        self._hold(False)
        self._host.blame(self._fetch, None)

    def leave_out(self, pieces: Collection[int]) -> None:
        """Do not ask peers for these: the owner gets them elsewhere."""
        if self.window is not None:
            self._prioritise(self.window.leave_out(pieces))

    def take_back(self, pieces: Collection[int], now: float) -> None:
        """Ask peers for these again."""
        if self.window is not None:
            self._prioritise(self.window.take_back(pieces))
            self._act(now)

    # ---- others that fetch the same

    @property
    def pieces(self) -> int | None:
        """Of the torrent, once it is known."""
        return self._torrent.pieces if self._torrent is not None else None

    @property
    def piece_length(self) -> int:
        """Bytes of a piece, once the torrent is known."""
        return self._torrent.piece_length if self._torrent is not None else 0

    @property
    def wanted(self) -> frozenset[int]:
        """Pieces that peers shall bring."""
        return self.window.wanted if self.window is not None else frozenset()

    @property
    def put_aside(self) -> frozenset[str]:
        """The seeds that are put aside by `arrange`."""
        return self._orders.aside

    @property
    def is_among_nodes(self) -> bool:
        """Whether nodes that are trusted are known, and there is nobody to watch."""
        if self.window is None or self.window.is_limited or self.defence.hostile:
            return False
        return bool(self.evidence.trusted)

    @property
    def has_fellows(self) -> bool:
        """Whether there may be nodes to share the work with: several connections to such as are trusted."""
        if not self.is_among_nodes:
            return False
        connections = sum(self.evidence.connected[host] for host in self.evidence.trusted)
        return connections + len(self._orders.aside) > 1

    def arrange(self, orders: Orders, now: float) -> None:
        """Ask for pieces in this order, and put these seeds aside."""
        if self.window is None or (orders.is_empty and self._orders.is_empty):
            return
        self._orders = orders
        self._prioritise(self.window.arrange(levels(orders, first=FIRST, never=NEVER)))
        self._act(now)

    # ---- what happens

    def met(self, peers: Collection[Peer], now: float) -> None:
        """Somebody named these."""
        for host, _ in peers:
            self.evidence.met(host)
        self._audit.met(peers)
        self._act(now)

    def trust(self, hosts: Collection[str], now: float) -> None:
        """Nodes of the LAN have been found that say who they are."""
        if not self.evidence.trusted.issuperset(hosts):
            self.evidence.trust(hosts)
            self._act(now)

    def arrived(self, peer: Peer, now: float) -> None:
        """A connection exists."""
        host = peer[0]
        self.evidence.arrived(host)
        self._gone.pop(self._ids.get(host, b""), None)
        self.defence.arrived(host, now)
        self._audit.met([peer], guess=True)
        self._act(now)

    def left(self, host: str, caught: bool, now: float, peer_id: bytes = b"") -> None:
        """A connection is gone; `caught`: because libtorrent compared its blocks, `peer_id`: whose it was, if he said so."""
        self.evidence.left(host)
        # Anybody may call himself by our id, to be no stranger: what is ours is an address of this machine.
        if peer_id == self._host.peer_id and Reach(interfaces()).is_mine(host):
            self.evidence.met_ourselves(host)
        elif host in self.evidence.trusted and peer_id.strip(b"\0"):
            self._part(host, peer_id, now)
        if caught and self.evidence.caught(host):
            self._convict(host)
        self._act(now)

    def _part(self, host: str, peer_id: bytes, now: float) -> None:
        """Of two addresses of one peer, put aside the one that was left.

        Of two connections to one peer libtorrent ends the older, if the peer ids fall so, and dials that address again a
        second later, at which it ends the other one, and so on: none would live longer than a second.
        Of trusted peers only: a stranger may call himself anything.
        """
        self._ids[host] = peer_id
        here = self.evidence.connected.keys() & self.evidence.trusted
        if host in here:
            return
        if any(self._ids.get(other) == peer_id for other in here):
            self._doubles.add(host)
        else:
            self._gone[peer_id] = now

    def sent(self, piece: int, host: str, blocks: int, now: float) -> None:
        """Blocks came."""
        self.evidence.sent(piece, host, blocks)
        self.defence.heard(host, now)

    def received(self, now: float) -> None:
        """Bytes came; `sent` tells of blocks once they are written, and libtorrent writes a piece when all of it is there."""
        self.defence.received(now)

    def passed(self, index: int, now: float) -> dict[str, int]:
        """A piece is right; returns who sent how many blocks of it, as far as counted."""
        senders = self.evidence.passed(index, self._blocks(index))
        self.defence.passed(now)
        self._act(now)
        only = len(self.evidence.seen) == 1 and not self._counting
        return dict.fromkeys(self.evidence.seen, self._blocks(index)) if only else senders

    def replaced(self, index: int, now: float) -> None:
        """A piece came from elsewhere, right or wrong: no peer's doing."""
        self.evidence.replaced(index)
        self._act(now)

    def failed(self, index: int, now: float) -> None:
        """A piece is wrong."""
        guilty = self.evidence.failed(index, self._blocks(index))
        self.defence.failed(self._size(index), now)
        if guilty is not None:
            self._convict(guilty)
        wants_audit = self.defence.wants_audit(self._size(index))
        if wants_audit and self._torrent is not None and self._audit.begin(self._torrent, index):
            self.defence.audit(now)
        self._act(now)
        self._nudge(index)

    def contradicted(self) -> None:
        """libtorrent stopped the torrent, see `Fetch._contradicted`."""
        if (guilty := self.evidence.contradicted()) is not None:
            self._convict(guilty)

    def banned(self, host: str, now: float) -> None:
        """libtorrent does not talk to `host` any more."""
        self.evidence.disgraced(host)
        self._disgraced.setdefault(host, now)

    def tick(self, now: float) -> None:
        """Called about twice a second."""
        self.defence.tick(now)
        lost = {peer for peer, then in self._gone.items() if now - then > RETURN_S}
        self._doubles = {host for host in self._doubles if self._ids[host] not in lost}
        self._gone = {peer: then for peer, then in self._gone.items() if peer not in lost}
        if not self._audit.is_asking and not self._purge:
            self.defence.audit_is_idle(now)
        self._act(now)
        if self.defence.hostile:
            self._nudge()
        if self._handle is not None and self.defence.is_held_up(now) and not self._asking:
            self._asking = True
            self._host.spawn(self._time_out_holders)

    def must_restart(self, now: float) -> bool:
        """Whether the torrent has to be added anew: to drop strangers' blocks, as libtorrent is stuck, or has banned without proof."""
        if self._purge:
            return True
        if now - self._started < UNDO_S:
            return False
        if self.defence.is_stuck:
            return True
        if self.defence.is_lean:
            return False
        return any(now - then > UNDO_S for host, then in self._disgraced.items() if host not in self.evidence.guilty)

    @property
    def alone(self) -> bool:
        """Nobody is known but liars: who was found honest may come back."""
        return self.defence.hostile and not self.evidence.present | self.evidence.honest

    # ---- the audit

    def _audited(self, size: int) -> None:
        self._host.audited(size)
        self.defence.audited(size)

    def _judged(self, host: str, right: bool) -> None:
        self.judged(host, right, anyio.current_time())

    def judged(self, host: str, right: bool, now: float) -> None:
        """One peer was asked by ourselves."""
        self._audit.judged(host)
        if self.evidence.audited(host, right):
            self._convict(host)
        if right and host in self.evidence.honest:  # who lied elsewhere may tell the truth here
            self._vouched += 1
            self._go_on_with(host, now)
        if self._vouched >= ENOUGH:
            self._audit.close()
        self._act(now)

    def _go_on_with(self, host: str, now: float) -> None:
        """Somebody is known to be honest: he suffices, if to try others costs too much."""
        self._purge |= self.defence.is_costly and self.defence.is_auditing
        if self._purge:
            self.defence.expect(now)
        elif host in self.evidence.present:
            self.defence.audit_ends(now)

    # ---- effects

    async def _time_out_holders(self) -> None:
        """Find out who holds the pieces, as the binding lacks the alert for it, and make them let go."""
        try:
            handle = self._handle
            peers = await anyio.to_thread.run_sync(handle.get_peer_info) if handle is not None else []
        except RuntimeError:  # the torrent was removed meanwhile
            return
        finally:
            self._asking = False
        now = anyio.current_time()
        self.defence.held_up([Holder(p.ip[0], p.download_queue_length, p.payload_down_speed) for p in peers], now)
        self._act(now)
        self._nudge()

    def _convict(self, host: str) -> None:
        self.defence.convicted(host)
        self._audit.judged(host)
        self._caught(host)

    def _act(self, now: float) -> None:
        bars = self.defence.bars(now, patient=self.patient)
        aside = self._doubles if self.defence.hostile else self._doubles | self._orders.aside
        bars = msgspec.structs.replace(bars, aside=bars.aside | aside)
        # Of one alone everybody knows who sent what, but a proof takes blocks that were counted.
        counting = self._counting or len(self.evidence.seen) > 1 or self.defence.hostile
        back = self._bars.aside - bars.aside - bars.guilty
        if bars != self._bars or counting != self._counting:
            self._bars, self._counting = bars, counting
            self._host.blame(self._fetch, bars)
        if back:
            self._welcome(back)
        limit = self.defence.window()
        if self.window is not None:
            self._hold(limit == 0)
            apart = self.defence.tries_others(now, patient=self.patient)
            self._prioritise(self.window.resize(limit, self.evidence.touched, self._short_piece(), apart=apart))

    def _hold(self, on: bool) -> None:
        """Who asks for nothing would lose the peers that only give."""
        if on != self._holding:
            self._holding = on
            self._host.hold(self, on)

    def _nudge(self, failed: int | None = None) -> None:
        if self.window is not None:
            for changes in self.window.nudge(self.evidence.touched, failed):
                self._prioritise(changes)

    def _prioritise(self, changes: Priorities) -> None:
        if changes and self._handle is not None:
            self._handle.prioritize_pieces(list(changes.items()))

    # ---- pieces

    def _size(self, index: int) -> int:
        """Bytes of files in it; nobody sends the padding between files."""
        return 0 if self._map is None else self._map.size(index)

    def _blocks(self, index: int) -> int:
        return piece_count(self._size(index), BLOCK)

    def _short_piece(self) -> int | None:
        """The last piece, to try strangers with, if that costs much less than another."""
        if self._torrent is None or not self.defence.cautious:
            return None
        last = self._torrent.pieces - 1
        return last if self._size(last) <= self._torrent.piece_length // 2 else None
