"""Where no GPU is known, the default is what 0 layers are: same model, same context, same turns of prompts and replies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from llama_cpp import llama_cpp as low

from hali.engine import backend
from hali.engine.backend import Model, open_model
from hali.engine.native_log import NativeLog
from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(low.llama_supports_gpu_offload(), reason="this llama.cpp has a GPU"),
]
DEADLINE_S = 60.0  # a hang is a failure


def fields(params: Any) -> dict[str, Any]:
    """Of a structure of ctypes, without addresses, which differ from model to model."""
    found = {name: getattr(params, name) for name, *_ in params._fields_}
    return {name: value for name, value in found.items() if isinstance(value, int | float) and "data" not in name}


def noting(call: Callable[..., Any], given: list[Any]) -> Callable[..., Any]:
    """`call`, with what it is given put into `given`."""

    def noted(first: Any, params: Any) -> Any:
        given.append(fields(params))
        return call(first, params)

    return noted


def told(monkeypatch: pytest.MonkeyPatch, path: Path, options: EngineOptions) -> tuple[list[Any], bool, int]:
    """What llama.cpp is given for model and context, whether prompts and replies take turns, layers on a GPU."""
    given: list[Any] = []
    with monkeypatch.context() as patch:
        for name in ("llama_model_load_from_file", "llama_init_from_model"):
            patch.setattr(low, name, noting(getattr(low, name), given))
        model = open_model(path, options, NativeLog(), lambda _: None)
    try:
        return given, model.tiled, model.gpu_layers
    finally:
        model.close()


def test_without_a_gpu_the_default_is_what_no_layers_are(monkeypatch: pytest.MonkeyPatch, smollm2: Path) -> None:
    default, chosen = (told(monkeypatch, smollm2, EngineOptions(n_ctx=512, gpu_layers=layers)) for layers in (None, 0))
    assert default == chosen
    given, tiled, layers = default
    assert tiled and layers == 0
    assert given[0]["n_gpu_layers"] == 0 and given[1]["n_ctx"] == 1024 and len(given) == 2


async def test_without_a_gpu_an_engine_tells_that_it_has_no_layers_on_one(smollm2: Path) -> None:
    for layers in (None, -1):
        engine = EngineProcess("test")
        with anyio.fail_after(DEADLINE_S):
            info = await engine.start(smollm2, EngineOptions(n_ctx=512, gpu_layers=layers))
            await engine.stop()
        assert info.gpu_layers == 0


@pytest.mark.parametrize("layers", [0, 5])
def test_where_layers_are_on_a_gpu_prompts_need_no_turns_and_images_go_there_too(
    monkeypatch: pytest.MonkeyPatch, smollm2: Path, layers: int
) -> None:
    options = EngineOptions(n_ctx=256, gpu_layers=layers, projector="p.gguf")
    made: list[Any] = []

    class Projector:
        def __init__(self, *_: object, gpu: bool, **__: object) -> None:
            made.append(gpu)

        def close(self) -> None:
            pass

    monkeypatch.setattr(backend, "Projector", Projector)
    monkeypatch.setattr(low, "llama_supports_gpu_offload", lambda: True)  # llama.cpp itself knows better
    model = Model(smollm2, options, NativeLog(), lambda _: None)
    try:
        assert (model.gpu_layers, model.tiled) == (layers, layers == 0)
        model.projector(options)
        assert made == [layers > 0]
    finally:
        model.close()
