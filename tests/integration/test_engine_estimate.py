"""The estimate against what llama.cpp says it allocates, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from hali.engine.estimate import estimate, shape_of
from hali.engine.options import EngineOptions
from hali.wire.gguf import read_layout_file
from tests.fakes.tiny_models import spm

pytestmark = pytest.mark.model

WITHIN = 0.10
MEASURE = r"""
import ctypes, json, re, sys
from llama_cpp import llama_cpp as low
from hali.engine import backend
from hali.engine.native_log import NativeLog
from hali.engine.options import EngineOptions
from pathlib import Path
import msgspec
lines = []
class Log(NativeLog):
    def _take(self, level, text, _):
        lines.append(text.decode("utf-8", "replace"))
log = Log()
log.install()
options = msgspec.json.decode(sys.argv[2], type=EngineOptions)
model = backend.Model(Path(sys.argv[1]), options, log, lambda _: None)
model.close()
found = {}
for kind, size in re.findall(r" (model|KV|compute|output) buffer size\s*=\s*([\d.]+) MiB", "".join(lines)):
    found[kind] = found.get(kind, 0.0) + float(size)
print(json.dumps(found))
"""


def taken(path: Path, options: EngineOptions) -> dict[str, float]:
    """MiB by kind of buffer, in llama.cpp's own words; the worker's own code chooses the sizes."""
    import msgspec

    command = [sys.executable, "-c", MEASURE, str(path), msgspec.json.encode(options).decode()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == {"model", "KV", "compute", "output"}
    return found


def check(path: Path, options: EngineOptions) -> None:
    real = taken(path, options)
    told = estimate(shape_of([read_layout_file(path)]), options)
    mine = {"model": told.weights, "KV": told.kv, "compute": told.compute, "output": told.output}
    print({kind: (real[kind], round(mine[kind] / 2**20, 2)) for kind in real})
    total = sum(real.values()) * 2**20
    assert abs(sum(mine.values()) - total) <= WITHIN * total
    for kind in ("model", "KV"):
        assert abs(mine[kind] - real[kind] * 2**20) <= 0.02 * real[kind] * 2**20 + 2**13


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(n_ctx=512, n_seq_max=1),
        EngineOptions(),
        EngineOptions(n_ctx=8192),
        EngineOptions(n_ctx=2000, kv_type="f32", n_batch=128),
        EngineOptions(n_ctx=8192, kv_type="q8_0"),
        EngineOptions(n_ctx=8192, flash_attn=False),
    ],
    ids=["short", "default", "long", "f32", "q8_0", "no flash"],
)
def test_smollm2_takes_what_was_estimated(smollm2: Path, options: EngineOptions) -> None:
    check(smollm2, options)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of another shape: heads of 32, one KV head for four, a wide feed-forward part, an output of its own."""
    width, heads, groups, inner, layers = 256, 8, 2, 2048, 5
    path = tmp_path_factory.mktemp("odd") / "odd.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(8192)
    writer.add_block_count(layers)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(1e-5)
    words = spm(writer)
    kv = width // heads * groups
    matrices = {"attn_q": (width, width), "attn_k": (kv, width), "attn_v": (kv, width), "attn_output": (width, width)}
    matrices |= {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (words, width),
        "output": (words, width),
        "output_norm": (width,),
    }
    for layer in range(layers):
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in matrices.items()}
        shapes |= {f"blk.{layer}.{name}": (width,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", np.full(shape, 0.01, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("n_ctx", [512, 4096])
def test_a_model_of_another_shape_takes_what_was_estimated(odd: Path, n_ctx: int) -> None:
    check(odd, EngineOptions(n_ctx=n_ctx))
