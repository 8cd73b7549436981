"""Few pieces are open at a time, and idle peers are made to ask again."""

from __future__ import annotations

from hali.transfer.window import DEFAULT, FIRST, NEVER, Window


def opened(priorities: dict[int, int], changes: dict[int, int]) -> set[int]:
    """Apply and tell what is open."""
    priorities |= changes
    return {i for i, priority in priorities.items() if priority}


def test_the_first_pieces_are_open_then_the_next_as_they_are_done() -> None:
    done: set[int] = set()
    window, priorities = Window(5, done), dict.fromkeys(range(5), DEFAULT)
    assert opened(priorities, window.resize(2, {})) == {0, 1}
    done.add(0)
    assert opened(priorities, window.resize(2, {})) - done == {1, 2}
    assert opened(priorities, window.resize(None, {})) - done == {1, 2, 3, 4}
    assert not window.resize(None, {})


def test_a_smaller_window_keeps_the_piece_that_one_peer_is_at() -> None:
    window, priorities = Window(5, set()), dict.fromkeys(range(5), DEFAULT)
    window.resize(3, {})
    assert opened(priorities, window.resize(1, {0: 2, 2: 1})) & {0, 1, 2} == {2}


def test_a_wanted_first_piece_is_opened_before_others() -> None:
    window, priorities = Window(5, set()), dict.fromkeys(range(5), DEFAULT)
    assert opened(priorities, window.resize(1, {}, first=4)) == {4}


def test_what_is_left_out_is_never_opened() -> None:
    window, priorities = Window(4, set()), dict.fromkeys(range(4), DEFAULT)
    assert opened(priorities, window.leave_out([0, 2])) == {1, 3}
    assert opened(priorities, window.restart()) == {1, 3}
    assert opened(priorities, window.resize(9, {})) == {1, 3}
    assert window.restart() == {0: 0, 1: DEFAULT, 2: 0, 3: DEFAULT}
    window.resize(None, {})
    assert window.restart() == {0: 0, 2: 0}


def test_a_nudge_changes_what_is_wanted_and_leaves_it_as_it_was() -> None:
    window = Window(4, {3})
    window.resize(1, {})
    assert list(window.nudge({}, failed=0)) == [{3: 0}, {3: DEFAULT}]


def test_without_a_piece_to_nudge_with_an_untouched_one_is_tried_instead_of_the_failed() -> None:
    window, priorities = Window(4, set()), dict.fromkeys(range(4), DEFAULT)
    priorities |= window.resize(1, {})
    (change,) = window.nudge({1: 2}, failed=0)
    assert opened(priorities, change) == {2}
    assert not list(window.nudge({}, failed=0))  # it is not open any more: somebody has another one
    (change,) = window.nudge({1: 2}, failed=2)
    assert opened(priorities, change) == {0}


def test_what_is_taken_back_is_open_at_once_or_waits_for_its_turn() -> None:
    window, priorities = Window(4, set()), dict.fromkeys(range(4), DEFAULT)
    priorities |= window.leave_out([0, 2])
    assert opened(priorities, window.take_back([2, 3])) == {1, 2, 3}
    assert opened(priorities, window.resize(1, {})) == {1}
    assert opened(priorities, window.take_back([0])) == {1}
    assert opened(priorities, window.resize(2, {})) == {0, 1}


def test_an_arrangement_changes_only_what_differs_from_the_last_one() -> None:
    window = Window(5, {4})
    assert window.arrange({0: FIRST, 1: NEVER, 4: FIRST}) == {0: FIRST, 1: NEVER}
    assert window.arrange({0: FIRST, 1: NEVER}) == {}
    assert window.arrange({1: FIRST}) == {0: DEFAULT, 1: FIRST}
    assert window.arrange({}) == {1: DEFAULT}


def test_what_is_left_out_is_not_arranged_and_comes_back_with_the_default() -> None:
    window = Window(3, set())
    window.arrange({0: FIRST})
    window.leave_out([0])
    assert window.arrange({0: FIRST}) == {}
    assert window.wanted == {1, 2}
    assert window.take_back([0]) == {0: DEFAULT}
    assert window.arrange({}) == {}


def test_a_limited_window_is_not_arranged_and_nothing_is_left_of_an_arrangement_behind_it() -> None:
    window, priorities = Window(3, set()), dict.fromkeys(range(3), DEFAULT)
    priorities |= window.arrange({0: NEVER, 2: FIRST})
    priorities |= window.resize(1, {})
    assert window.is_limited and window.arrange({2: FIRST}) == {}
    priorities |= window.resize(None, {})
    assert priorities == dict.fromkeys(range(3), DEFAULT)
    assert window.arrange({2: FIRST}) == {2: FIRST}


def test_a_torrent_that_was_added_anew_is_arranged_anew() -> None:
    window = Window(3, set())
    window.arrange({0: FIRST})
    window.restart()
    assert window.arrange({0: FIRST}) == {0: FIRST}


def test_nothing_is_open_in_a_window_of_nothing() -> None:
    window, priorities = Window(4, set()), dict.fromkeys(range(4), DEFAULT)
    window.resize(2, {})
    assert opened(priorities, window.resize(0, {1: 1}) | window.restart()) == set()
    assert opened(priorities, window.resize(2, {1: 1})) == {0, 1}


def test_others_get_other_pieces_than_those_that_are_open_and_what_they_had_comes_later() -> None:
    done: set[int] = set()
    window, priorities = Window(5, done), dict.fromkeys(range(5), DEFAULT)
    assert opened(priorities, window.resize(2, {})) == {0, 1}
    assert opened(priorities, window.resize(2, {}, apart=True)) == {2, 3}
    done.add(2)
    assert opened(priorities, window.resize(2, {}, apart=True)) - done == {3, 4}
    assert opened(priorities, window.resize(1, {}, first=1, apart=True)) - done == {3}
    assert opened(priorities, window.resize(2, {})) - done == {0, 1}


def test_with_nothing_else_left_others_get_the_last_of_those_that_are_open() -> None:
    window, priorities = Window(3, set()), dict.fromkeys(range(3), DEFAULT)
    window.resize(2, {})
    assert opened(priorities, window.resize(2, {}, apart=True)) >= {1, 2}
    window, priorities = Window(3, {2}), dict.fromkeys(range(3), DEFAULT)
    priorities |= window.resize(2, {})
    assert opened(priorities, window.resize(1, {}, apart=True)) - {2} == {1}
    assert opened(priorities, window.resize(2, {}, apart=True)) - {2} == {0, 1}
    assert opened(priorities, window.resize(None, {})) - {2} == {0, 1}


def test_a_torrent_that_was_added_anew_has_nothing_that_others_could_spoil() -> None:
    window, priorities = Window(3, set()), dict.fromkeys(range(3), DEFAULT)
    window.resize(1, {})
    window.resize(1, {}, apart=True)
    priorities |= window.restart()
    assert opened(priorities, window.resize(2, {}, apart=True)) == {0, 1}
