"""A check that raises or hangs is one failed check; the report comes whole, in order and in time."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from hali.config.paths import Paths
from hali.model.errors import Refused
from hali.service.doctor.context import Context, Daemon
from hali.service.doctor.finding import Check, Finding, Result, passed, report_of, skipped, warned
from hali.service.doctor.proc import Holder, holder_of_lock, holder_of_port
from hali.service.doctor.running import run, stragglers
from hali.service.doctor.table import CHECKS


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(Paths(tmp_path), {}, Daemon())


def test_checks_that_raise_fail_with_the_reason_and_the_others_have_their_say(context: Context) -> None:
    def refuses(_: Context) -> Finding:
        raise Refused("no permission", hint="be root")

    def breaks(_: Context) -> Finding:
        raise ImportError("libmissing.so: no such file")

    found = run([Check("a", "A", refuses), Check("b", "B", breaks), Check("c", "C", lambda _: passed("fine"))], context)
    assert [(r.id, r.status) for r in found] == [("a", "fail"), ("b", "fail"), ("c", "ok")]
    assert found[0].detail == "no permission — be root"
    assert "libmissing.so" in found[1].detail
    assert all(result.fix for result in found[:2])


def test_a_check_that_hangs_fails_at_its_deadline(context: Context) -> None:
    end = threading.Event()

    def hangs(_: Context) -> Finding:
        end.wait()
        return passed("late")

    checks = [Check("a", "A", hangs, deadline_s=0.05), Check("b", "B", lambda _: passed("fine"))]
    found = run(checks, context)
    assert [(r.id, r.status) for r in found] == [("a", "fail"), ("b", "ok")]
    assert "0.05 s" in found[0].detail
    assert stragglers() == ["doctor a"]
    end.set()


def test_the_worst_finding_is_the_exit_code() -> None:
    def of(*findings: Finding) -> int:
        rows = [Result(str(n), "", f.status, f.detail, f.fix, 0) for n, f in enumerate(findings)]
        return report_of(rows, generated_at="", version="").exit_code

    assert of() == of(passed(""), skipped("")) == 0
    assert of(passed(""), warned("", "x")) == 1
    assert of(Finding("fail", "", "x"), warned("", "x")) == 2


def test_ids_are_unique_and_the_report_has_the_promised_fields(context: Context) -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    rows = run([Check("a.b", "A", lambda _: passed("fine"))], context)
    report = msgspec.to_builtins(report_of(rows, generated_at="t", version="1"))
    assert list(report) == ["schema", "generated_at", "version", "ok", "summary", "checks"]
    assert list(report["summary"]) == ["ok", "warn", "fail", "skip"]
    assert list(report["checks"][0]) == ["id", "title", "status", "detail", "fix", "ms"]


def test_who_listens_on_a_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        for protocol, sock in (("tcp", server), ("udp", udp)):
            found = holder_of_port(protocol, sock.getsockname()[1])  # type: ignore[arg-type]
            assert found is not None
            assert found.pid == os.getpid()
        port = server.getsockname()[1]
    assert holder_of_port("tcp", port) is None
    assert holder_of_port("tcp", port, tmp_path / "no proc") is None
    assert str(Holder(5, "nc")) == "nc (PID 5)"


def test_who_holds_a_lock_is_known_by_its_file(tmp_path: Path) -> None:
    lock, proc = tmp_path / "daemon.lock", tmp_path / "proc"
    lock.touch()
    proc.mkdir()
    inode = lock.stat().st_ino
    other = tmp_path / "other"
    other.touch()
    for pid, file in ((10, other), (13, lock)):  # another file system may have the same number
        (proc / str(pid) / "fd").mkdir(parents=True)
        (proc / str(pid) / "fd" / "3").symlink_to(file)
    (proc / "locks").write_text(
        f"1: FLOCK  ADVISORY  WRITE 10 00:2a:{inode} 0 EOF\n"
        f"1: POSIX  ADVISORY  WRITE 11 fe:00:{inode} 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE 12 fe:00:{inode + 1} 0 EOF\n"
        f"3: FLOCK  ADVISORY  WRITE 13 fe:00:{inode} 0 EOF\n"
        f"3: -> FLOCK  ADVISORY  WRITE 14 fe:00:{inode} 0 EOF\n"
    )
    assert holder_of_lock(lock, proc) == 13
    assert holder_of_lock(tmp_path / "none", proc) is None
