"""Whom a fetch shuts out, for how long, and how much it risks."""

from __future__ import annotations

import pytest

from hali.model.units import MIB, PIECE
from hali.transfer.evidence import PROOF, Evidence
from hali.transfer.rescue import (
    AGAIN,
    AUDIT_S,
    EXPECTED_S,
    FIRST_S,
    IDLE_S,
    LEAN,
    NEWCOMERS_S,
    PATIENT_SILENCE_S,
    SECOND_CHANCE_S,
    SILENCE_S,
    SWARM_OF_ONE,
    TIME_OUT_S,
    WASTE,
    Defence,
    Holder,
    network_of,
)


def defence(*hosts: str, trusted: tuple[str, ...] = (), length: int = 40 * MIB, piece: int = MIB) -> Defence:
    evidence = Evidence(trusted)
    for host in hosts:
        evidence.arrived(host)
    result = Defence(evidence)
    result.begin(length, piece, 0.0)
    for host in hosts:
        result.arrived(host, 0.0)
    return result


def fail(it: Defence, *hosts: str, size: int = MIB) -> None:
    """A piece fails that these sent."""
    evidence = it._evidence
    for host in hosts:
        evidence.sent(0, host, 64 // len(hosts))
    guilty = evidence.failed(0, 64)
    it.failed(size, 0.0)
    if guilty is not None:
        it.convicted(guilty)


def prove(it: Defence, host: str) -> None:
    """`host` sends a right piece."""
    it._evidence.sent(1, host, PROOF)
    it._evidence.passed(1, PROOF)
    it.passed(0.0)


def test_among_unknown_peers_few_pieces_are_open_and_all_when_everyone_has_sent_right_ones() -> None:
    it = defence("10.0.0.1", "10.0.0.2")
    assert it.window() == 2
    prove(it, "10.0.0.1")
    assert it.window() == 3
    prove(it, "10.0.0.2")
    assert it.window() is None


def test_a_peer_alone_may_have_all_open_as_he_is_known_to_be_the_sender() -> None:
    assert defence("10.0.0.1").window() is None


def test_a_bad_piece_leaves_one_open() -> None:
    it = defence("10.0.0.1", "10.0.0.2", "10.0.0.3")
    for _ in range(5):
        it.passed(0.0)
    fail(it, "10.0.0.1", "10.0.0.2")
    assert it.window() == 1


def test_an_idle_fetch_opens_another_piece_each_tick_until_something_is_decided() -> None:
    it = defence("10.0.0.1", "10.0.0.2")
    fail(it, "10.0.0.1", "10.0.0.2")
    it.tick(1.0)
    it.tick(1.5)
    assert it.window() == 3
    it.passed(1.6)
    assert it.window() == 2


def test_only_the_guilty_are_out_while_trying_others_is_affordable() -> None:
    it = defence("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
    fail(it, "10.0.0.1")
    prove(it, "10.0.0.2")
    assert (it.bars(0.0).guilty, it.bars(0.0).aside) == ({"10.0.0.1"}, frozenset())


def test_when_much_was_wasted_those_who_are_proven_go_on_alone_until_they_fall_silent() -> None:
    it = defence("10.0.0.1", "10.0.0.2", "10.0.0.3")
    fail(it, "10.0.0.1", size=WASTE // 2)
    assert not it.bars(0.0).aside  # nobody is proven: somebody has to be tried
    prove(it, "10.0.0.2")
    it.heard("10.0.0.2", 1.0)
    it.tick(1.0)
    assert it.bars(1.0).aside == {"10.0.0.3"}
    silent = 1.0 + SILENCE_S + 0.1
    it.tick(silent)
    assert not it.bars(silent).aside
    assert it.bars(silent + SECOND_CHANCE_S).aside == {"10.0.0.3"}


def test_a_trusted_peer_that_is_there_makes_strangers_wait_after_the_first_bad_piece() -> None:
    it = defence("10.0.0.1", "10.0.0.2", "10.0.0.9", trusted=("10.0.0.9",))
    assert not it.bars(0.0).aside
    fail(it, "10.0.0.1", "10.0.0.2")
    assert it.bars(0.0).aside == {"10.0.0.1", "10.0.0.2"}


def test_a_trusted_peer_that_is_not_there_yet_is_expected_for_some_time() -> None:
    it = defence("10.0.0.1", "10.0.0.2", trusted=("10.0.0.9",))
    fail(it, "10.0.0.1", "10.0.0.2")
    assert it.bars(1.0).aside == {"10.0.0.1", "10.0.0.2"}
    assert not it.bars(EXPECTED_S).aside


def test_with_another_way_to_the_file_strangers_are_worth_no_more_than_the_budget() -> None:
    it = defence("10.0.0.1", "10.0.0.2")
    fail(it, "10.0.0.1", "10.0.0.2", size=WASTE)
    assert it.bars(0.0, patient=True).aside == {"10.0.0.1", "10.0.0.2"}
    assert not it.bars(0.0, patient=False).aside


def test_who_holds_pieces_and_sends_nothing_sits_out_for_a_time_if_somebody_else_is_there() -> None:
    it = defence("10.0.0.1", "10.0.0.2")
    fail(it, "10.0.0.1", "10.0.0.2")
    it.held_up([Holder("10.0.0.1", 4, 0), Holder("10.0.0.2", 0, 0)], 5.0)
    assert it.bars(5.0).aside == {"10.0.0.1"}
    it.tick(5.0 + TIME_OUT_S)
    assert not it.bars(5.0 + TIME_OUT_S).aside
    it.held_up([Holder("10.0.0.1", 4, 0), Holder("10.0.0.2", 4, 0)], 9.0)
    assert not it.bars(9.0).aside


def test_a_fetch_of_which_nobody_is_asked_anything_is_stuck() -> None:
    it = defence("10.0.0.1", "10.0.0.2")
    fail(it, "10.0.0.1", "10.0.0.2")
    it.held_up([Holder("10.0.0.1", 0, 0)], 5.0)
    assert it.is_stuck
    it.started(6.0)
    assert not it.is_stuck


def test_a_network_full_of_liars_lets_no_newcomer_in_while_an_honest_peer_is_there() -> None:
    liars = [f"10.0.7.{i}" for i in range(SWARM_OF_ONE)]
    it = defence(*liars, "10.0.7.100", "10.0.0.1")
    for liar in liars:
        fail(it, liar)
    assert not it.bars(0.0).networks
    prove(it, "10.0.0.1")
    bars = it.bars(0.0)
    assert bars.networks == {"10.0.7.0/24"}
    assert bars.known == {"10.0.7.100"}  # was there before, and has done nothing


@pytest.mark.parametrize(("host", "network"), [("10.1.2.3", "10.1.2.0/24"), ("2001:db8::1:2", "2001:db8::/64")])
def test_an_attacker_may_own_a_whole_network(host: str, network: str) -> None:
    assert network_of(host) == network


def large(*hosts: str) -> Defence:
    """Among `hosts`, in pieces of 16 MiB of which one has just failed."""
    it = defence(*hosts, piece=PIECE)
    fail(it, *hosts, size=PIECE)
    return it


def test_peers_are_asked_only_where_a_bad_piece_of_each_would_cost_too_much() -> None:
    crowd = [f"10.0.0.{i}" for i in range(3)]
    assert large(*crowd).wants_audit(PIECE)
    it = defence(*crowd)
    fail(it, *crowd)
    assert not it.wants_audit(MIB)


def test_where_pieces_are_short_peers_are_asked_when_learning_has_cost_too_much_and_not_at_every_piece_then() -> None:
    it = defence("10.0.0.1", "10.0.0.2")
    while not it.is_costly:
        assert not it.wants_audit(MIB)
        fail(it, "10.0.0.1", "10.0.0.2")
    assert it.wants_audit(MIB)
    assert not it.wants_audit(MIB - 1)  # a trial with the short last piece proves little
    it.audit(1.0)
    it.audit_ends(2.0)
    more = 0
    while not it.wants_audit(MIB):
        fail(it, "10.0.0.1", "10.0.0.2")
        more += 1
    assert more == AGAIN * WASTE // MIB


def test_nothing_is_asked_for_while_peers_are_asked_and_until_newcomers_had_time_to_come() -> None:
    it = large("10.0.0.1", "10.0.0.2", "10.0.0.3")
    it.audit(1.0)
    assert it.window() == 0
    it.audit_is_idle(1.0 + NEWCOMERS_S)
    assert it.window() == 0
    it.audit_is_idle(1.1 + NEWCOMERS_S)
    assert it.window() == 1


def test_an_audit_that_does_not_end_holds_nobody_up_for_ever() -> None:
    it = large("10.0.0.1", "10.0.0.2", "10.0.0.3")
    it.audit(1.0)
    it.tick(1.0 + AUDIT_S)
    assert it.window() == 0
    it.tick(1.1 + AUDIT_S)
    assert it.window()


def test_who_was_found_honest_is_waited_for_without_the_others() -> None:
    it = large("10.0.0.1", "10.0.0.2", "10.0.0.3")
    it._evidence.audited("10.0.0.1", True)
    it._evidence.left("10.0.0.1")
    it.expect(1.0)
    assert it.bars(2.0).aside == {"10.0.0.2", "10.0.0.3"}
    assert not it.bars(1.0 + EXPECTED_S).aside


def test_honest_ones_that_are_alone_are_not_silent_while_bytes_come_of_which_no_block_is_written_yet() -> None:
    it = defence("10.0.0.1", "10.0.0.2", "10.0.0.9", trusted=("10.0.0.9",))
    fail(it, "10.0.0.1", "10.0.0.2")
    it.received(EXPECTED_S)  # perhaps of strangers, who are still there
    silent = EXPECTED_S + 1.0
    it.tick(silent)
    assert not it.bars(silent).aside
    it._evidence.left("10.0.0.1")
    it._evidence.left("10.0.0.2")
    again = silent + SECOND_CHANCE_S
    it.received(again)
    it.tick(again + 1.0)
    assert it.bars(again + 1.0).aside == {"10.0.0.1", "10.0.0.2"}


def test_with_nothing_left_to_lose_a_silent_honest_peer_is_waited_for_longer() -> None:
    it = large("10.0.0.1", "10.0.0.2", "10.0.0.3")
    it._evidence.audited("10.0.0.1", True)
    it.audited(WASTE)
    it.tick(1.0 + SILENCE_S)
    assert it.bars(1.0 + SILENCE_S).aside
    it.tick(1.0 + PATIENT_SILENCE_S)
    assert not it.bars(1.0 + PATIENT_SILENCE_S).aside


def test_with_nothing_left_to_lose_a_second_chance_ends_with_the_first_bad_piece_and_comes_again_after_a_silence() -> (
    None
):
    it = large("10.0.0.1", "10.0.0.2", "10.0.0.3")
    it._evidence.audited("10.0.0.1", True)
    it.audited(WASTE)
    it.tick(PATIENT_SILENCE_S + 1.0)
    assert not it.bars(PATIENT_SILENCE_S + 1.0).aside
    it.failed(16 * MIB, PATIENT_SILENCE_S + 2.0)
    assert it.bars(PATIENT_SILENCE_S + 2.0).aside == {"10.0.0.2", "10.0.0.3"}
    it.tick(2 * PATIENT_SILENCE_S + 1.0)
    assert it.bars(2 * PATIENT_SILENCE_S + 1.0).aside
    it.tick(2 * PATIENT_SILENCE_S + 3.0)
    assert not it.bars(2 * PATIENT_SILENCE_S + 3.0).aside


def test_honest_ones_that_go_on_alone_have_some_pieces_open_and_soon_more_if_they_lack_those() -> None:
    it = large("10.0.0.1", "10.0.0.2", "10.0.0.3")
    it._evidence.audited("10.0.0.1", True)
    it._evidence.left("10.0.0.2")
    it._evidence.left("10.0.0.3")
    assert it.window() == LEAN // PIECE
    for tick in range(20):
        it.heard("10.0.0.1", 1.0 + tick)
        it.tick(1.0 + tick + IDLE_S + 0.1)
    assert (it.window() or 0) > 1000


def test_others_are_not_tried_while_they_are_shut_out_and_are_watched_when_they_come() -> None:
    it = large("10.0.0.1", "10.0.0.2", "10.0.0.3")
    it._evidence.audited("10.0.0.1", True)
    it.expect(1.0)
    silent = 1.0 + SILENCE_S + 0.1
    it.tick(silent)
    assert it.bars(silent).aside and not it.tries_others(silent)
    late = 1.0 + EXPECTED_S
    it.tick(late)
    assert it.tries_others(late) and not it.bars(late).aside
    assert it.window() == 1
    assert it.is_held_up(late)  # perhaps it is libtorrent that stands still
    it.audited(WASTE)
    assert it.tries_others(late) and not it.tries_others(late, patient=True)


def test_a_crowd_that_has_sent_nothing_yet_gets_time_before_more_is_risked() -> None:
    it = defence(*(f"10.0.0.{i}" for i in range(5)))
    it.tick(FIRST_S - 0.1)
    assert it.window() == 1
    it.tick(FIRST_S + 0.1)
    assert (it.window() or 0) > 1
