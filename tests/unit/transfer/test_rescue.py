"""Blame by proof only, and whom to try next."""

from __future__ import annotations

from hali.transfer.rescue import PATIENT_TRIALS, Evidence


def met(*hosts: str, trusted: tuple[str, ...] = ()) -> Evidence:
    evidence = Evidence(trusted)
    for host in hosts:
        evidence.met(host)
    return evidence


def test_the_only_sender_of_a_bad_piece_is_guilty() -> None:
    evidence = met("bad")
    evidence.sent(7, "bad", 4)

    assert evidence.failed(7, 4) == "bad"
    assert evidence.failed(7, 4) is None  # nobody sent anything since


def test_nobody_is_guilty_of_a_mixed_piece() -> None:
    evidence = met("bad", "good")
    evidence.sent(7, "bad", 1)
    evidence.sent(7, "good", 3)

    assert evidence.failed(7, 4) is None
    assert not evidence.guilty


def test_nobody_is_guilty_of_blocks_that_nobody_counted() -> None:
    evidence = met("late")
    evidence.sent(7, "late", 3)

    assert evidence.failed(7, 4) is None


def test_a_trusted_peer_is_never_guilty() -> None:
    evidence = met("friend", trusted=("friend",))
    evidence.sent(7, "friend", 4)

    assert evidence.failed(7, 4) is None
    assert "friend" in evidence.honest


def test_one_bad_piece_outweighs_good_ones() -> None:
    evidence = met("two-faced")
    for piece in range(3):
        evidence.sent(piece, "two-faced", 4)
        evidence.passed(piece, 4)
    assert evidence.honest == {"two-faced"}

    evidence.sent(9, "two-faced", 4)
    evidence.failed(9, 4)

    assert not evidence.honest


def test_a_trial_has_one_unknown_peer_and_all_known_good_ones() -> None:
    evidence = met("friend", "a", "b", "proven", trusted=("friend",))
    evidence.sent(1, "proven", 4)
    evidence.passed(1, 4)

    trial = evidence.next_trial()

    assert trial is not None
    assert trial.candidate == "a"
    assert trial.allowed == {"friend", "proven", "a"}
    assert trial.barred == {"b"}


def test_the_least_suspect_is_tried_first_and_each_only_once() -> None:
    evidence = met("often", "never", "once")
    for piece in range(2):
        evidence.sent(piece, "often", 1)
        evidence.sent(piece, "once" if piece else "often", 1)
        evidence.failed(piece, 4)

    tried = [trial.candidate for _ in range(3) if (trial := evidence.next_trial())]

    assert tried == ["never", "once", "often"]
    assert evidence.next_trial() is None


def test_a_trusted_peer_is_tried_alone_when_nobody_else_is_left() -> None:
    evidence = met("friend", "a", trusted=("friend",))
    evidence.next_trial()

    trial = evidence.next_trial()

    assert trial is not None
    assert trial.candidate is None
    assert trial.allowed == {"friend"}


def test_known_good_peers_that_bring_nothing_are_not_waited_for_forever() -> None:
    evidence = met("friend", trusted=("friend",))
    assert all(evidence.next_trial() for _ in range(PATIENT_TRIALS))
    evidence.passed(0, 4)  # it was only slow
    assert all(evidence.next_trial() for _ in range(PATIENT_TRIALS))

    assert evidence.next_trial() is None


def test_the_only_stranger_among_trusted_peers_is_guilty_of_a_piece_that_several_sent() -> None:
    evidence = Evidence(trusted=["10.0.0.1"])
    evidence.met("10.0.0.1")
    evidence.met("10.0.0.66")
    evidence.sent(0, "10.0.0.1", 3)
    evidence.sent(0, "10.0.0.66", 1)
    assert evidence.failed(0, 4) == "10.0.0.66"


def test_a_stranger_that_sent_nothing_of_it_or_one_of_two_is_not_blamed() -> None:
    evidence = Evidence(trusted=["10.0.0.1"])
    evidence.met("10.0.0.1")
    evidence.met("10.0.0.2")
    evidence.sent(0, "10.0.0.1", 4)
    assert evidence.failed(0, 4) is None
    evidence.met("10.0.0.3")
    evidence.sent(1, "10.0.0.2", 2)
    evidence.sent(1, "10.0.0.3", 2)
    assert evidence.failed(1, 4) is None
