"""What one node of several that fetch the same asks the seeds for."""

from __future__ import annotations

import msgspec

from hali.transfer.stripes import (
    AHEAD,
    ANYTHING,
    DRAIN_S,
    FREE_S,
    LARGE,
    LOW,
    REST_S,
    STARVED_S,
    STEP_S,
    STEPS,
    Fellow,
    Stripes,
    View,
    levels,
    owners,
)

ME, OTHER = b"m" * 20, b"o" * 20
SEEDS = frozenset({"10.0.0.1"})
PIECES = 12
OWNERS = owners(PIECES, [ME, OTHER])
MINE = frozenset(i for i in range(PIECES) if OWNERS[i] == ME)
THEIRS = frozenset(range(PIECES)) - MINE


def view(
    has: frozenset[int] = frozenset(),
    missing: frozenset[int] = frozenset(range(PIECES)),
    *,
    seeds: frozenset[str] = SEEDS,
    rate: int = 10**6,
) -> View:
    return View((Fellow(OTHER, "10.0.0.3", has),), seeds, missing, rate)


def begun(stripes: Stripes, seen: View | None = None) -> list[int]:
    """The pieces that are opened one after the other."""
    opened: list[int] = []
    seen = seen or view()
    while (orders := stripes.decide(seen, 0.0)).for_s == STEP_S:
        assert orders.counts
        assert orders.closed == seen.missing - orders.own, "a seed would be asked for others too"
        opened += orders.own
        seen = msgspec.structs.replace(seen, begun=seen.begun | orders.own)
    return opened


def test_a_piece_that_no_seed_was_asked_for_yet_stays_the_only_one() -> None:
    """A seed that sends in bursts leaves room for a request every half second; what is taken for begun would wait for the last."""
    stripes = Stripes(ME, PIECES, LARGE)
    first, second = sorted(MINE)[:2]
    for _ in range(STEPS):
        assert stripes.decide(view(), 0.0).own == {first}
    assert stripes.decide(msgspec.structs.replace(view(), begun=frozenset({first})), 0.0).own == {second}


def test_who_is_let_ask_no_seed_goes_on_with_everything_and_tries_again() -> None:
    stripes = Stripes(ME, PIECES, LARGE)
    for _ in range(STEPS):
        assert stripes.decide(view(), 0.0).counts
    for now in (0.0, REST_S - 0.1):
        rest = stripes.decide(view(), now)
        assert (rest.own, rest.closed, rest.counts) == (MINE, THEIRS, False)
    assert stripes.decide(view(), REST_S).own == {min(MINE)}


def test_what_was_begun_without_being_told_to_is_not_begun_again() -> None:
    seen = msgspec.structs.replace(view(), begun=MINE | THEIRS)
    assert not begun(Stripes(ME, PIECES, LARGE), seen)


def test_our_own_pieces_are_begun_one_after_the_other_then_come_first() -> None:
    stripes = Stripes(ME, PIECES, LARGE)
    assert begun(stripes) == sorted(MINE), "else libtorrent would not begin the last ones while others are under way"
    orders = stripes.decide(view(), 0.0)
    assert (orders.own, orders.closed, orders.aside) == (MINE, THEIRS, frozenset())


