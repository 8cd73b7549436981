"""How the download budget is divided: nobody starves, nothing is lost, and it settles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hali.transfer.throttle import HEADROOM, LEAST, torrent_share, whole

STEPS = 4  # ticks of 0.25 s: an idle share has moved within a second

rates = st.floats(0, 1e9, allow_nan=False)
caps = st.floats(1, 1e9, allow_nan=False)


class Plant:
    """Two transfers that could use so much, under one cap: BitTorrent up to its share, HTTP up to what that leaves."""

    def __init__(self, cap: float, torrent_wants: float, http_wants: float, share: float) -> None:
        self.cap, self.torrent_wants, self.http_wants, self.share = cap, torrent_wants, http_wants, share
        self.torrent = self.http = 0.0

    def step(self) -> None:
        """One tick: bytes move, then the share is decided anew."""
        self.torrent = min(self.torrent_wants, self.share)
        self.http = min(self.http_wants, self.cap - self.torrent)
        self.share = torrent_share(self.cap, self.http, self.http < self.http_wants)


@given(caps, rates, st.booleans())
def test_both_shares_make_up_the_cap_and_none_is_below_a_half_that_it_wants(
    cap: float, http: float, hungry: bool
) -> None:
    share = torrent_share(cap, http, hungry)
    assert cap / 2 <= share <= cap
    if hungry:
        assert cap - share == cap / 2


@given(caps, st.floats(0, 3), st.floats(0, 3), st.floats(0, 1))
def test_it_settles_within_a_second_on_all_that_can_be_used(
    cap: float, torrent: float, http: float, share: float
) -> None:
    plant = Plant(cap, torrent * cap, http * cap, share * cap)
    for _ in range(STEPS):
        plant.step()
        assert plant.torrent + plant.http <= cap * (1 + 1e-9)
    settled = plant.torrent, plant.http
    plant.step()
    assert (plant.torrent, plant.http) == settled
    usable = min(cap, torrent * cap + http * cap)
    # What HTTP must be able to show of its appetite is all that may be lost.
    assert sum(settled) >= usable - max((HEADROOM - 1) * plant.http, LEAST * cap) - 1e-6 * cap
    for got, wanted in zip(settled, (torrent * cap, http * cap), strict=True):
        assert got >= min(wanted, cap / 2) - 1e-6 * cap


@given(caps)
def test_what_is_idle_leaves_everything_to_the_other(cap: float) -> None:
    assert torrent_share(cap, 0.0, False) == cap
    plant = Plant(cap, 0.0, 2 * cap, cap)
    plant.step()
    assert plant.http == cap


@given(st.floats(0, 1e9, allow_nan=False))
def test_a_cap_never_becomes_none_by_rounding(rate: float) -> None:
    assert (whole(rate) == 0) == (rate == 0)
    assert abs(whole(rate) - rate) <= 1
