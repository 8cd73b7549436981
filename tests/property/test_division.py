"""Who fetches which piece: nobody waits for ever, and little is fetched twice, whatever the speeds and whoever dies."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hali.model.units import PIECE
from hali.share.division import AHEAD, AT_ONCE, Division, Speed

STEP = 0.1  # seconds of the simulation


class Race:
    """HTTP at `http` and a swarm at `swarm` bytes a second, both exact; the swarm takes pieces in order, one after the other."""

    def __init__(self, pieces: int, http: float, swarm: float) -> None:
        self.division = Division(range(pieces))
        self.http, self.swarm = http, swarm
        self.now = 0.0
        self.left: dict[int, float] = {}  # bytes that HTTP still needs of its claims
        self.part: dict[int, float] = {}  # bytes that the swarm has of pieces it began
        self.by: dict[int, str] = {}
        self.wasted = 0.0

    def step(self) -> None:
        self.now += STEP
        # What a daemon measures: nothing before the first bytes, and 0.0 once a swarm is known to be silent.
        speed = Speed(http=self.http or None, swarm=self.swarm)
        self.division.share_out(self.now, speed)
        while self.http and (index := self.division.claim(self.now, speed, self.part)) is not None:
            self.left[index] = float(PIECE)
        self._http(self.http * STEP)
        self._swarm(self.swarm * STEP)

    def _http(self, budget: float) -> None:
        for index in list(self.left):
            self.left[index] -= budget / len(self.left)
        for index in [i for i, left in self.left.items() if left <= 0]:
            self._done(index, "http")

    def _swarm(self, budget: float) -> None:
        while budget > 0:
            claimed = self.division.claims.keys() - self.division.shared
            wanted = sorted(self.division.missing - claimed)
            if not wanted:
                return
            index = next((i for i in wanted if i in self.part), wanted[0])
            took = min(budget, PIECE - self.part.get(index, 0.0))
            self.part[index] = self.part.get(index, 0.0) + took
            budget -= took
            if self.part[index] >= PIECE:
                self._done(index, "swarm")

    def _done(self, index: int, who: str) -> None:
        fetched = PIECE - self.left.pop(index, float(PIECE))
        brought = self.part.pop(index, 0.0)
        self.wasted += brought if who == "http" else fetched
        self.by[index] = who
        self.division.done(index)


speeds = st.sampled_from([0.0, 1e6, 5e6, 20e6, 100e6, 400e6])


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 60), speeds, speeds, st.integers(0, 40), speeds, speeds)
def test_every_piece_comes_near_the_speed_of_both_together_whoever_dies(
    pieces: int, http: float, swarm: float, turn: int, http_later: float, swarm_later: float
) -> None:
    race = Race(pieces, http, swarm)
    for _ in range(turn):
        if race.division.missing:
            race.step()
    if race.http and not http_later:  # its claims fail with it
        for index in list(race.left):
            race.wasted += PIECE - race.left.pop(index)
            race.division.release(index)
    race.http, race.swarm = http_later, swarm_later
    both = http_later + swarm_later
    if not both:
        return
    left = len(race.division.missing)
    # At the end each may have a piece in hand that the other would have sooner, but not by much: see WORTH_IT.
    bound = (left + 2 * AT_ONCE) * PIECE / both * 2 + 20 * STEP
    steps = 0
    while race.division.missing:
        race.step()
        steps += 1
        assert steps * STEP <= bound
    assert len(race.by) == pieces
    assert race.division.claims == {} and race.division.shared == set()
    assert race.wasted <= 2 * AT_ONCE * PIECE + 1


@given(st.integers(1, 200), st.sampled_from([None, 0.0, 1e6, 1e9]), st.sampled_from([None, 0.0, 1e6, 1e9]))
def test_a_crash_never_finds_more_in_flight_than_promised(pieces: int, http: float | None, swarm: float | None) -> None:
    division = Division(range(pieces))
    claimed = []
    while (index := division.claim(0.0, Speed(http=http, swarm=swarm), ())) is not None:
        claimed.append(index)
    assert 1 <= len(claimed) <= AT_ONCE
    assert claimed == list(range(len(claimed)))  # in order, for the SHA-256 of the file follows them


def test_http_goes_ahead_of_the_swarm_by_little_and_takes_what_it_left_at_the_end() -> None:
    division = Division(range(100))
    even = Speed(http=1e7, swarm=1e7)
    assert [division.claim(0.0, even, {3, 4}) for _ in range(2)] == [4 + AHEAD + 1, 4 + AHEAD + 2]
    late = Division({1, 98, 99})
    assert late.claim(0.0, even, {98, 99}) == 1


def test_pieces_that_the_swarm_has_begun_are_left_to_it_while_it_is_fast() -> None:
    division = Division(range(3))
    fast = Speed(http=1e6, swarm=1e8)
    assert division.claim(0.0, fast, {0, 1, 2}) is None
    assert division.claim(0.0, Speed(http=1e8, swarm=1e6), {0, 1, 2}) == 2
    assert division.shared == {2}