def test_small_pieces_are_not_begun_one_by_one() -> None:
    """Each would be whole before the next look: ten of 256 KiB a second, while nobody is asked for anything else."""
    orders = Stripes(ME, PIECES, LARGE // 2).decide(view(), 0.0)
    assert (orders.own, orders.closed, orders.counts) == (MINE, THEIRS, False)


def test_before_anybody_sends_there_is_no_hurry_to_begin_one_after_the_other() -> None:
    orders = Stripes(ME, PIECES, LARGE).decide(view(rate=0), 0.0)
    assert (orders.own, orders.closed) == (MINE, THEIRS)


def test_of_many_own_pieces_a_few_are_begun_and_more_when_they_run_out() -> None:
    stripes = Stripes(ME, 100, LARGE)
    missing, mine = frozenset(range(100)), [i for i, owner in enumerate(owners(100, [ME, OTHER])) if owner == ME]
    assert begun(stripes, view(missing=missing)) == mine[:AHEAD]
    missing -= set(mine[: AHEAD - LOW - 1])
    assert not begun(stripes, view(missing=missing))
    missing -= set(mine[: AHEAD - LOW])
    assert begun(stripes, view(missing=missing)) == mine[AHEAD : 2 * AHEAD - LOW]


def test_once_all_of_our_own_is_asked_for_the_seeds_are_asked_for_nothing_else() -> None:
    """What they were asked for of others' pieces while the last blocks came: 2 to 3 % of 1 GiB with nine nodes."""
    last, coming, *rest = sorted(MINE)
    left = frozenset({last, coming, *THEIRS})
    held = frozenset(rest) | THEIRS | {coming}
    asked = msgspec.structs.replace(view(held, left), begun=frozenset({last, coming}), asked=frozenset({last, coming}))
    stripes = Stripes(ME, PIECES, LARGE)
    orders = stripes.decide(asked, 0.0)
    assert (orders.own, orders.closed) == ({last}, THEIRS), "and what is on its way to us keeps libtorrent from ending"
    assert stripes.decide(asked, DRAIN_S - 0.1) == orders
    assert not stripes.decide(asked, DRAIN_S).closed, "it does not come: then not for ever"


def test_what_is_not_asked_for_yet_keeps_everything_open() -> None:
    last, coming, *rest = sorted(MINE)
    left, held = frozenset({last, coming, *THEIRS}), frozenset(rest) | THEIRS | {coming}
    some = msgspec.structs.replace(view(held, left), begun=frozenset({last}), asked=frozenset({coming}))
    assert not Stripes(ME, PIECES, LARGE).decide(some, 0.0).closed
    nothing_else = msgspec.structs.replace(some, asked=frozenset({last}))
    assert not Stripes(ME, PIECES, LARGE).decide(nothing_else, 0.0).closed


def test_what_another_has_already_is_not_asked_of_the_seed_first() -> None:
    stripes, held = Stripes(ME, PIECES, LARGE), frozenset(sorted(MINE)[:2])
    assert begun(stripes, view(held)) == sorted(MINE - held)
    assert stripes.decide(view(held), 0.0).own == MINE - held


def test_pieces_of_others_are_closed_until_one_of_them_has_them() -> None:
    stripes, held = Stripes(ME, PIECES, LARGE), frozenset(sorted(THEIRS)[:2])
    begun(stripes)
    assert stripes.decide(view(held), 0.0).closed == THEIRS - held


def test_a_seed_that_has_nothing_of_our_own_is_put_aside() -> None:
    orders = Stripes(ME, PIECES, LARGE).decide(view(missing=THEIRS), 0.0)
    assert orders.aside == SEEDS
    assert not orders.own | orders.closed


def test_a_seed_on_the_host_of_another_that_fetches_is_not_put_aside() -> None:
    seeds = frozenset({"10.0.0.3"})
    assert not Stripes(ME, PIECES, LARGE).decide(view(missing=THEIRS, seeds=seeds), 0.0).aside


def test_where_there_are_as_many_seeds_as_those_who_fetch_anything_is_asked_of_anybody() -> None:
    seeds = frozenset({"10.0.0.1", "10.0.0.2"})
    assert Stripes(ME, PIECES, LARGE).decide(view(seeds=seeds), 0.0) == ANYTHING


def test_alone_anything_is_asked_of_anybody() -> None:
    assert Stripes(ME, PIECES, LARGE).decide(View((), SEEDS, frozenset({1})), 0.0) == ANYTHING


def test_who_does_not_bring_what_is_theirs_loses_it_until_they_bring_something() -> None:
    stripes = Stripes(ME, PIECES, LARGE)
    silent = view(missing=THEIRS, rate=0)
    assert not stripes.decide(silent, 0.0).own
    assert not stripes.decide(silent, STARVED_S).own
    late = STARVED_S + 0.1
    assert stripes.decide(silent, late).own == THEIRS
    assert stripes.decide(silent, late).own == THEIRS
    brought = frozenset(sorted(THEIRS)[:1])
    assert not stripes.decide(view(brought, THEIRS), late).own


def test_who_gets_the_last_pieces_as_slowly_as_we_got_ours_is_waited_for() -> None:
    """Else the seed sent the last piece of each once more: a tenth of 512 MiB with nine nodes."""
    stripes = Stripes(ME, PIECES, LARGE)
    left, now = frozenset(range(PIECES)), 0.0
    for piece in sorted(MINE):  # one of ours in ten seconds, while the others bring all of theirs but one
        stripes.decide(view(missing=left), now)
        now += 10.0
        left -= {piece}
    last = max(THEIRS)
    stripes.decide(view(missing=left, has=THEIRS - {last}), now)
    starving = view(missing=frozenset({last}), has=THEIRS - {last}, rate=0)
    for _ in range(19):
        now += 1.0
        assert stripes.decide(starving, now).own == frozenset(), "it is on its way to its owner"
    assert stripes.decide(starving, now + 2.0).own == {last}


def test_when_others_have_everything_and_do_not_send_it_the_seed_helps_for_a_while() -> None:
    stripes = Stripes(ME, PIECES, LARGE)
    silent = view(THEIRS, THEIRS, rate=0)
    assert stripes.decide(silent, 0.0).aside == SEEDS
    late = STARVED_S + 0.1
    assert stripes.decide(silent, late) == ANYTHING
    assert stripes.decide(view(THEIRS, THEIRS), late + FREE_S - 0.1) == ANYTHING
    assert stripes.decide(view(THEIRS, THEIRS), late + FREE_S).aside == SEEDS


def test_a_partial_seed_owns_nothing() -> None:
    part = View((Fellow(OTHER, "10.0.0.3", THEIRS, fetching=False),), SEEDS, frozenset(range(PIECES)), 10**6)
    assert begun(Stripes(ME, PIECES, LARGE), part) == sorted(MINE)


def test_orders_as_priorities_name_the_own_and_the_closed_pieces_only() -> None:
    stripes, held = Stripes(ME, PIECES, LARGE), frozenset(sorted(THEIRS)[:2])
    begun(stripes)
    orders = stripes.decide(view(held), 0.0)
    assert levels(orders, first=7, never=0) == dict.fromkeys(MINE, 7) | dict.fromkeys(THEIRS - held, 0)
