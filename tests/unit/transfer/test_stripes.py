"""What one node of several that fetch the same asks the seeds for."""

from __future__ import annotations

import msgspec
import pytest

from hali.model.units import BLOCK
from hali.transfer.ownership import FIRST, Fellow, owners
from hali.transfer.stripes import (
    AHEAD,
    ANYTHING,
    DRAIN_S,
    FREE_S,
    LARGE,
    LOOK_S,
    LOW,
    REST_S,
    SHARE,
    SHORT_STEP_S,
    STARVED_S,
    STEP_BLOCKS,
    STEP_S,
    TRY_S,
    Stripes,
    View,
    before_others,
    levels,
)

ME, OTHER = b"m" * 20, b"o" * 20
SEEDS = frozenset({"10.0.0.1"})
PIECES = 12
OWNERS = owners(PIECES, [ME, OTHER])
MINE = frozenset(i for i in range(PIECES) if OWNERS[i] == ME)
THEIRS = frozenset(range(PIECES)) - MINE
HELD = frozenset({min(THEIRS)})  # by the other already


def view(
    has: frozenset[int] = HELD,
    missing: frozenset[int] = frozenset(range(PIECES)),
    *,
    seeds: frozenset[str] = SEEDS,
    rate: int = 10**6,
) -> View:
    return View((Fellow(OTHER, "10.0.0.3", has),), seeds, missing, rate)


def seen_by_other(has: frozenset[int], missing: frozenset[int]) -> View:
    return View((Fellow(ME, "10.0.0.2", has),), SEEDS, missing, 10**6)


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
    for now in (0.0, TRY_S - 0.1):
        assert stripes.decide(view(), now).own == {first}
    assert stripes.decide(msgspec.structs.replace(view(), begun=frozenset({first})), TRY_S - 0.1).own == {second}


def test_who_is_let_ask_no_seed_goes_on_with_everything_and_tries_again() -> None:
    stripes = Stripes(ME, PIECES, LARGE)
    for now in (0.0, TRY_S - 0.1):
        assert stripes.decide(view(), now).counts
    for now in (TRY_S, TRY_S + REST_S - 0.1):
        rest = stripes.decide(view(), now)
        assert (rest.own, rest.closed, rest.counts) == (MINE, THEIRS - HELD, False)
    assert stripes.decide(view(), TRY_S + REST_S).own == {min(MINE)}


def test_what_was_begun_without_being_told_to_is_not_begun_again() -> None:
    seen = msgspec.structs.replace(view(), begun=MINE | THEIRS)
    assert not begun(Stripes(ME, PIECES, LARGE), seen)


def test_our_own_pieces_are_begun_one_after_the_other_then_come_first() -> None:
    stripes = Stripes(ME, PIECES, LARGE)
    assert begun(stripes) == sorted(MINE), "else libtorrent would not begin the last ones while others are under way"
    orders = stripes.decide(view(), 0.0)
    assert (orders.own, orders.closed, orders.aside) == (MINE, THEIRS - HELD, frozenset())


def test_nothing_is_begun_ahead_while_others_have_nothing_for_us() -> None:
    """Blocks of seven pieces at once come as fast as those of one, but none of the seven is whole, and passed on, before the last."""
    stripes = Stripes(ME, PIECES, LARGE)
    orders = stripes.decide(view(frozenset()), 0.0)
    assert (orders.own, orders.closed, orders.for_s) == (MINE, THEIRS, LOOK_S)
    assert len(stripes.decide(view(), 0.0).own) == 1


def test_the_faster_a_seed_sends_the_sooner_the_next_piece_is_begun() -> None:
    for rate, step in (
        (0, STEP_S),
        (10**5, STEP_S),
        (16 * BLOCK, STEP_S),
        (STEP_BLOCKS * BLOCK * 20, 0.05),
        (10**8, SHORT_STEP_S),
    ):
        seen = msgspec.structs.replace(view(), seed_rate=rate)
        assert Stripes(ME, PIECES, LARGE).decide(seen, 0.0).for_s == pytest.approx(step)


