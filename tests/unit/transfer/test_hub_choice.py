"""Which file of a repository is meant."""

from __future__ import annotations

import pytest

from hali.model.errors import AmbiguousName, NotFound, UsageError
from hali.model.filenames import is_safe_path
from hali.transfer.hub import HubName, RepoFile, RepoListing, choose_model, parse_hub_name, quant_of


def listing(*names: str) -> RepoListing:
    files = (RepoFile(name, 1000 + i, "ab" * 32) for i, name in enumerate(names))
    return RepoListing("o/r", "c" * 40, tuple(files))


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("SmolLM2-135M-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("llama-2-7b.IQ2_XXS.gguf", "IQ2_XXS"),
        ("m-TQ1_0.gguf", "TQ1_0"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("m-f16.gguf", "F16"),
        ("m-fp16.gguf", "F16"),
        ("m-BF16.gguf", "BF16"),
        ("m-Q4_0_4_8.gguf", "Q4_0_4_8"),
        ("m-q8_0.gguf", "Q8_0"),
        ("Q4_K_M/m-Q4_K_M-00001-of-00003.gguf", "Q4_K_M"),
        ("Q6_K/model.gguf", "Q6_K"),
        ("model.gguf", None),
        ("BF160.gguf", None),
    ],
)
def test_the_quant_is_read_from_the_name(name: str, quant: str | None) -> None:
    assert quant_of(name) == quant


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("o/r", HubName("o/r")),
        ("o/r:Q4_K_M", HubName("o/r", quant="Q4_K_M")),
        ("o/r@v1:Q8_0", HubName("o/r", "v1", "Q8_0")),
        ("o/r/sub/f.gguf", HubName("o/r", file="sub/f.gguf")),
        ("o/r@abc/f.gguf", HubName("o/r", "abc", file="f.gguf")),
        ("https://huggingface.co/o/r", HubName("o/r")),
        ("https://huggingface.co/o/r/blob/main/f%20x.gguf", HubName("o/r", "main", file="f x.gguf")),
        ("https://huggingface.co/o/r/tree/dev", HubName("o/r", "dev")),
        ("https://huggingface.co/o/r/tree/main/UD-Q4_K_XL", HubName("o/r", "main", file="UD-Q4_K_XL")),
        ("https://huggingface.co/o/r/blob/refs%2Fpr%2F1/a/f.gguf", HubName("o/r", "refs/pr/1", file="a/f.gguf")),
        ("https://huggingface.co/o/r/tree/refs%2Fpr%2F1", HubName("o/r", "refs/pr/1")),
        ("o/r@refs%2Fpr%2F1:Q8_0", HubName("o/r", "refs/pr/1", "Q8_0")),
        ("https://huggingface.co/o/r:Q8_0", HubName("o/r", quant="Q8_0")),
        ("hf.co/o/r:Q8_0", HubName("o/r", quant="Q8_0")),
        ("huggingface.co/o/r", HubName("o/r")),
        ("HuggingFace.co/o/r/resolve/main/sub/f.gguf", HubName("o/r", "main", file="sub/f.gguf")),
        ("hf.co/o", None),
        ("hf.co/o/r:", None),
        ("hf.co/o/r:Q8_0/blob/main/f.gguf", None),
        ("https://example.org/o/r", None),
        ("word", None),
        ("o/r:", None),
        ("o/r/", None),
        ("../r", None),
        ("o/r:Q4/f.gguf", None),
        ("smollm2:135m:instruct:q4_1", None),
    ],
)
def test_names_on_the_hub_are_taken_apart(text: str, found: HubName | None) -> None:
    assert parse_hub_name(text) == found


def test_the_default_is_q4_k_m() -> None:
    assert choose_model(listing("m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-Q2_K.gguf")).name == "m-Q4_K_M.gguf"


def test_the_only_model_needs_no_choice() -> None:
    assert (
        choose_model(listing("m-Q8_0.gguf", "mmproj-m-f16.gguf", "m.imatrix.gguf", "README.md")).name == "m-Q8_0.gguf"
    )


def test_without_a_default_the_choices_are_listed_smallest_first() -> None:
    files = (RepoFile("b-Q8_0.gguf", 9, None), RepoFile("a-Q2_K.gguf", 5, None), RepoFile("c-Q6_K.gguf", 7, None))
    with pytest.raises(AmbiguousName) as caught:
        choose_model(RepoListing("o/r", "c" * 40, files))
    assert caught.value.choices == ["o/r/a-Q2_K.gguf", "o/r/c-Q6_K.gguf", "o/r/b-Q8_0.gguf"]
    assert caught.value.details["sizes"] == [5, 7, 9]


