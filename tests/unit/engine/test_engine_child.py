"""What the worker is started with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hali.api.openai_embedding import MAX_INPUTS
from hali.engine import child, protocol
from hali.engine.options import EngineOptions
from hali.model.generation import Embeddings


def test_the_environment_holds_no_secret_and_forbids_backtraces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy")
    environment = child._environment()
    assert "secret" not in repr(environment)
    assert environment["GGML_NO_BACKTRACE"] == "1"


def test_relative_python_paths_are_made_absolute_and_empty_ones_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"python{os.pathsep}{os.pathsep}/x")
    assert child._environment()["PYTHONPATH"] == f"{Path('python').absolute()}{os.pathsep}/x"


def test_the_current_directory_is_no_place_to_import_from() -> None:
    command = child._command(5, Path("m.gguf"), EngineOptions())
    assert "-P" in command
    assert str(Path("m.gguf").absolute()) in command


def test_only_the_end_of_standard_error_is_kept() -> None:
    process = child.Child(lambda: None)
    process.pipe_data_received(2, b"x" * 100_000 + b"\nthe last words\n")
    assert len(process.stderr_tail()) == child.STDERR_KEPT
    process.returncode = -6
    assert process.signal_name() == "SIGABRT"
    assert "died of SIGABRT" in process.how_it_ended()
    assert "last words" in process.how_it_ended()


def test_only_what_was_written_since_it_was_ready_is_told_as_the_reason() -> None:
    process = child.Child(lambda: None)
    process.pipe_data_received(2, b"a warning\n")
    process.returncode = -6
    assert process.how_it_ended() == "died of SIGABRT (a warning)"  # while it loaded
    process.loaded()
    assert process.how_it_ended() == "died of SIGABRT"
    process.pipe_data_received(2, b"an assertion\n")
    assert process.how_it_ended() == "died of SIGABRT (an assertion)"
    assert process.stderr_tail() == "a warning\nan assertion\n"
    process.pipe_data_received(2, b"x" * 100_000)
    assert len(process.stderr_tail()) == child.STDERR_KEPT


def test_of_one_that_was_killed_no_words_are_quoted() -> None:
    process = child.Child(lambda: None)
    process.pipe_data_received(2, b"a warning\n")
    process.returncode = -9
    assert process.how_it_ended() == "was killed, perhaps for want of memory (SIGKILL)"


def test_as_many_and_as_wide_vectors_come_through_as_may_be_asked_for() -> None:
    answer = Embeddings((bytes(4 * 8192),) * MAX_INPUTS, 1)
    came: list[protocol.Frame] = []
    child.Link(came.append, lambda: None).data_received(bytes(protocol.pack_answer(bytes(16), answer)))
    assert [protocol.unpack_answer(frame) for frame in came] == [answer]


def test_an_exit_code_is_no_signal() -> None:
    process = child.Child(lambda: None)
    process.returncode = 3
    assert process.signal_name() is None
    assert process.how_it_ended() == "exited with 3"
