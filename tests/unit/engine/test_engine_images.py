"""What libmtmd would do wrongly without a word is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_cpp")

from hali.engine import vision
from hali.engine.vision import Picture, Projector
from hali.model.errors import EngineFailed


@pytest.mark.parametrize("seen_as_a_whole", [True, False])
def test_an_image_that_is_seen_as_a_whole_must_fit_one_batch(
    monkeypatch: pytest.MonkeyPatch, seen_as_a_whole: bool
) -> None:
    computed = []

    def compute(*given: object) -> int:
        computed.append(given)
        return 1

    monkeypatch.setattr(vision.mtmd, "mtmd_decode_use_non_causal", lambda *_: seen_as_a_whole)
    monkeypatch.setattr(vision.mtmd, "mtmd_helper_eval_chunk_single", compute)
    projector = Projector.__new__(Projector)
    projector._ctx = None
    for rows in (65, 64):
        with pytest.raises(EngineFailed, match="batch of 64" if seen_as_a_whole and rows > 64 else "code 1"):
            projector.decode(None, 0, Picture(0, rows, None), 64)
    assert len(computed) == (1 if seen_as_a_whole else 2)
