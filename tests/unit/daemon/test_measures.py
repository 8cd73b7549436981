"""What /metrics tells of a daemon: declared once, named as Prometheus' own linter wants it, read by both of its parsers."""

from __future__ import annotations

import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from hali.api.metrics import Measure, Metrics
from hali.cli.reference_metrics import Told, told
from hali.daemon.measures import _engines, _jobs, _lan, _outbox, _transfers, catalogue
from hali.engine.entry import EngineStatus
from hali.engine.options import EngineStats
from hali.hashing import HASHED, PieceHasher, hash_file, hash_piece
from hali.model.sources import PieceSource, SourceKind
from hali.share.tally import Tally
from hali.transfer.lan import Traffic

UNITS = ("seconds", "bytes", "tokens", "info", "ratio")
ABBREVIATED = re.compile(r"_(s|ms|us|ns|sec|secs|kb|mb|gb|kib|mib|gib|kbps|percent|minutes|hours|days)(_|$)")


def wrong_with(family: Told) -> list[str]:
    """What `promtool check metrics` would say, and what hali asks beyond it."""
    name, kind = family.name, family.kind
    found = [] if family.about.endswith(".") else ["help is no sentence"]
    found += [] if re.fullmatch(r"[a-z][a-z0-9_]*", name) else ["not snake case"]
    found += [] if (kind == "counter") == name.endswith("_total") else ["only counters end with _total"]
    found += ["unit is abbreviated or no base unit"] if ABBREVIATED.search(name) else []
    found += ["its type is in its name"] if re.search(r"_(gauge|counter|histogram|summary)(_|$)", name) else []
    found += ["a histogram tells its unit"] if kind == "histogram" and not name.endswith(UNITS) else []
    found += ["reserved suffix"] if kind != "counter" and name.endswith(("_count", "_sum", "_bucket")) else []
    found += ["not ours"] if not name.startswith(("hali_", "process_")) else []
    return found


@pytest.mark.parametrize("family", told(), ids=lambda family: family.name)
def test_every_name_and_help_is_as_the_linter_of_prometheus_wants_it(family: Told) -> None:
    assert wrong_with(family) == []


def test_the_linter_of_this_test_sees_what_is_wrong() -> None:
    bad = [
        Told("hali_wait_ms", "gauge", (), "x."),
        Told("hali_jobs", "counter", (), "x."),
        Told("hali_x_total", "gauge", (), "x."),
        Told("hali_X", "gauge", (), "x."),
        Told("hali_x", "gauge", (), ""),
        Told("hali_wait", "histogram", (), "x."),
    ]
    assert all(wrong_with(family) for family in bad)


def test_no_name_is_told_twice() -> None:
    names = [family.name for family in told()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("as_openmetrics", "reader"), [(True, parse_openmetrics), (False, parse)])
def test_both_parsers_of_prometheus_read_what_is_told(as_openmetrics: bool, reader) -> None:
    text, media_type = Metrics().text(catalogue(), as_openmetrics=as_openmetrics)
    assert ("openmetrics" in media_type) == as_openmetrics
    families = {family.name: family for family in reader(text.decode())}
    assert len(families) == len(told())
    assert all(family.documentation for family in families.values())


def values(measures, name: str) -> dict:
    """Of one measure."""
    (found,) = [measure for measure in measures if measure.name == name]
    return dict(found.value)


def test_each_engine_tells_its_cache_and_its_hits() -> None:
    stats = EngineStats(kv_used=10, kv_total=40, cache_hits=3, cache_hit_tokens=96, rss_bytes=None)
    engine = EngineStatus("a@1", "/a", "ready", 1.0, 0, None, None, stats)
    found = list(_engines([engine]))
    assert values(found, "hali_engine_kv_used_tokens") == {"a@1": 10}
    assert values(found, "hali_engine_prefix_hits") == {"a@1": 3}
    assert values(found, "hali_engine_prefix_hit_tokens") == {"a@1": 96}
    assert values(found, "hali_engine_memory_bytes") == {}  # what nobody measured is not 0


def test_jobs_are_counted_by_kind_and_state_and_how_they_ended() -> None:
    found = list(_jobs([("pull", "queued"), ("pull", "queued"), ("add", "hashing")], {("pull", "failed"): 2}))
    assert values(found, "hali_jobs") == {("pull", "queued"): 2, ("add", "hashing"): 1}
    text, _ = Metrics().text(found)
    assert b'hali_jobs_ended_total{kind="pull",outcome="failed"} 2.0' in text
    assert b'hali_jobs_ended_total{kind="pull",outcome="finished"} 0.0' in text, (
        "a share can be told before the first success"
    )


def test_bytes_are_told_by_who_brought_them_and_pieces_by_verdict() -> None:
    tally = Tally()
    tally.came(100, PieceSource(SourceKind.HTTP))
    tally.came(3 * 16384, PieceSource(SourceKind.SWARM, 1))
    tally.wrong()
    found = list(_transfers(tally))
    assert values(found, "hali_received_bytes") == {"http": 100, "webseed": 0, "lan": 16384, "torrent": 2 * 16384}
    assert values(found, "hali_pieces") == {"verified": 2, "failed": 1}


def test_dropped_packets_are_told_by_reason() -> None:
    lan = Traffic(9, 4, 1, {}, {}, {"replayed": 2, "hmac": 1}, 0, 0, 0, 0, None)
    assert values(_lan(lan), "hali_lan_packets_dropped") == {"replayed": 2, "hmac": 1}
    assert values(_lan(lan), "hali_lan_packets") == {"received": 9, "sent": 4}


def test_an_outbox_tells_zero_of_what_it_does_not_hold() -> None:
    assert values(_outbox({"waiting": 3}), "hali_registry_outbox_messages") == {"waiting": 3, "refused": 0}


def test_what_is_hashed_is_counted_once_whichever_way_it_comes(tmp_path) -> None:
    data = bytes(range(256)) * 100
    (tmp_path / "file").write_bytes(data)
    ways = [
        lambda: hash_file(tmp_path / "file"),
        lambda: hash_file(tmp_path / "file", known=PieceHasher(len(data))),
        lambda: PieceHasher(len(data)).add_piece(0, data),
        lambda: PieceHasher(len(data)).hash_piece_at(tmp_path / "file", 0),
        lambda: hash_piece(data, 0, len(data)),
    ]
    for way in ways:
        before = HASHED.bytes
        way()
        assert HASHED.bytes - before == len(data)


def test_a_measure_may_have_no_one_or_several_labels() -> None:
    measures = [
        Measure("hali_a", "A.", {None: 1}),
        Measure("hali_b", "B.", {"x": 2}, label="one"),
        Measure("hali_c", "C.", {("x", 'y"\n'): 3}, label=("one", "two")),
    ]
    text = Metrics().text(measures)[0].decode()
    assert "\nhali_a 1.0\n" in text and '\nhali_b{one="x"} 2.0\n' in text
    assert '\nhali_c{one="x",two="y\\"\\n"} 3.0\n' in text
