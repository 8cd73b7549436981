"""What a repository offers, with what fits and what is here."""

from __future__ import annotations

from hali.daemon.choices import shown
from hali.runtime.memory import Memory
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
