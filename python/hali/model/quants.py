"""Quantizations as file names spell them: llama.cpp's types, Unsloth's UD-, ik_llama.cpp's, importance-matrix marks, BitNet's."""

from __future__ import annotations

import re

import msgspec

_QUANT = re.compile(
    r"""(?<![a-z0-9])
    (?P<imatrix>i1[-._])?                            # mradermacher: weighted by an importance matrix
    (?P<quant>(?:ud-)?(?:
        i?q[1-8](?:_(?!imat)[0-9a-z]{1,4})*          # Q4_K_M, q8_0, Q4_0_4_8, IQ4_KSS, IQ1_S_R4, Q1_0_g128; bare Q4
      | tq[12]_0 | i2_s                              # ternary; BitNet
      | mxfp4(?:_moe)? | nvfp4
      | bf16 | fp?16 | fp?32
    ))
    (?P<calibrated>[-._]imat(?:rix)?)?
    (?![a-z0-9])""",
    re.VERBOSE | re.ASCII,
)
_GLUED = re.compile(r"(?<=[a-z])(?=I?Q[1-8]_[0-9K])", re.ASCII)  # Mistral AI's `devstralQ4_K_M.gguf`
_EDGES = "-._ "


class Quant(msgspec.Struct, frozen=True):
    """A quantization: `type` is llama.cpp's (`q4_k_m`, `ud-iq2_m`), `label` has the marks of an importance matrix too."""

    type: str
    label: str


def take_quant(name: str) -> tuple[Quant | None, str]:
    """The last quantization in a name without extension, and the lower-case rest of the name."""
    text = _GLUED.sub("-", name).lower()
    every = list(_QUANT.finditer(text))
    if not every:
        return None, text
    found = every[-1]
    kind = found["quant"].replace("fp16", "f16").replace("fp32", "f32")
    label = f"{'i1-' if found['imatrix'] else ''}{kind}{'-imat' if found['calibrated'] else ''}"
    return Quant(kind, label), _joined(text[: found.start()], text[found.end() :])


def _joined(before: str, after: str) -> str:
    return "-".join(filter(None, (before.rstrip(_EDGES), after.lstrip(_EDGES))))
