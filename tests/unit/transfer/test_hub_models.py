"""The files of a repository as models: splits, projectors, folders, and what is no model."""

from __future__ import annotations

import pytest

from hali.model import splits
from hali.model.errors import AmbiguousName, NotFound
from hali.transfer.hub_choice import choose_model, default_of
from hali.transfer.hub_models import GgufModel, RepoFile, RepoListing, group


def files(*names: str) -> list[RepoFile]:
    return [RepoFile(name, 1000 + i, "ab" * 32) for i, name in enumerate(names)]


def models(*names: str) -> tuple[GgufModel, ...]:
    return group("o/r-GGUF", files(*names))


def listing(*names: str) -> RepoListing:
    return RepoListing("o/r-GGUF", "c" * 40, tuple(files(*names)))


def test_the_parts_of_a_split_are_one_model_in_order_with_the_size_of_all() -> None:
    (model,) = models("m-7b-Q8_0-00002-of-00003.gguf", "m-7b-Q8_0-00003-of-00003.gguf", "m-7b-Q8_0-00001-of-00003.gguf")
    assert [file.part for file in model.files] == [(1, 3), (2, 3), (3, 3)]
    assert (model.size, model.parts, model.missing, model.quant) == (3003, 3, None, "Q8_0")
    assert str(model.id) == "m:7b:base:q8_0"


def test_splits_in_folders_of_their_own_are_models_of_their_own() -> None:
    found = models(
        "Q4_K_M/m-Q4_K_M-00001-of-00002.gguf",
        "Q4_K_M/m-Q4_K_M-00002-of-00002.gguf",
        "Q8_0/m-Q8_0-00001-of-00002.gguf",
        "Q8_0/m-Q8_0-00002-of-00002.gguf",
        "m-Q2_K.gguf",
    )
    assert [(m.quant, len(m.files)) for m in found] == [("Q2_K", 1), ("Q4_K_M", 2), ("Q8_0", 2)]
    assert len({m.id for m in found}) == 3


def test_a_whole_file_and_a_split_of_the_same_name_are_two_models() -> None:
    found = models("m-Q8_0.gguf", "m-Q8_0-00001-of-00001.gguf")
    assert len({m.id for m in found}) == len(found) == 2


@pytest.mark.parametrize("asked", [{"quant": "q8_0"}, {"file": "m-Q8_0-00003-of-00003.gguf"}, {}])
def test_a_split_without_all_parts_is_not_found_and_the_first_missing_part_is_named(asked: dict[str, str]) -> None:
    incomplete = listing("m-Q8_0-00001-of-00003.gguf", "m-Q8_0-00003-of-00003.gguf")
    with pytest.raises(NotFound, match=r"m-Q8_0-00002-of-00003\.gguf is missing; the model has 2 of 3 parts"):
        choose_model(incomplete, **asked)


def test_of_a_split_that_says_it_has_99999_parts_only_the_missing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "part_names", lambda name: pytest.fail("all of them were named"))
    with pytest.raises(NotFound, match=r"m-Q8_0-00002-of-99999\.gguf is missing; the model has 1 of 99999 parts"):
        choose_model(listing("m-Q8_0-00001-of-99999.gguf"), quant="q8_0")


def test_a_model_is_chosen_by_any_of_its_parts() -> None:
    both = listing("x/m-Q8_0-00001-of-00002.gguf", "x/m-Q8_0-00002-of-00002.gguf", "m-Q2_K.gguf")
    assert choose_model(both, file="m-Q8_0-00002-of-00002.gguf").name == "x/m-Q8_0-00001-of-00002.gguf"


def test_an_ambiguous_choice_lists_a_split_once_with_its_total_size() -> None:
    with pytest.raises(AmbiguousName) as caught:
        choose_model(listing("m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf", "m-Q2_K.gguf"))
    assert caught.value.choices == ["o/r-GGUF/m-Q2_K.gguf", "o/r-GGUF/m-Q8_0-00001-of-00002.gguf"]
    assert caught.value.details["sizes"] == [1002, 2001]
    assert [len(m["files"]) for m in caught.value.details["models"]] == [1, 2]


def test_a_projector_belongs_to_the_models_it_names_the_usual_one_first() -> None:
    four, twelve = models(
        "gemma-3-4b-it-Q8_0.gguf",
        "gemma-3-12b-it-Q8_0.gguf",
        "mmproj-model-f32-4B.gguf",
        "mmproj-model-f16-4B.gguf",
        "gemma-3-12b-it.mmproj-Q8_0.gguf",
    )
    assert [file.name for file in four.mmproj] == ["mmproj-model-f16-4B.gguf", "mmproj-model-f32-4B.gguf"]
    assert [file.name for file in twelve.mmproj] == ["gemma-3-12b-it.mmproj-Q8_0.gguf"]


@pytest.mark.parametrize("projector", ["mmproj-F16.gguf", "mmproj-model-f16.gguf", "mmproj-something-else-f16.gguf"])
def test_a_projector_that_names_no_model_belongs_to_all(projector: str) -> None:
    assert [[file.name for file in m.mmproj] for m in models("m-Q2_K.gguf", "m-Q8_0.gguf", projector)] == [
        [projector]
    ] * 2


def test_the_usual_projector_comes_first() -> None:
    (model,) = models("m-Q4_0.gguf", *(f"mmproj-{quant}.gguf" for quant in ("BF16", "F32", "Q6_K", "F16", "Q8_0")))
    assert [file.quant for file in model.mmproj] == ["F16", "BF16", "Q8_0", "F32", "Q6_K"]


def test_what_is_no_model_is_left_out() -> None:
    names = ["README.md", "m.imatrix.gguf", "imatrix.dat", "m-Q8_0-00000-of-00002.gguf", "m-Q8_0-00003-of-00002.gguf"]
    assert models(*names, "mmproj-F16.gguf", "m-f16.imatrix.gguf", "m.Q6_K.gguf.part1of2") == ()


def test_a_model_that_was_made_with_an_importance_matrix_is_one() -> None:
    assert [model.quant for model in models("m-Q4_K_M-imatrix.gguf", "m.imatrix.gguf")] == ["Q4_K_M"]


def test_the_smallest_model_comes_first() -> None:
    sizes = {"b-Q2_K.gguf": 9, "a-Q8_0.gguf": 5, "c-Q4_0.gguf": 7}
    found = group("o/r", [RepoFile(name, size, None) for name, size in sizes.items()])
    assert [m.size for m in found] == [5, 7, 9]


def test_the_default_is_the_only_model_or_the_only_q4_k_m() -> None:
    assert default_of(models("m-Q8_0.gguf")) is not None
    usual = default_of(models("m-Q8_0.gguf", "m-Q4_K_M.gguf", "x/m-Q4_K_M-00001-of-00002.gguf"))
    assert usual is not None and usual.name == "m-Q4_K_M.gguf"
    assert default_of(models("a-Q4_K_M.gguf", "b-Q4_K_M.gguf")) is None
    assert default_of(models("m-Q8_0.gguf", "m-Q2_K.gguf")) is None
    assert default_of(()) is None


def test_weighted_quants_answer_to_their_full_and_to_their_plain_name() -> None:
    (model,) = models("m-7b.i1-Q4_K_M.gguf")
    assert [model.answers_to(q) for q in ("i1-Q4_K_M", "q4_k_m", "Q4_K_S", "", "m-q4_k_m")] == [
        True,
        True,
        False,
        False,
        False,
    ]