def test_two_defaults_are_no_default() -> None:
    with pytest.raises(AmbiguousName):
        choose_model(listing("a-Q4_K_M.gguf", "b-Q4_K_M.gguf"))


def test_a_quant_is_chosen_whatever_its_case() -> None:
    assert choose_model(listing("m-Q8_0.gguf", "m-q6_k.gguf"), quant="Q6_k").name == "m-q6_k.gguf"
    assert choose_model(listing("m-Q8_0.gguf", "m-F16.gguf"), quant="fp16").name == "m-F16.gguf"


def test_ud_quants_are_others_than_plain_ones() -> None:
    both = listing("m-Q4_K_XL.gguf", "m-UD-Q4_K_XL.gguf")
    assert choose_model(both, quant="UD-Q4_K_XL").name == "m-UD-Q4_K_XL.gguf"
    assert choose_model(both, quant="Q4_K_XL").name == "m-Q4_K_XL.gguf"


def test_a_missing_quant_says_what_there_is() -> None:
    with pytest.raises(NotFound) as caught:
        choose_model(listing("m-Q8_0.gguf", "m-Q2_K.gguf"), quant="Q5_0")
    assert caught.value.hint == "there is: Q2_K, Q8_0"


def test_a_file_is_chosen_by_path_or_bare_name() -> None:
    both = listing("x/m-Q8_0.gguf", "README.md")
    assert (
        choose_model(both, file="x/m-Q8_0.gguf").name == choose_model(both, file="m-Q8_0.gguf").name == "x/m-Q8_0.gguf"
    )
    assert choose_model(listing("m.gguf", "mmproj-f16.gguf"), file="mmproj-f16.gguf").name == "mmproj-f16.gguf"


def test_a_bare_name_in_two_folders_is_ambiguous() -> None:
    with pytest.raises(AmbiguousName):
        choose_model(listing("x/m.gguf", "y/m.gguf"), file="m.gguf")


def test_a_folder_means_its_model_or_the_default_one_of_them() -> None:
    files = listing(
        "UD-Q2_K/m-00001-of-00002.gguf", "UD-Q2_K/m-00002-of-00002.gguf", "x/m-Q8_0.gguf", "x/m-Q4_K_M.gguf"
    )
    assert [f.name for f in choose_model(files, file="UD-Q2_K").files] == [f.name for f in files.files][:2]
    assert choose_model(files, file="x/").name == "x/m-Q4_K_M.gguf"
    with pytest.raises(NotFound):
        choose_model(files, file="U")
    with pytest.raises(AmbiguousName) as caught:
        choose_model(listing("x/m-Q8_0.gguf", "x/m-Q2_K.gguf", "m-Q4_K_M.gguf"), file="x")
    assert len(caught.value.choices) == 2


@pytest.mark.parametrize("asked", [{"quant": "Q4_K_M"}, {"file": "m-Q4_K_M-00002-of-00002.gguf"}, {}])
def test_any_part_of_a_split_means_the_whole_split_in_order(asked: dict[str, str]) -> None:
    names = ["m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"]
    assert [file.name for file in choose_model(listing(*names[::-1]), **asked).files] == names


def test_a_model_comes_with_the_usual_one_of_its_projectors_if_it_has_any() -> None:
    model = choose_model(listing("m-Q4_K_M.gguf", "mmproj-m-BF16.gguf", "mmproj-m-F16.gguf"))
    assert [file.name for file in model.with_projector()] == ["m-Q4_K_M.gguf", "mmproj-m-F16.gguf"]
    plain = choose_model(listing("m-Q4_K_M.gguf"))
    assert plain.with_projector() == plain.files


def test_nothing_to_choose_from_is_not_found() -> None:
    with pytest.raises(NotFound, match="no GGUF"):
        choose_model(listing("README.md", "mmproj.gguf"))
    with pytest.raises(NotFound):
        choose_model(listing("m.gguf"), file="other.gguf")


def test_file_and_quant_together_are_a_usage_error() -> None:
    with pytest.raises(UsageError):
        choose_model(listing("m.gguf"), file="m.gguf", quant="Q8_0")


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a/./b", "a\\b", "C:x", "a\nb", "", "a/..", "x" * 1025])
def test_names_that_could_leave_a_folder_are_unsafe(name: str) -> None:
    assert not is_safe_path(name)


def test_ordinary_names_are_safe() -> None:
    assert is_safe_path("Q4_K_M/model name-00001-of-00002.gguf")
