"""What a repository offers, with what fits and what is here."""

from __future__ import annotations

from typing import Any

import pytest

from hali.daemon.choices import Choices, shown
from hali.model.errors import TransferFailed
from hali.runtime.memory import Memory
from hali.share.targets import RepoTarget
from hali.transfer.hub import RepoFile, RepoListing

GB = 10**9


def test_models_are_shown_smallest_first_with_what_fits_and_what_is_here() -> None:
    sizes = {"m-7b-Q8_0.gguf": 8 * GB, "m-7b-Q4_K_M.gguf": 4 * GB, "mmproj-F16.gguf": 1 * GB, "README.md": 1}
    listing = RepoListing("o/r", "c" * 40, tuple(RepoFile(name, size, name) for name, size in sizes.items()))
    found = shown(listing, Memory(7 * GB), 8192, lambda model: model.quant == "Q8_0")
    rows = [(m["id"], m["size"], m["files"], m["fits"], m["here"]) for m in found["models"]]
    assert rows == [
        ("m:7b:base:q4_k_m", 4 * GB, ["m-7b-Q4_K_M.gguf"], "ram", False),
        ("m:7b:base:q8_0", 8 * GB, ["m-7b-Q8_0.gguf"], "no", True),
    ]
    assert [m["mmproj"] for m in found["models"]] == [["mmproj-F16.gguf"]] * 2
    assert found["default"] == "m-7b-Q4_K_M.gguf"
    assert found["memory"] == {"ram": 7 * GB, "gpu": None}


class Offline:
    """A hub that cannot be reached, and counts who tries."""

    asked = 0

    async def resolve(self, repo: str, revision: str | None) -> RepoListing:
        """Fails."""
        self.asked += 1
        raise TransferFailed("the hub cannot be reached")


class Store:
    """Stands for resolver and library: has a model of the repository or not."""

    def __init__(self, *, has: bool) -> None:
        self._has = has

    def stored(self, target: RepoTarget) -> object | None:
        """Something, when there is."""
        return object() if self._has else None


def of(store: Any, hub: Any) -> Choices:
    return Choices(store, store, hub, kv_tokens=8192)


async def test_a_model_that_is_here_is_enough_without_the_hub_and_when_it_is_out_of_reach() -> None:
    hub = Offline()
    for always, asked in ((False, 0), (True, 1)):
        found = await of(Store(has=True), hub).of(RepoTarget("o/r"), always=always)
        assert (found["stored"], found["models"], hub.asked) == (True, [], asked)


async def test_a_repository_of_which_nothing_is_here_needs_the_hub() -> None:
    with pytest.raises(TransferFailed):
        await of(Store(has=False), Offline()).of(RepoTarget("o/r"), always=False)
