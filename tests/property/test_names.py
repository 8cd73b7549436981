"""Names for people, over real repositories and over anything: never one name for two models."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hali.model.filenames import unsafe
from hali.model.names import ModelId, derive, name_all, parse

VECTORS = Path(__file__).parents[1] / "vectors" / "names"


class Row(NamedTuple):
    """One public file and the name it must have."""

    repo: str
    file: str
    id: str

    @property
    def model(self) -> str:
        """The file, or what all parts of a split have in common."""
        return re.sub(r"-\d{5}-of-(\d{5})\.gguf$", r"-of-\1", self.file)


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


ROWS = [Row(*line.split("\t")) for path in sorted(VECTORS.glob("*.tsv")) for line in lines(path)]
SAME = [set(line.split()) for line in lines(VECTORS / "same.txt")]


def by_repo() -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in ROWS:
        found[row.repo].append(row)
    return found


def test_real_files_have_the_names_written_down_for_them() -> None:
    assert len(ROWS) > 500
    assert [row for row in ROWS if str(derive(row.file, repo=row.repo)) != row.id] == []


def test_real_files_share_a_name_only_as_parts_of_one_model_or_as_the_same_quant_of_the_same_model() -> None:
    named: dict[ModelId, list[Row]] = defaultdict(list)
    for row in ROWS:
        named[derive(row.file, repo=row.repo)].append(row)
    for rows in named.values():
        for a, b in combinations(rows, 2):
            if a.repo == b.repo:
                assert a.model == b.model
            else:
                assert any({a.repo, b.repo} <= repos for repos in SAME), (a, b)


def test_no_two_models_of_one_real_repository_share_a_name() -> None:
    for repo, rows in by_repo().items():
        models = {row.model: row for row in rows}
        names = name_all([row.file for row in models.values()], repo)
        assert len(set(names.values())) == len(models), repo
        assert {str(names[row.file]) for row in models.values()} == {row.id for row in rows}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mistral-7B-Instruct-v0.2-Q4_K_M.gguf", "Mistral-7B-Instruct-v0.3-Q4_K_M.gguf"),
        ("Meta-Llama-3-8B-Instruct-Q4_K_M.gguf", "Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf"),
        ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", "Qwen2.5-Coder-7B-Instruct-Q4_K_M.gguf"),
        ("Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Base-Q4_K_M.gguf"),
        ("m-7b.Q4_K_M.gguf", "m-7b.i1-Q4_K_M.gguf"),
        ("m-7b-IQ4_XS.gguf", "m-7b-Q4_XS.gguf"),
        ("m-8x7b-Q4_0.gguf", "m-7b-Q4_0.gguf"),
        ("command-r+-Q4_0.gguf", "command-r-Q4_0.gguf"),
        ("v1/m-7b-Q4_0.gguf", "v2/m-7b-Q4_0.gguf"),
        ("F16/m-7b.gguf", "Q8_0/m-7b.gguf"),
    ],
)
def test_what_tells_two_models_apart_is_in_the_name(one: str, other: str) -> None:
    assert derive(one) != derive(other)


def test_the_repository_says_what_the_file_leaves_out() -> None:
    plain = derive("gemma-3-4b-it-q4_0.gguf", repo="unsloth/gemma-3-4b-it-GGUF")
    trained = derive("gemma-3-4b-it-q4_0.gguf", repo="google/gemma-3-4b-it-qat-q4_0-gguf")
    assert (str(plain), str(trained)) == ("gemma-3:4b:it:q4_0", "gemma-3:4b:it-qat:q4_0")


def test_a_repository_of_two_sizes_does_not_take_the_size_from_its_files() -> None:
    files = ["m-7b-Q4_0.gguf", "m-13b-Q4_0.gguf"]
    names = [derive(file, repo="o/M-7B-M-13B-GGUF") for file in files]
    assert [str(name) for name in names] == ["m:7b:base:q4_0", "m:13b:base:q4_0"]


def test_two_models_that_only_their_files_tell_apart_keep_the_names_of_their_files() -> None:
    names = name_all(["m-7b-Q4_0.gguf", "m-7b-chat-Q4_0.gguf"], "o/M-7B-Chat-GGUF")
    assert [str(name) for name in names.values()] == ["m:7b:base:q4_0", "m:7b:chat:q4_0"]


def test_files_that_differ_only_in_case_or_folder_are_told_apart_by_a_tag() -> None:
    files = ["m-7b-Q4_0.gguf", "m-7b-q4_0.gguf", "m-7b/m-7b-Q4_0.gguf", "m-7b-Q8_0.gguf"]
    names = name_all(files, "o/r")
    assert len(set(names.values())) == 4
    assert str(names["m-7b-Q8_0.gguf"]) == "m:7b:base:q8_0"
    assert name_all(reversed(files), "o/r") == names


BASES = st.sampled_from(
    ["mistral", "Llama-3", "Llama-3.1", "Qwen2.5", "Qwen2.5-Coder", "gemma-2", "phi-4", "glm-4.5-air"]
)
SIZES = st.sampled_from(["7B", "8x7B", "0.5b", "30B-A3B", "17B-16E", "135M", "e4b", "70b"])
VARIANTS = st.sampled_from(
    ["", "Instruct", "chat", "it", "Base", "Instruct-v0.2", "Instruct-v0.3", "Instruct-1M", "128k"]
)
K_QUANTS = ["Q4_K_M", "Q4_K_S", "Q4_0", "Q4_0_4_4", "Q4_0_8_8", "Q8_0", "i1-Q4_K_M"]
QUANTS = st.sampled_from(
    [*K_QUANTS, "IQ4_XS", "IQ2_XXS", "UD-Q4_K_XL", "UD-IQ1_S", "TQ1_0", "MXFP4", "BF16", "F16", "F32"]
)
PARTS = st.tuples(BASES, SIZES, VARIANTS, QUANTS)


def file_of(parts: tuple[str, str, str, str], joint: str) -> str:
    *words, quant = (part for part in parts if part)
    return f"{'-'.join(words)}{joint}{quant}.gguf"


@given(PARTS, PARTS, st.sampled_from("-."))
def test_files_that_differ_in_base_size_variant_or_quant_have_different_names(
    one: tuple[str, str, str, str], other: tuple[str, str, str, str], joint: str
) -> None:
    assert (derive(file_of(one, joint)) == derive(file_of(other, joint))) == (one == other)


@given(PARTS, st.integers(2, 99_999), st.data())
def test_all_parts_of_a_split_and_the_whole_have_one_name(
    parts: tuple[str, str, str, str], total: int, data: st.DataObject
) -> None:
    whole = file_of(parts, "-")
    part = data.draw(st.integers(1, total))
    split = whole.removesuffix(".gguf") + f"-{part:05}-of-{total:05}.gguf"
    assert derive(split) == derive(f"{parts[3]}/{split}") == derive(whole)


ANY_PATH = st.lists(st.text(max_size=120), min_size=1, max_size=3).map("/".join)
ANY_REPO = st.none() | st.from_regex(r"[A-Za-z0-9][\w.-]{0,20}/[A-Za-z0-9_][\w.-]{0,40}", fullmatch=True)
SAFE = set(string.ascii_lowercase + string.digits + "._+-")


@example("con-7b-Q4_0.gguf", None, None, None)
@example("nul." + "x" * 90 + "-7b-Q4_0.gguf", None, None, None)
@given(ANY_PATH, ANY_REPO, st.none() | st.text(max_size=20), st.none() | st.text(max_size=20))
def test_every_name_is_lower_case_safe_as_folders_and_read_back_as_itself(
    path: str, repo: str | None, size_label: str | None, quant_hint: str | None
) -> None:
    name = derive(path, repo=repo, size_label=size_label, quant_hint=quant_hint)
    assert parse(str(name)) == name
    assert parse(str(name).upper()) == name
    for part in (name.base, name.size, name.variant, name.quant):
        assert 0 < len(part) <= 80
        assert unsafe(part) is None
        assert set(part) <= SAFE
        assert part[0] not in ".-_ "
        assert part[-1] not in ".-_ "


WORDS = st.lists(
    st.sampled_from(
        ["m", "M", "7b", "7B", "13b", "it", "base", "model", "v2", "Q4_0", "q4_0", "fp16", "f16", "x y", "x-y"]
    ),
    min_size=1,
    max_size=4,
).map("-".join)
PATHS = st.lists(st.lists(WORDS, min_size=1, max_size=2).map("/".join).map("{}.gguf".format), unique=True, max_size=12)


@given(PATHS, st.sampled_from(["o/m", "o/M-7b-GGUF", "o/m-7b-it-v2-Q4_0-GGUF"]))
def test_no_two_files_of_a_repository_ever_share_a_name(paths: list[str], repo: str) -> None:
    names = name_all(paths, repo)
    assert set(names) == set(paths)
    assert len(set(names.values())) == len(paths)
    assert all(parse(str(name)) == name for name in names.values())


def test_a_long_name_keeps_what_was_cut_off_as_a_tag() -> None:
    one, other = (derive(f"{'very-' * 30}{end}-7b-Q4_0.gguf") for end in ("a", "b"))
    assert one != other
    assert len(one.base) == len(other.base) == 80
