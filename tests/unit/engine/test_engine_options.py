"""Options that cannot work are named before a process is started."""

from __future__ import annotations

from typing import Any

import pytest

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.model.errors import ModelLoadFailed, UsageError


def test_the_defaults_are_without_fault() -> None:
    assert EngineOptions().problems() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"n_seq_max": 0},
        {"n_seq_max": 257},
        {"n_batch": 1},
        {"n_ctx": -1},
        {"threads": -2},
        {"kv_type": "q8_0", "flash_attn": False},
    ],
)
async def test_impossible_options_are_usage_errors(wrong: dict[str, Any], tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="engine options"):
        await EngineProcess("m").start(tmp_path / "m.gguf", EngineOptions(**wrong))


def test_a_quantised_cache_goes_with_flash_attention() -> None:
    assert EngineOptions(kv_type="q8_0").problems() == []


async def test_a_missing_file_is_a_load_failure(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(ModelLoadFailed, match=r"nothing\.gguf"):
        await EngineProcess("m").start(tmp_path / "nothing.gguf")
