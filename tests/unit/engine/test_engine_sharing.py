"""Sessions that begin alike compute that beginning once, whether the others are running, waiting or gone."""

from __future__ import annotations

from typing import Any, cast

import pytest

pytest.importorskip("llama_cpp")

from hali.engine.prefix import BLOCK, GRAIN
from hali.engine.retained import Retained
from hali.engine.session import Session
from hali.engine.sharing import Sharing, common
from hali.engine.telling import Drawn
from hali.model.generation import SamplingParams


class FakeRetained:
    """Keeps texts whole, and notes what was given to whom."""

    def __init__(self) -> None:
        self.texts: list[list[int]] = []
        self.given: list[tuple[Any, ...]] = []

    def reusable(self, tokens: list[int]) -> int:
        return len(tokens) - 1

    def kept(self, tokens: list[int]) -> int:
        most = max((common(text, tokens) for text in self.texts), default=0)
        return min(most, self.reusable(tokens)) // GRAIN * GRAIN

    def attach(self, key: int, tokens: list[int], length: int) -> int:
        self.given.append(("kept", key, length))
        return length

    def share(self, source: int, key: int, length: int) -> None:
        self.given.append(("shared", source, key, length))

    def keep(self, key: int, tokens: list[int]) -> None:
        self.texts.append(list(tokens))


class Sampler:
    def sample(self, ctx: Any, row: int) -> int:
        raise AssertionError("not asked here")

    def drawn(self) -> Drawn:
        raise AssertionError("not asked here")

    def close(self) -> None:
        pass


def session(key: int, prompt: list[int], done: int = 0, pictures: tuple[Any, ...] = ()) -> Session:
    made = Session(b"", prompt, SamplingParams(), stops=(), n_ctx=10_000, sampler=Sampler(), pictures=pictures)
    made.key, made.done = key, done
    return made


SYSTEM = [1] * 100


def rig(*others: Session) -> tuple[FakeRetained, Sharing]:
    retained = FakeRetained()
    sharing = Sharing(cast(Retained, retained))
    for other in others:
        sharing.cells.resize(other.key, other.done)
    return retained, sharing


def test_what_another_has_computed_is_shared_and_its_cells_count_once() -> None:
    donor, new = session(0, [*SYSTEM, 2], done=101), session(1, [*SYSTEM, 3, 3])
    retained, sharing = rig(donor)
    sharing.enter(new, [donor])
    assert sharing.ready(new)
    assert retained.given == [("shared", 0, 1, 100)]
    assert (new.done, new.cached, sharing.cells.used) == (100, 100, 101)


def test_what_another_is_about_to_compute_is_waited_for() -> None:
    donor, new = session(0, [*SYSTEM, 2], done=64), session(1, [*SYSTEM, 3, 3])
    retained, sharing = rig(donor)
    sharing.enter(new, [donor])
    assert not sharing.ready(new)
    assert retained.given == []
    donor.done = 101
    sharing.cells.resize(0, 101)
    assert sharing.ready(new)
    assert new.done == 100


def test_who_waited_for_one_that_ended_takes_what_was_kept_of_it_or_begins() -> None:
    for kept, expected in ((True, 64), (False, 0)):
        donor, new = session(0, [*SYSTEM, 2], done=64), session(1, [*SYSTEM, 3, 3])
        _, sharing = rig(donor)
        sharing.enter(new, [donor])
        if kept:
            sharing.keep(donor)
        sharing.leave(donor)
        donor.key = -1
        assert sharing.ready(new)
        assert (new.done, sharing.cells.used) == (expected, expected)


def test_who_was_put_back_does_not_wait_for_those_who_wait_for_it() -> None:
    donor, new, third = session(0, [*SYSTEM, 2], done=64), session(1, [*SYSTEM, 3, 3]), session(2, [*SYSTEM, 3, 4])
    _, sharing = rig(donor)
    sharing.enter(new, [donor])
    sharing.enter(third, [new])
    sharing.leave(donor)
    donor.key, donor.done = 3, 0  # let in again before anybody looked
    sharing.enter(donor, [new, third])
    assert sharing.ready(donor)
    donor.done = 101
    sharing.cells.resize(3, 101)
    assert sharing.ready(new)
    assert new.done == 100


def test_what_a_session_computed_itself_before_it_was_put_back_was_not_there_before() -> None:
    back = session(0, [*SYSTEM, 2])
    retained, sharing = rig()
    back.begin()
    retained.texts.append(SYSTEM)
    sharing.enter(back, [])
    assert (back.done, back.cached) == (100, 0)


def test_what_is_kept_is_taken_when_it_is_more_than_the_running_have() -> None:
    donor, new = session(0, [*SYSTEM, 2], done=101), session(1, [*SYSTEM, 3, 3, 3, 3, 3, 3])
    retained, sharing = rig(donor)
    retained.texts.append([*SYSTEM, 3, 3, 3, 3])
    sharing.enter(new, [donor])
    assert retained.given == [("kept", 1, 104)]
    assert new.done == 104


class Image:
    def __init__(self, start: int, count: int) -> None:
        self.start, self.count = start, count

    def close(self) -> None:
        pass


def test_an_image_is_shared_whole_or_not_at_all() -> None:
    donor = session(0, [*SYSTEM, 2], done=101)
    for images, expected in (((Image(90, 20),), 88), ((Image(51, 30), Image(81, 40)), 48), ((Image(40, 20),), 100)):
        new = session(1, [*SYSTEM, 3, 3], pictures=images)
        _, sharing = rig(donor)
        sharing.enter(new, [donor])
        assert sharing.ready(new)
        assert new.done == expected


def test_a_short_common_beginning_is_not_worth_a_wait() -> None:
    donor, new = session(0, [1] * (BLOCK - 1) + [2]), session(1, [1] * (BLOCK - 1) + [3])
    _, sharing = rig(donor)
    sharing.enter(new, [donor])
    assert sharing.ready(new)
    assert new.done == 0


def test_without_a_cache_nobody_shares_or_waits() -> None:
    donor, new = session(0, [*SYSTEM, 2], done=3), session(1, [*SYSTEM, 3])
    sharing = Sharing(None)
    sharing.enter(new, [donor])
    sharing.keep(donor)
    assert sharing.ready(new)
    assert new.done == 0


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 600])
def test_the_common_beginning_is_found_to_the_token(length: int) -> None:
    one = list(range(700))
    assert common(one, [*one[:length], -1, -1]) == length
    assert common(one, one[:length]) == length
