"""`hali logs -f` shows every line once, however the log is rotated meanwhile."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import BinaryIO

import pytest

from hali.cli import logs
from hali.cli.logs import _follow
from hali.cli.output import Output
from hali.runtime.log import OLD_LOGS


class Enough(Exception):
    """The follower has nothing left to show."""


class Writer:
    """The daemon's side: numbered lines through the very handler that rotates."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.handler = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=OLD_LOGS, encoding="utf-8")
        self.written = 0

    def write(self, lines: int) -> None:
        for _ in range(lines):
            self.handler.emit(logging.makeLogRecord({"msg": f"line {self.written}"}))
            self.written += 1


def follow(path: Path, pauses: list[int], writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow the log from its beginning; in each pause of the follower so many lines are written, then it is stopped."""

    def pause(_: float) -> None:
        if not pauses:
            raise Enough
        writer.write(pauses.pop(0))

    monkeypatch.setattr(logs.time, "sleep", pause)
    with pytest.raises(Enough), path.open("rb") as log:
        _follow(Output(as_json=True), path, log)
    writer.handler.close()


@pytest.mark.parametrize(
    "pauses", [[1], [3, 0, 4], [10], [25], [1, 1, 25, 1], [25, 25]], ids=lambda pauses: "-".join(map(str, pauses))
)
def test_no_line_is_lost_or_shown_twice_over_rotations(
    pauses: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hali.log"
    writer = Writer(path, max_bytes=100)  # ten lines or so a file: 25 lines are two rotations between two looks
    writer.write(2)
    follow(path, pauses, writer, monkeypatch)
    assert capsys.readouterr().out.splitlines() == [f"line {n}" for n in range(writer.written)]


def test_lines_written_between_the_last_look_and_the_rotation_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hali.log"
    writer = Writer(path, max_bytes=100)
    writer.write(8)
    looked = logs._later

    def write_first(*arguments: object) -> object:
        if writer.written == 8:  # these fit into one file
            writer.write(12)  # after it was read to its end, before we ask whether it was rotated
        return looked(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(logs, "_later", write_first)
    follow(path, [], writer, monkeypatch)
    assert capsys.readouterr().out.splitlines() == [f"line {n}" for n in range(20)]


def test_a_rotation_between_two_looks_at_the_files_shows_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hali.log"
    writer = Writer(path, max_bytes=100)
    writer.write(8)
    opened = logs._opened

    def rotating(path: Path) -> Iterator[BinaryIO]:
        for log in opened(path):
            yield log
            if writer.written == 22:  # the second file is open, and gets full before the next name is looked at
                writer.write(8)

    monkeypatch.setattr(logs, "_opened", rotating)
    follow(path, [14, 0], writer, monkeypatch)
    assert capsys.readouterr().out.splitlines() == [f"line {n}" for n in range(writer.written)]


def test_after_more_rotations_than_are_kept_it_goes_on_with_the_oldest_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hali.log"
    writer = Writer(path, max_bytes=100)
    writer.write(2)
    follow(path, [100], writer, monkeypatch)
    shown = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    kept = shown[shown.index(101) - 15 :]
    assert kept == list(range(kept[0], 102)) and shown == sorted(set(shown))


def test_a_line_that_is_being_written_is_shown_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hali.log"
    path.write_text("whole\nhal")
    rest = ["f\n", ""]

    def pause(_: float) -> None:
        if not rest:
            raise Enough
        with path.open("a") as log:
            log.write(rest.pop(0))

    monkeypatch.setattr(logs.time, "sleep", pause)
    with pytest.raises(Enough), path.open("rb") as log:
        _follow(Output(as_json=True), path, log)
    assert capsys.readouterr().out == "whole\nhalf\n"


def test_a_real_follower_sees_what_a_real_writer_writes(home: Path) -> None:
    (home / "logs").mkdir(parents=True)
    path = home / "logs" / "hali.log"
    writer = Writer(path, max_bytes=2000)
    writer.write(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "hali.cli", "logs", "-f", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "line 0\n"
    writer.write(300)
    seen = [process.stdout.readline() for _ in range(300)]
    process.terminate()
    process.wait(60)
    process.stdout.close()
    writer.handler.close()
    assert seen == [f"line {n}\n" for n in range(1, 301)]
