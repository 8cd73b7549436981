"""Guilt by proof only."""

from __future__ import annotations

from hali.transfer.evidence import PROOF, TRUST, Evidence


def met(*hosts: str, trusted: tuple[str, ...] = ()) -> Evidence:
    evidence = Evidence(trusted)
    for host in hosts:
        evidence.arrived(host)
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


def test_a_trusted_peer_is_forgiven_a_few_bad_pieces_and_no_more() -> None:
    evidence = met("friend", trusted=("friend",))
    for piece in range(TRUST - 1):
        evidence.sent(piece, "friend", 4)
        assert evidence.failed(piece, 4) is None
        assert "friend" in evidence.honest
    evidence.sent(9, "friend", 4)

    assert evidence.failed(9, 4) == "friend"
    assert not evidence.honest


def test_many_right_blocks_prove_a_peer_and_one_bad_piece_outweighs_them() -> None:
    evidence = met("two-faced", "helper")
    evidence.sent(0, "two-faced", PROOF)
    evidence.sent(0, "helper", 1)
    assert evidence.passed(0, PROOF + 1) == {"two-faced": PROOF, "helper": 1}
    assert evidence.honest == {"two-faced"}

    evidence.sent(9, "two-faced", 4)
    evidence.failed(9, 4)

    assert not evidence.honest


def test_whom_libtorrent_caught_with_a_wrong_block_of_a_failed_piece_is_guilty() -> None:
    evidence = met("bad", "good")
    evidence.sent(7, "bad", 1)
    evidence.sent(7, "good", 3)
    evidence.failed(7, 4)

    assert evidence.caught("bad")
    assert not evidence.caught("bad")
    assert not evidence.caught("passer-by")  # had no part in a bad piece: an old ban, not a comparison


def test_a_peer_that_libtorrent_banned_for_touching_bad_pieces_is_not_caught_when_it_is_turned_away() -> None:
    evidence = met("good", "bad")
    evidence.sent(7, "good", 3)
    evidence.sent(7, "bad", 1)
    evidence.failed(7, 4)
    evidence.disgraced("good")

    assert not evidence.caught("good")
    evidence.torrent_is_new()  # the ban is forgotten
    assert evidence.caught("good")


def test_a_peer_with_a_part_in_a_good_piece_is_a_stranger_again_after_one_in_a_bad_piece() -> None:
    evidence = met("a", "b")
    assert evidence.strangers == {"a", "b"}
    evidence.sent(0, "a", 1)
    evidence.passed(0, 4)
    assert evidence.strangers == {"b"}
    evidence.sent(1, "a", 1)
    evidence.sent(1, "b", 3)
    evidence.failed(1, 4)
    assert evidence.strangers == {"a", "b"}


def test_a_host_is_present_while_one_of_its_connections_is() -> None:
    evidence = met("a", "a")
    evidence.left("a")
    assert evidence.present == {"a"}
    evidence.left("a")
    assert not evidence.present


def test_the_only_stranger_among_trusted_peers_is_guilty_of_a_piece_that_several_sent() -> None:
    evidence = met("10.0.0.1", "10.0.0.66", trusted=("10.0.0.1",))
    evidence.sent(0, "10.0.0.1", 3)
    evidence.sent(0, "10.0.0.66", 1)
    assert evidence.failed(0, 4) == "10.0.0.66"


def test_a_stranger_that_sent_nothing_of_it_or_one_of_two_is_not_blamed() -> None:
    evidence = met("10.0.0.1", "10.0.0.2", trusted=("10.0.0.1",))
    evidence.sent(0, "10.0.0.1", 4)
    assert evidence.failed(0, 4) is None
    evidence.met("10.0.0.3")
    evidence.sent(1, "10.0.0.2", 2)
    evidence.sent(1, "10.0.0.3", 2)
    assert evidence.failed(1, 4) is None


def test_a_contradiction_convicts_the_only_one_who_can_have_caused_it() -> None:
    evidence = met("friend", "bad", trusted=("friend",))
    assert evidence.contradicted() == "bad"
    assert met("a", "b").contradicted() is None


def test_a_node_of_the_lan_that_comes_later_is_trusted_too_unless_it_lied_before() -> None:
    evidence = met("friend", "bad", "suspect")
    evidence.sent(1, "bad", 4)
    evidence.failed(1, 4)
    evidence.sent(2, "suspect", 1)
    evidence.failed(2, 4)
    evidence.trust(["friend", "bad", "suspect"])
    assert evidence.trusted == {"friend"}


def test_who_lost_trust_does_not_get_it_back_by_saying_who_it_is() -> None:
    evidence = met("friend", trusted=("friend",))
    for piece in range(TRUST):
        evidence.sent(piece, "friend", 4)
        evidence.failed(piece, 4)
    evidence.trust(["friend"])
    assert not evidence.trusted


def test_an_answer_to_ourselves_proves_either_way_but_nothing_against_the_trusted() -> None:
    evidence = met("good", "bad", "friend", trusted=("friend",))
    assert not evidence.audited("good", True)
    assert evidence.audited("bad", False)
    assert not evidence.audited("friend", False)
    assert evidence.honest == {"good", "friend"}
    assert evidence.guilty == {"bad"}


def test_ourselves_at_our_own_address_are_no_stranger_but_who_sends_from_there_is() -> None:
    """Others tell libtorrent our address, and it dials it each second: each time all pieces but one were closed for a moment."""
    evidence = met("us", "friend", trusted=("friend",))
    assert evidence.strangers == {"us"}, "nobody has said yet who it is"
    evidence.met_ourselves("us")
    assert not evidence.strangers
    evidence.sent(0, "us", 1)
    assert evidence.strangers == {"us"}
