"""What a pull of some layers wants, while the header comes piece by piece."""

from __future__ import annotations

from pathlib import Path

import libtorrent as lt
import pytest

from hali.model.errors import NoSpace, Refused
from hali.model.units import MIB, PIECE, piece_span
from hali.share.incoming import IncomingFile
from hali.share.part import NoSuchPart, Part
from tests.fakes.torrents import make
from tests.unit.wire.gguf_files import LLAMA, gguf, pair, tensor

pytestmark = pytest.mark.anyio

LAYER = 20 * MIB
HEADER = 5  # strings of 4 MiB: the header ends in the second piece


def model(layers: int = 3, *, cut: int = 0) -> bytes:
    """A model of big layers behind a header of some 20 MB; `cut` bytes are missing at its end."""
    long = [pair(f"x.{i}", 8, "v" * (4 * MIB)) for i in range(HEADER)]
    tensors = [tensor(f"blk.{i}.w", [LAYER // 4], offset=i * LAYER) for i in range(layers)]
    data = gguf([*LLAMA, *long], tensors, data=layers * LAYER)
    return data[: len(data) - cut]


async def opened(tmp_path: Path, length: int) -> IncomingFile:
    return await IncomingFile.open(tmp_path, "m.gguf", length, whole=False)


async def put(incoming: IncomingFile, data: bytes, index: int) -> None:
    offset, size = piece_span(index, len(data))
    await incoming.write_piece(index, data[offset : offset + size])


async def test_the_header_comes_first_and_then_only_the_layers(tmp_path: Path) -> None:
    data, admitted = model(), list[int]()
    part = Part((0, 1), admitted.append)
    with await opened(tmp_path, len(data)) as incoming:
        assert await part.look(incoming) == {0}
        await put(incoming, data, 0)
        assert await part.look(incoming) == {0, 1}
        assert admitted == []
        await put(incoming, data, 1)
        start = len(data) - 3 * LAYER
        assert await part.look(incoming) == set(range((start + LAYER - 1) // PIECE + 1))
        assert admitted == [part.size(len(data))] and admitted[0] < len(data)
        await put(incoming, data, 2)
        await part.look(incoming)
        assert len(admitted) == 1


async def test_a_later_piece_alone_does_not_tell_the_header(tmp_path: Path) -> None:
    data = model()
    part = Part((0, 1))
    with await opened(tmp_path, len(data)) as incoming:
        await put(incoming, data, 1)
        assert await part.look(incoming) == {0}


@pytest.mark.parametrize("what", ["no GGUF", "tensors beyond the end", "too few layers"])
async def test_what_has_no_such_layers_is_refused_at_its_first_pieces(tmp_path: Path, what: str) -> None:
    data = {"no GGUF": b"x" * (3 * PIECE), "tensors beyond the end": model(cut=LAYER), "too few layers": model()}[what]
    part = Part((0, 1) if what != "too few layers" else (0, 99))
    with await opened(tmp_path, len(data)) as incoming:
        for index in range(3):
            await put(incoming, data, index)
            if what != "no GGUF" and index == 0:
                assert await part.look(incoming) == {0, 1}, "the header goes on"
                continue
            with pytest.raises(NoSuchPart, match=r"m\.gguf"):
                await part.look(incoming)


async def test_layers_for_which_there_is_no_room_are_refused_and_asked_for_again(tmp_path: Path) -> None:
    data = model()

    def full(size: int) -> None:
        raise NoSpace("full")

    with await opened(tmp_path, len(data)) as incoming:
        for index in range(2):
            await put(incoming, data, index)
        with pytest.raises(NoSpace):
            await Part((0, 1), full).look(incoming)


async def test_only_torrents_whose_pieces_can_be_checked_will_do(tmp_path: Path) -> None:
    right = make(tmp_path / "right", 20 * MIB, PIECE).metainfo
    Part.check(right)
    small = make(tmp_path / "small", 20 * MIB, MIB).metainfo
    v2 = make(tmp_path / "v2", 20 * MIB, PIECE, lt.create_torrent.v2_only).metainfo
    v1 = make(tmp_path / "v1", 20 * MIB, PIECE, lt.create_torrent.v1_only).metainfo
    for torrent in (small, v2, v1):
        with pytest.raises(Refused, match="16 MiB"):
            Part.check(torrent)
