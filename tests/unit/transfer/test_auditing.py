"""Who is asked, how often, and how peers of which torrent are judged."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest

from hali.model.units import KIB, MIB
from hali.transfer.auditing import MOST, PORTS, Audit, Trial, trial_for
from hali.transfer.leaf_trial import LeafTrial
from hali.transfer.metainfo import Metainfo, parse
from hali.transfer.version_trial import VersionTrial
from tests.fakes.torrents import make, torrent_of

pytestmark = pytest.mark.anyio

HYBRID, V1 = 0, lt.create_torrent.v1_only


class Waiting:
    """In place of a session: takes the questions and asks none."""

    def __init__(self) -> None:
        self.spawned: list[Any] = []

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.spawned.append(work)

    @property
    def asked(self) -> list[tuple[str, int]]:
        return [work.args[1] for work in self.spawned]


@pytest.fixture
def torrent(tmp_path: Path) -> Metainfo:
    return make(tmp_path, 4 * MIB, MIB).metainfo


def audit_of(host: Waiting) -> Audit:
    return Audit(host, lambda _: None, lambda *_: None, lambda _: b"")  # type: ignore[arg-type]


async def test_each_peer_is_asked_once_and_only_once_there_is_a_trial(torrent: Metainfo) -> None:
    host = Waiting()
    audit = audit_of(host)
    audit.met([("10.0.0.1", 6881)])
    assert not host.asked
    assert audit.begin(torrent, 0)
    audit.met([("10.0.0.1", 6881), ("10.0.0.2", 6881)])
    assert audit.begin(torrent, 1)
    assert host.asked == [("10.0.0.1", 6881), ("10.0.0.2", 6881)]
    assert audit.is_asking


async def test_who_was_judged_is_not_asked_again_at_another_port(torrent: Metainfo) -> None:
    host = Waiting()
    audit = audit_of(host)
    audit.judged("10.0.0.1")
    audit.begin(torrent, 0)
    audit.met([("10.0.0.1", 6882)])
    assert not host.asked


async def test_of_guessed_ports_a_few_are_tried_and_of_ports_of_the_system_none(torrent: Metainfo) -> None:
    host = Waiting()
    audit = audit_of(host)
    audit.begin(torrent, 0)
    audit.met([("10.0.0.1", 40_000 + i) for i in range(9)], guess=True)
    audit.met([("10.0.0.2", 80)])
    assert len(host.asked) == PORTS
    audit.met([("10.0.0.1", 6881)])  # a named one is always tried
    assert host.asked[-1] == ("10.0.0.1", 6881)


async def test_a_flood_of_addresses_is_forgotten(torrent: Metainfo) -> None:
    host = Waiting()
    audit = audit_of(host)
    audit.begin(torrent, 0)
    audit.met([("10.0.0.1", 1024 + i) for i in range(MOST + 9)])
    assert len(host.asked) == MOST


async def test_nobody_is_asked_after_the_end(torrent: Metainfo) -> None:
    host = Waiting()
    audit = audit_of(host)
    audit.begin(torrent, 0)
    audit.close()
    audit.met([("10.0.0.1", 6881)])
    assert not host.asked


def trial_of(torrent: Metainfo) -> Trial | None:
    return trial_for(torrent, 0, lambda _: None, lambda *_: None, lambda _: b"")


def test_peers_are_judged_by_leaves_where_there_are_any_and_by_versions_in_a_v1_torrent_of_one_file(
    tmp_path: Path,
) -> None:
    assert type(trial_of(make(tmp_path / "one", 300 * KIB, 64 * KIB, HYBRID).metainfo)) is LeafTrial
    assert type(trial_of(make(tmp_path / "one", 300 * KIB, 64 * KIB, V1).metainfo)) is VersionTrial
    make(tmp_path / "two", 300 * KIB, 64 * KIB)
    make(tmp_path / "two", 300 * KIB, 64 * KIB, name="b.gguf")
    assert trial_of(parse(torrent_of(tmp_path / "two", 64 * KIB, V1))) is None
