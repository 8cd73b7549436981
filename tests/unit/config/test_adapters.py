"""The grammar of `engine.lora` and `engine.draft`."""

from __future__ import annotations

import pytest

from hali.config.adapters import Adapter, Draft, parse_adapters, parse_drafts
from hali.model.errors import UsageError


@pytest.mark.parametrize(
    ("text", "adapter"),
    [
        ("smollm2=/models/pirate.gguf", Adapter("smollm2", "/models/pirate.gguf")),
        ("SmolLM2:135m = ~/pirate.gguf@0.5", Adapter("smollm2:135m", "~/pirate.gguf", 0.5)),
        ("m=/a@b.gguf", Adapter("m", "/a@b.gguf")),  # this @ belongs to the name
        ("m=/a@b.gguf@-1", Adapter("m", "/a@b.gguf", -1.0)),
        ("m=/a=b.gguf", Adapter("m", "/a=b.gguf")),
        ("m=C:\\loras\\a.gguf@2", Adapter("m", "C:\\loras\\a.gguf", 2.0)),
        ("m=/a@nan", Adapter("m", "/a@nan")),  # no scale, so it is part of the name
    ],
)
def test_an_entry_is_a_model_a_file_and_a_scale(text: str, adapter: Adapter) -> None:
    assert parse_adapters([text]) == [adapter]


@pytest.mark.parametrize("text", ["", "m", "=/a.gguf", "m=", "m=@0.5", "m=a.gguf", "m=./a.gguf@1"])
def test_what_names_no_model_or_no_whole_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"MODEL=FILE|whole path"):
        parse_adapters(["m=/right.gguf", text])


def test_an_adapter_is_for_the_models_whose_ids_begin_with_its_own() -> None:
    adapter = Adapter.parse("smollm2:135m=/a.gguf")
    assert adapter.fits("smollm2:135m") and adapter.fits("SmolLM2:135m:instruct:q4_1")
    assert not adapter.fits("smollm2:1350m") and not adapter.fits("smollm2") and not adapter.fits("other:135m")


def test_a_draft_model_has_no_scale() -> None:
    entries = ["Qwen3:8b = ~/small.gguf", "m=/a@0.5"]
    assert parse_drafts(entries) == [Draft("qwen3:8b", "~/small.gguf"), Draft("m", "/a@0.5")]
    assert Draft.parse(entries[0]).fits("qwen3:8b:instruct") and not Draft.parse(entries[0]).fits("qwen3:8bit")


@pytest.mark.parametrize("text", ["", "m", "=/a.gguf", "m=", "m=a.gguf"])
def test_a_draft_model_without_a_model_or_a_whole_path_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"MODEL=FILE|whole path"):
        parse_drafts(["m=/right.gguf", text])
