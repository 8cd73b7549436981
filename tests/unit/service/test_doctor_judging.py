"""What `hali doctor` makes of what it sees: judgements without looking."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hali._version import __version__
from hali.config.last_exit import LastExit
from hali.config.paths import Paths
from hali.service.doctor import extensions
from hali.service.doctor.configured import permissions
from hali.service.doctor.context import Context, Daemon
from hali.service.doctor.daemon import address, judge_crashes, judge_unit, services
from hali.service.doctor.finding import Finding
from hali.service.doctor.lan import judge_multicast, judge_secret
from hali.service.doctor.machine import Disk, Moment, judge_clock, judge_disk
from hali.service.doctor.ports import Found, Wanted, judge, wanted_ports
from hali.service.doctor.proc import Holder
from hali.service.doctor.stored import judge_outbox

GIB = 1 << 30
NOW = 1_000_000.0


def context(daemon: Daemon | None = None, **env: str) -> Context:
    return Context(Paths(Path("/nonexistent")), env, daemon or Daemon())


def status(pid: int = 7) -> Daemon:
    return Daemon(pid, {"pid": pid, "http": None, "services": []})


# ---- clock


@pytest.mark.parametrize(
    ("moments", "verdict"),
    [
        ([], "ok"),
        ([Moment("log", NOW - 1e6)], "ok"),
        ([Moment("log", NOW + 59)], "ok"),
        ([Moment("log", NOW + 61)], "fail"),
        ([Moment("hub", NOW + 59, exact=True)], "ok"),
        ([Moment("hub", NOW + 61, exact=True)], "warn"),
        ([Moment("hub", NOW - 301, exact=True)], "fail"),
        ([Moment("a", NOW - 9e9, exact=True), Moment("b", NOW, exact=True), Moment("c", NOW + 9e9, exact=True)], "ok"),
    ],
)
def test_a_clock_is_off_when_records_are_of_the_future_or_servers_say_so(moments: list[Moment], verdict: str) -> None:
    found = judge_clock(NOW, moments)
    assert found.status == verdict
    assert (found.fix is None) is (verdict == "ok")


# ---- inference


@pytest.mark.parametrize(
    ("layers", "gpu", "verdict"),
    [
        (None, False, "ok"),
        ("auto", False, "ok"),
        ("0", False, "ok"),
        ("5", False, "warn"),
        ("-1", False, "warn"),
        ("-1", True, "ok"),
        ("auto", True, "ok"),
    ],
)
def test_layers_on_a_gpu_that_is_not_there_are_told_unless_nobody_asked_for_them(
    monkeypatch: pytest.MonkeyPatch, layers: str | None, gpu: bool, verdict: str
) -> None:
    monkeypatch.setattr(extensions, "find_spec", lambda _: object())
    monkeypatch.setattr(extensions, "_child", lambda *_: ({"version": "1", "gpu": gpu}, ""))
    found = extensions.inference(context(**({} if layers is None else {"HALI_ENGINE_GPU_LAYERS": layers})))
    assert found.status == verdict, found.detail


# ---- disk


@pytest.mark.parametrize(
    ("free", "total", "verdict"),
    [
        (5 * GIB, 1000 * GIB, "ok"),
        (3 * GIB, 1000 * GIB, "warn"),
        (GIB // 5, 1000 * GIB, "fail"),
        (GIB // 5, GIB, "ok"),
        (GIB // 17, GIB // 2, "fail"),
    ],
)
def test_a_disk_is_full_by_its_size(free: int, total: int, verdict: str) -> None:
    assert judge_disk(Path("/d"), Disk(total, free, -1), models=0).status == verdict


def test_pruning_is_named_only_where_it_makes_enough_room() -> None:
    full = Disk(1000 * GIB, 0, -1)
    assert judge_disk(Path("/d"), full, models=GIB).fix == "du -xhd 2 /d | sort -h | tail -n 20"
    assert judge_disk(Path("/d"), full, models=5 * GIB).fix == f"hali prune --yes --quota {GIB / 1e9:.6f}"


def test_pruning_is_not_named_where_pinned_models_have_the_room() -> None:
    full = Disk(1000 * GIB, 0, -1)
    found = judge_disk(Path("/d"), full, models=9 * GIB, pinned=6 * GIB)
    assert (
        found.fix == "du -xhd 2 /d | sort -h | tail -n 20" and "pinned models have 6.4 GB: `hali unpin`" in found.detail
    )
    found = judge_disk(Path("/d"), full, models=9 * GIB, pinned=5 * GIB)
    assert found.fix == f"hali prune --yes --quota {5 * GIB / 1e9:.6f}" and "pinned" not in found.detail


def test_a_disk_without_inodes_is_full() -> None:
    assert judge_disk(Path("/d"), Disk(1000 * GIB, 900 * GIB, 3), models=0).status == "fail"
    assert judge_disk(Path("/d"), Disk(1000 * GIB, 900 * GIB, -1), models=0).status == "ok"


# ---- daemon


def test_a_daemon_of_another_version_is_to_be_restarted() -> None:
    found = address(context(Daemon(7, {"pid": 7, "http": None, "version": "0.0.9"})))
    assert (found.status, found.fix) == ("warn", "hali daemon restart")
    assert f"PID 7 is hali 0.0.9 and this is {__version__}" in found.detail
    found = address(context(Daemon(7, {"pid": 7, "http": None, "version": "0.0.9", "service": True})))
    assert found.fix == "hali service restart"
    assert address(context(Daemon(7, {"pid": 7, "http": None, "version": __version__}))).status == "ok"


# ---- ports

TORRENT = Wanted("torrent_port", "tcp", "", 6000)
TAKEN = Found(errno.EADDRINUSE, Holder(9, "nc"))


def test_a_port_is_free_ours_or_taken() -> None:
    assert judge(context(), TORRENT, Found()).status == "ok"
    assert judge(context(status(9)), TORRENT, TAKEN).status == "ok"
    assert judge(context(status(8)), TORRENT, TAKEN) == Finding(
        "fail",
        "torrent_port 6000 is taken by nc (PID 9)",
        "hali config set torrent_port 0 && hali daemon restart",
    )


def test_a_variable_that_names_the_port_is_unset_first() -> None:
    fix = judge(context(HALI_TORRENT_PORT="6000"), TORRENT, TAKEN).fix
    assert fix == "unset HALI_TORRENT_PORT && hali config set torrent_port 0"


def test_the_default_port_of_the_api_gives_way_and_a_chosen_one_does_not() -> None:
    (default, _) = wanted_ports(context().settings)
    assert judge(context(), default, TAKEN).status == "ok"
    (chosen, _) = wanted_ports(context(HALI_DAEMON_PORT="6001").settings)
    assert judge(context(), chosen, TAKEN).status == "fail"


def test_an_address_of_another_machine_is_named() -> None:
    finding = judge(context(), Wanted("daemon_port", "tcp", "10.9.9.9", 6000), Found(errno.EADDRNOTAVAIL))
    assert (finding.status, finding.fix) == ("fail", "hali config unset daemon_listen_addr")


# ---- LAN


def test_an_interface_is_deaf_when_nothing_comes_back_over_it() -> None:
    wanted = {("a", "4"), ("a", "6"), ("b", "4")}
    assert judge_multicast(wanted, wanted, 4269).status == "ok"
    assert judge_multicast(wanted, wanted - {("a", "6")}, 4269).status == "warn"
    assert judge_multicast(wanted, wanted - {("b", "4")}, 4269).status == "fail"


def test_another_secret_fails_where_nobody_else_is_heard() -> None:
    secret = {"HALI_LAN_HMAC_ENABLED": "on", "HALI_LAN_HMAC_SHARED_SECRET": "ab" * 32}
    assert judge_secret(context(**secret), strange=0, known=0).status == "ok"
    assert judge_secret(context(**secret), strange=2, known=5).status == "warn"
    found = judge_secret(context(**secret), strange=2, known=0)
    assert found.status == "fail"
    assert found.fix == "unset HALI_LAN_HMAC_SHARED_SECRET && hali config set lan.hmac_shared_secret -"
    assert "ab" * 32 not in found.detail
    off = judge_secret(context(), strange=2, known=0).fix
    assert off == "hali config set lan.hmac_enabled true && hali config set lan.hmac_shared_secret -"


def test_a_node_with_the_same_key_is_told_with_the_command_that_makes_another_one(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for dropped, verdict in (({}, "ok"), ({"mac": 3}, "ok"), ({"same_key": 4}, "fail")):
        heard = Daemon(7, {"pid": 7, "lan_traffic": {"dropped": dropped}})
        found = permissions(Context(Paths(tmp_path), {}, heard))
        assert found.status == verdict
    assert found.fix == f"mv {tmp_path}/identity.key {tmp_path}/identity.key.copied && hali daemon restart"


# ---- daemon


@pytest.mark.parametrize(("state", "verdict"), [("ready", "ok"), ("backoff", "warn"), ("failed", "fail")])
def test_a_service_that_is_down_fails(state: str, verdict: str) -> None:
    row = {"name": "LanAnnouncer", "state": state, "error": "no port"}
    found = services(context(Daemon(7, {"pid": 7, "services": [row]})))
    assert found.status == verdict
    assert ("no port" in found.detail) is (verdict != "ok")


def test_five_crashes_in_ten_minutes_are_a_loop() -> None:
    once = LastExit(NOW, "died", None, "killed", crashes=[NOW])
    loop = LastExit(NOW, "failed", 1, "no port", "free it", [NOW - 100 * n for n in range(5)])
    long_ago = LastExit(NOW, "failed", 1, "", crashes=[NOW - 200 * n for n in range(5)])
    assert judge_crashes(once, now=NOW, running=False).status == "ok"
    assert judge_crashes(long_ago, now=NOW, running=False).status == "ok"
    assert judge_crashes(loop, now=NOW, running=True).status == "warn"
    found = judge_crashes(loop, now=NOW, running=False)
    assert (found.status, found.fix) == ("fail", "hali daemon start")
    assert "no port — free it" in found.detail


@pytest.mark.parametrize(
    ("properties", "verdict", "fix"),
    [
        ({}, "ok", None),
        (
            {"ActiveState": "failed", "SubState": "failed", "Result": "exit-code"},
            "fail",
            "systemctl --user reset-failed halid.service && systemctl --user start halid.service",
        ),
        ({"ActiveState": "inactive", "SubState": "dead"}, "warn", "systemctl --user start halid.service"),
        ({"UnitFileState": "disabled"}, "warn", "systemctl --user enable halid.service"),
        ({"LoadState": "bad-setting"}, "fail", "systemctl --user daemon-reload"),
    ],
)
def test_a_unit_that_does_not_run_or_will_not_come_back_is_told(
    properties: dict[str, str], verdict: str, fix: str | None
) -> None:
    healthy = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success"}
    found = judge_unit("--user", {**healthy, "UnitFileState": "enabled", **properties})
    assert (found.status, found.fix) == (verdict, fix)


# ---- outbox


def test_an_outbox_warns_of_refusals_and_of_what_waits_for_more_than_a_day() -> None:
    day = 86_400.0
    assert judge_outbox(context(), {}, now=NOW).status == "ok"
    assert judge_outbox(context(), {"waiting": (3, NOW - day + 1)}, now=NOW).status == "ok"
    late = judge_outbox(context(), {"waiting": (3, NOW - day - 1)}, now=NOW)
    assert (late.status, late.fix) == ("warn", "hali daemon start")
    assert judge_outbox(context(), {"refused": (1, NOW)}, now=NOW).status == "warn"
