"""A piece that libtorrent called right and its owner read otherwise: fetched again if it is wrong by now, else told again."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hali.model.units import MIB
from hali.transfer.session import FetchEvent, Finished, PieceDone
from tests.fakes.torrents import KINDS, local, make, two_sessions

pytestmark = pytest.mark.anyio

DEADLINE_S = 90.0  # a hang is a failure
DOUBTED, PIECES = 2, 6


@pytest.mark.parametrize("wrong", [True, False], ids=["wrong", "right"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_doubted_piece_comes_again(tmp_path: Path, kind: str, wrong: bool) -> None:
    sample = make(tmp_path / "seed", PIECES * MIB, MIB, KINDS[kind])
    events: list[FetchEvent] = []
    async with two_sessions() as (seeder, leecher):
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        fetch = leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder))
        async with fetch:
            fetch.leave_out([PIECES - 1])  # so that it is not over by then
            with anyio.fail_after(DEADLINE_S):
                async for event in fetch.events():
                    events.append(event)
                    if event_is(event, DOUBTED) and sum(event_is(it, DOUBTED) for it in events) == 1:
                        if wrong:
                            write_over(tmp_path / "model.gguf", DOUBTED * MIB + 5)
                        fetch.doubt(DOUBTED)
                    elif event_is(event, DOUBTED):
                        fetch.take_back([PIECES - 1])
    assert isinstance(events[-1], Finished)
    assert (tmp_path / "model.gguf").read_bytes() == sample.content
    assert sum(event_is(it, DOUBTED) for it in events) == 2


def event_is(event: FetchEvent, index: int) -> bool:
    return isinstance(event, PieceDone) and event.index == index


def write_over(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"a lie")
