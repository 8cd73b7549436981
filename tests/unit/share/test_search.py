"""Searching several providers."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from hali.model.errors import TransferFailed
from hali.share.base import Found, SearchSort
from hali.share.search import Search, cut, merged


class Provider:
    """Answers with `found`, fails with it, or never answers."""

    def __init__(self, name: str, found: Sequence[Found] | Exception | None) -> None:
        self.name = name
        self._found = found

    async def search(self, text: str, *, limit: int, sort: SearchSort) -> Sequence[Found]:
        """See the class."""
        if self._found is None:
            await anyio.sleep_forever()
        if isinstance(self._found, Exception):
            raise self._found
        return list(self._found or ())[:limit]


A = Provider("a", [Found("o/one", "a", downloads=5, likes=1), Found("o/two", "a", downloads=3, likes=9)])
B = Provider(
    "b", [Found("O/One", "b", downloads=90), Found("o/three", "b", downloads=4, updated="2025-01-01T00:00:00Z")]
)
DOWN = Provider("down", TransferFailed("cannot be reached"))


async def test_the_findings_of_all_providers_are_one_list_and_a_name_that_two_have_is_there_once() -> None:
    found = await Search([A, B]).run("x", limit=10)
    assert [(f.name, f.provider) for f in found.results] == [("o/one", "a"), ("o/three", "b"), ("o/two", "a")]
    assert found.warnings == ()
    assert len((await Search([A, B]).run("x", limit=2)).results) == 2


async def test_a_provider_that_is_down_is_one_warning() -> None:
    found = await Search([DOWN, A]).run("x", limit=10)
    assert [f.name for f in found.results] == ["o/one", "o/two"]
    assert found.warnings == ("down: cannot be reached",)


async def test_a_provider_that_never_answers_is_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hali.share.search.SEARCH_S", 0.01)
    found = await Search([Provider("slow", None), A]).run("x", limit=10)
    assert len(found.results) == 2
    assert found.warnings[0].startswith("slow: no answer in")


async def test_a_search_that_nobody_answers_has_failed_which_is_not_the_same_as_finding_nothing() -> None:
    with pytest.raises(TransferFailed, match="cannot be reached") as caught:
        await Search([DOWN]).run("x", limit=10)
    assert caught.value.details["tried"] == {"down": "cannot be reached"}
    assert (await Search([DOWN, Provider("empty", [])]).run("x", limit=10)).results == ()


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("downloads", ["o/one", "o/three", "o/two"]),
        ("likes", ["o/two", "o/one", "o/three"]),
        ("updated", ["o/three", "o/one", "o/two"]),
    ],
)
def test_what_a_provider_does_not_say_comes_last(sort: SearchSort, names: list[str]) -> None:
    found = [A._found, B._found]
    assert [f.name for f in merged(found, sort)] == names  # type: ignore[arg-type]


async def test_a_provider_that_counts_no_downloads_is_seen_beside_one_with_millions() -> None:
    hub = Provider("hub", [Found(f"o/{number}", "hub", downloads=10**6 - number) for number in range(9)])
    registry = Provider("registry", [Found(f"m{number}:1b:base:q8_0", "registry") for number in range(3)])
    found = (await Search([hub, registry]).run("x", limit=4)).results
    assert [f.name for f in found] == ["o/0", "o/1", "m0:1b:base:q8_0", "m1:1b:base:q8_0"]
    assert len(cut(found, 10)) == 4
    assert [f.provider for f in (await Search([hub, registry]).run("x", limit=12)).results].count("hub") == 9
    assert [f.name for f in (await Search([hub, registry]).run("x", limit=1)).results] == ["o/0"]
