"""Errors survive the wire: class, code, exit code, hint, details."""

from __future__ import annotations

import errno
import os

import pytest

from hali.model import errors
from hali.model.errors import (
    AmbiguousName,
    ExitCode,
    Failed,
    HaliError,
    NoSpace,
    NotFound,
    Refused,
    UsageError,
    from_wire,
    system_error,
)


def every_kind(base: type[HaliError] = HaliError) -> list[type[HaliError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in every_kind(child))]


OURS = [kind for kind in every_kind() if kind.__module__ == errors.__name__ and kind not in (HaliError, AmbiguousName)]


@pytest.mark.parametrize("kind", OURS)
def test_every_error_comes_back_as_itself(kind: type[HaliError]) -> None:
    sent = kind("what failed", hint="what to do", details={"n": 1})
    got = from_wire(sent.to_wire())
    assert (type(got), got.to_wire()) == (kind, sent.to_wire())


def test_an_ambiguous_name_keeps_its_choices() -> None:
    got = from_wire(AmbiguousName("two", choices=["a", "b"]).to_wire())
    assert isinstance(got, AmbiguousName)
    assert got.choices == ["a", "b"]


def test_a_finer_code_keeps_the_exit_code_of_its_class() -> None:
    got = from_wire(UsageError("too long", code="context_length").to_wire())
    assert isinstance(got, UsageError)
    assert (got.code, got.exit_code) == ("context_length", ExitCode.USAGE)
    assert isinstance(from_wire(NotFound("x", code="odd").to_wire()), NotFound)


@pytest.mark.parametrize("wire", [{}, {"code": None}, {"message": 7}, {"code": "x", "exit_code": "y", "details": None}])
def test_a_broken_error_is_still_an_error(wire: dict[str, object]) -> None:
    assert isinstance(from_wire(wire), Failed)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EROFS, Refused),
        (errno.EACCES, Refused),
        (errno.EPERM, Refused),
        (errno.EIO, Failed),
    ],
)
def test_what_the_system_refuses_is_one_of_ours_with_the_file(number: int, kind: type[HaliError]) -> None:
    found = system_error(OSError(number, os.strerror(number), "/home/hali.db"))
    assert type(found) is kind
    assert found.message == f"/home/hali.db: {os.strerror(number)}"
    assert found.hint or kind is Failed
