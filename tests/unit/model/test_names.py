"""Names for people: what tells models apart must survive."""

from __future__ import annotations

import pytest

from hali.model.names import derive, parse

NAMES = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": "smollm2:135m:instruct:q4_1",
    "Mistral-7B-Instruct-v0.2.Q4_K_M.gguf": "mistral:7b:instruct-v0.2:q4_k_m",
    "Mistral-7B-Instruct-v0.3-Q4_K_M.gguf": "mistral:7b:instruct-v0.3:q4_k_m",
    "Meta-Llama-3-8B-Instruct-Q4_K_M.gguf": "meta-llama-3:8b:instruct:q4_k_m",
    "Meta-Llama-3.1-8B-Instruct-UD-Q4_K_XL.gguf": "meta-llama-3.1:8b:instruct:ud-q4_k_xl",
    "Qwen2.5-7B-Instruct-Q8_0.gguf": "qwen2.5:7b:instruct:q8_0",
    "Qwen2.5-Coder-7B-Instruct-Q8_0.gguf": "qwen2.5-coder:7b:instruct:q8_0",
    "Mixtral-8x7B-Instruct-v0.1.IQ3_XXS.gguf": "mixtral:8x7b:instruct-v0.1:iq3_xxs",
    "Qwen3-30B-A3B-UD-IQ2_M.gguf": "qwen3:30b-a3b:base:ud-iq2_m",
    "gemma-2-2b-it-f16.gguf": "gemma-2:2b:it:f16",
    "gpt-oss-20b-mxfp4.gguf": "gpt-oss:20b:base:mxfp4",
    "phi-4.gguf": "phi-4:unknown:base:unknown",
}


@pytest.mark.parametrize(("file", "name"), NAMES.items())
def test_a_file_name_gives_this_id(file: str, name: str) -> None:
    assert str(derive(file)) == name
    assert str(parse(name)) == name


def test_no_two_of_these_files_share_an_id() -> None:
    assert len({str(derive(file)) for file in NAMES}) == len(NAMES)


def test_the_header_fills_what_the_name_lacks() -> None:
    assert str(derive("phi-4.gguf", size_label="14.7B", quant_hint="Q4_K")) == "phi-4:14.7b:base:q4_k"


@pytest.mark.parametrize(
    "file", ["../../etc/passwd", "a/b\\c.gguf", "..", ".hidden", "\0", "", "ä" * 400, "con: nul?*"]
)
def test_every_part_is_safe_as_a_folder_name(file: str) -> None:
    model = derive(file)
    for part in (model.base, model.size, model.variant, model.quant):
        assert part
        assert not set(part) & set("/\\\0:*?")
        assert not part.startswith(".")
        assert len(part) <= 80


@pytest.mark.parametrize("text", ["a:b:c", "a:b:c:d:e", "a::c:d", "a:b:../c:d", "a b:c:d:e"])
def test_anything_else_is_no_id(text: str) -> None:
    assert parse(text) is None
