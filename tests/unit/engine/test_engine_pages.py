"""When weights are copied into huge pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.engine import pages
from hali.model.units import GIB


@pytest.mark.parametrize(
    ("modes", "glibc", "expected"),
    [
        ("[always] madvise never", (2, 28), True),
        ("always [madvise] never", (2, 36), True),
        ("always [madvise] never", (2, 34), False),
        ("always [madvise] never", (), False),
        ("always madvise [never]", (2, 36), False),
        ("", (2, 36), False),
    ],
)
def test_huge_pages_need_a_kernel_that_gives_them_and_a_libc_that_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, modes: str, glibc: tuple[int, ...], expected: bool
) -> None:
    monkeypatch.setattr(pages, "_glibc", lambda: glibc)
    (tmp_path / "enabled").write_text(modes + "\n")
    assert pages.huge_pages(tmp_path / "enabled") is expected


def test_without_linux_there_are_none(tmp_path: Path) -> None:
    assert not pages.huge_pages(tmp_path / "enabled")


@pytest.mark.parametrize(("said", "expected"), [("glibc 2.36", (2, 36)), ("musl", ()), (None, ())])
def test_the_version_of_glibc(monkeypatch: pytest.MonkeyPatch, said: str | None, expected: tuple[int, ...]) -> None:
    monkeypatch.setattr(pages.os, "confstr", lambda _: said)
    assert pages._glibc() == expected


def test_a_libc_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(pages.os, "confstr", refuse)
    assert pages._glibc() == ()


@pytest.mark.parametrize(("free", "expected"), [(4 * GIB, True), (4 * GIB - 1, False), (None, False)])
def test_only_where_most_of_the_memory_stays_free(free: int | None, expected: bool) -> None:
    assert pages.worth_copying(GIB, free) is expected


@pytest.mark.parametrize(
    ("own", "expected"),
    [(None, "glibc.malloc.hugetlb=1"), ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=1:glibc.malloc.hugetlb=0")],
)
def test_what_the_user_tells_glibc_comes_last_and_wins(own: str | None, expected: str) -> None:
    assert pages.tunables({} if own is None else {"GLIBC_TUNABLES": own}) == expected
