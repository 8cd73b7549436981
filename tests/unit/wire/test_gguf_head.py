"""The beginning of a GGUF file says what it can, and nothing that is not there."""

from __future__ import annotations

import pytest

from hali.wire.gguf import GgufError
from hali.wire.gguf_head import read_head
from tests.unit.wire.gguf_files import LLAMA, gguf, pair, tensor

WHOLE = gguf(LLAMA, [tensor("a", [32])], data=4096)


def test_a_whole_header_is_read() -> None:
    head = read_head(WHOLE, len(WHOLE))
    assert (head.architecture, head.size_label, head.quantization, head.tensor_count) == ("llama", "1M", "Q4_K_M", 1)


def test_wherever_the_bytes_end_what_came_before_is_known() -> None:
    known = []
    for at in range(24, len(WHOLE)):
        try:
            head = read_head(WHOLE[:at], len(WHOLE))
        except GgufError as exc:
            assert exc.reason == "architecture" and not known
        else:
            known.append(head.quantization)
    assert known == [None] * known.count(None) + ["Q4_K_M"] * (len(known) - known.count(None))
    assert 0 < known.count(None) < len(known)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "magic"),
        (b"GGUX" + WHOLE[4:], "magic"),
        (WHOLE[:20], "truncated"),
        (gguf(LLAMA, version=9), "version"),
        (gguf(LLAMA, keys=2**40), "limit"),
        (gguf([pair("general.architecture", 8, "a")] * 2), "duplicate"),
        (gguf([pair("general.name", 8, "x")]), "architecture"),
        (gguf([pair("general.architecture", 4, 7)]), "architecture"),
    ],
)
def test_what_cannot_be_a_gguf_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(GgufError) as caught:
        read_head(data, max(len(data), 4096) if data else 0)
    assert caught.value.reason == reason