def test_small_pieces_are_not_begun_one_by_one() -> None:
    """Each would be whole before the next look: ten of 256 KiB a second, while nobody is asked for anything else."""
    orders = Stripes(ME, PIECES, LARGE // 2).decide(view(), 0.0)
    assert (orders.own, orders.closed, orders.counts) == (MINE, THEIRS - HELD, False)


def test_before_anybody_sends_there_is_no_hurry_to_begin_one_after_the_other() -> None:
    orders = Stripes(ME, PIECES, LARGE).decide(view(rate=0), 0.0)
    assert (orders.own, orders.closed) == (MINE, THEIRS - HELD)


def test_of_many_own_pieces_a_few_are_begun_and_more_when_they_run_out() -> None:
    stripes = Stripes(ME, 100, LARGE)
    missing, mine = frozenset(range(100)), [i for i, owner in enumerate(owners(100, [ME, OTHER])) if owner == ME]
    held = frozenset({min(missing - set(mine))})
    assert begun(stripes, view(held, missing)) == mine[:AHEAD]
    missing -= set(mine[: AHEAD - LOW - 1])
    assert not begun(stripes, view(held, missing))
    missing -= set(mine[: AHEAD - LOW])
    assert begun(stripes, view(held, missing)) == mine[AHEAD : 2 * AHEAD - LOW]


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


def test_what_is_not_asked_for_yet_keeps_everything_open_while_others_need_the_seeds() -> None:
    last, coming, *rest = sorted(MINE)
    unheld = frozenset(sorted(THEIRS)[:SHARE])  # beside our own one
    left, held = frozenset({last, coming, *THEIRS}), (frozenset(rest) | THEIRS | {coming}) - unheld
    some = msgspec.structs.replace(view(held, left), begun=frozenset({last}), asked=frozenset({coming}))
    assert Stripes(ME, PIECES, LARGE).decide(some, 0.0).closed == unheld
    nothing_else = msgspec.structs.replace(some, asked=frozenset({last}))
    assert Stripes(ME, PIECES, LARGE).decide(nothing_else, 0.0).closed == unheld


def test_who_brings_nobody_a_piece_that_others_wait_for_is_not_waited_for_long() -> None:
    """At our fastest sixteen pieces took two seconds; a piece that one node has is sent to some, who send it to the rest."""
    fellows = tuple(
        Fellow(bytes([at]) * 20, f"10.0.1.{at}", frozenset(THEIRS if at == 1 else ())) for at in range(1, 9)
    )
    stripes = Stripes(ME, PIECES, LARGE)
    missing = frozenset(range(PIECES))
    seen = View(fellows, SEEDS, missing, rate=8 * LARGE, begun=missing)
    rest = stripes.decide(seen, 0.0).closed & THEIRS
    assert rest and rest != THEIRS
    assert stripes.decide(seen, 1.9).closed & THEIRS == rest
    assert not stripes.decide(msgspec.structs.replace(seen, rate=0), 2.1).closed & THEIRS


def test_who_is_among_the_last_to_need_the_seeds_asks_for_nothing_else_while_they_send_well() -> None:
    """What only they have would come last of all: beside what eight others bring, their link lies idle."""
    last, coming, *rest = sorted(MINE)
    left, held = frozenset({last, coming, *THEIRS}), frozenset(rest) | THEIRS | {coming}
    seen = msgspec.structs.replace(view(held, left), begun=frozenset({last}), asked=frozenset({coming}))
    well = msgspec.structs.replace(seen, seed_rate=seen.rate // 2)
    stripes = Stripes(ME, PIECES, LARGE)
    assert stripes.decide(seen, 0.0).closed == THEIRS, "what was asked of others comes first, for a while"
    assert stripes.decide(well, 2 * DRAIN_S).closed == THEIRS
    assert not stripes.decide(seen, 2 * DRAIN_S).closed, "they do not: then it costs more than it is worth"
    nothing_else = msgspec.structs.replace(well, asked=frozenset({last}))
    assert not Stripes(ME, PIECES, LARGE).decide(nothing_else, 0.0).closed, "libtorrent would hang up"


def test_who_has_several_left_when_the_others_are_through_asks_for_nothing_else() -> None:
    """Five pieces of 16 MiB took as long as half of the 1 GiB, beside what eight others sent."""
    coming, *several = sorted(MINE)
    left, held = MINE | THEIRS, THEIRS | {coming}
    seen = View(
        (Fellow(OTHER, "10.0.0.3", held),), SEEDS, left, 10**6, 5 * 10**5, frozenset(several), frozenset({coming})
    )
    orders = Stripes(ME, PIECES, LARGE).decide(seen, 0.0)
    assert len(several) > LOW and (orders.own, orders.closed) == (set(several), THEIRS)
    lacks_one = msgspec.structs.replace(seen, fellows=(Fellow(OTHER, "10.0.0.3", held - {max(THEIRS)}),))
    assert Stripes(ME, PIECES, LARGE).decide(lacks_one, 0.0).closed == {max(THEIRS)}, "the other needs them too"


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
    silent = view(frozenset(), missing=THEIRS, rate=0)
    assert not stripes.decide(silent, 0.0).own
    assert not stripes.decide(silent, STARVED_S).own
    late = STARVED_S + 0.1
    assert stripes.decide(silent, late).own == THEIRS
    assert stripes.decide(silent, late).own == THEIRS
    brought = frozenset(sorted(THEIRS)[:1])
    assert not stripes.decide(view(brought, THEIRS), late).own


def test_who_got_less_than_a_third_of_what_another_got_has_no_pieces_until_it_keeps_up() -> None:
    """Both see it, so that nobody has to be told."""
    everything = frozenset(range(PIECES))
    ahead, mine = THEIRS | frozenset(sorted(MINE)[:2]), frozenset(sorted(MINE)[:1])
    slow, fast = Stripes(ME, PIECES, LARGE), Stripes(OTHER, PIECES, LARGE)
    slow.decide(view(frozenset()), 0.0)
    fast.decide(seen_by_other(frozenset(), everything), 0.0)
    left = everything - ahead
    told = slow.decide(view(ahead, everything - mine), 1.0)
    assert (told.own, told.aside) == (frozenset(), SEEDS), "what is left comes to us from the other"
    assert fast.decide(seen_by_other(mine, left), 1.0).own == left, "all that nobody has is his now"
    assert slow.decide(view(ahead, left), 2.0).own == left & MINE, "we got more than he, since"


def test_who_is_slow_is_seen_only_once_somebody_has_half_of_a_small_torrent() -> None:
    """Of the first pieces chance decides who has them."""
    stripes = Stripes(ME, PIECES, LARGE)
    stripes.decide(view(frozenset()), 0.0)
    assert begun(stripes, view(frozenset(sorted(THEIRS)[: PIECES // 2 - 1]))) == sorted(MINE)


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


def test_before_others_are_known_a_node_asks_for_what_they_would_leave_to_it() -> None:
    """What all ask for meanwhile comes as often as there are nodes."""
    nodes, pieces = [bytes([i]) * 20 for i in range(9)], 64
    everything = frozenset(range(pieces))
    found = {node: before_others(node, pieces, everything) for node in nodes}
    firsts = [orders.own for orders in found.values()]
    assert all(len(own) == 1 for own in firsts) and len(frozenset().union(*firsts)) >= 8
    fair = owners(pieces, nodes)
    assert sum(fair[piece] == node for node, (piece,) in zip(nodes, firsts, strict=True)) >= 7
    assert all(len(everything - orders.closed) == FIRST for orders in found.values()), (
        "something to do for who is alone"
    )


def test_who_is_alone_goes_from_one_likely_piece_to_the_next_then_to_all() -> None:
    pieces = 64
    missing, order = set(range(pieces)), []
    while not (orders := before_others(ME, pieces, missing)).is_empty:
        assert orders.own and not orders.own & orders.closed and orders.closed < missing
        order += orders.own
        missing -= orders.own
    assert len(order) == FIRST - 1, "with nothing open but what it has, libtorrent would hang up"
    of_three = before_others(ME, 3, {0, 1, 2})
    assert (len(of_three.own), len(of_three.closed)) == (1, 1)
