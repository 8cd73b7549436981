"""A decoded frame written once more."""

from __future__ import annotations

from hali._native import frames


def encoded_again(got: frames.Frame, values: object) -> bytearray:
    """`got` with these values, by the compiled codec."""
    return frames.encode(
        got.kind,
        session=got.session,
        step=got.step,
        layer_start=got.layer_start,
        layer_end=got.layer_end,
        flags=got.flags,
        features=got.features,
        positions=got.positions,
        sequences=got.sequences,
        outputs=got.outputs,
        cols=got.cols,
        dtype=got.dtype,
        payload=values,  # type: ignore[arg-type]
        ext=got.ext,
    )
