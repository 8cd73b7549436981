"""The progress line: it always fits, and leaves out the least important first."""

from __future__ import annotations

from typing import Any

import pytest

from hali.cli.bar import describe, draw

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"


def event(**changes: Any) -> dict[str, Any]:
    return {
        "state": "downloading",
        "name": NAME,
        "done": 33_554_432,
        "total": 98_362_432,
        "rate": 10_500_000.0,
        "peers": 2,
        "sources": {"lan": 33_554_432},
    } | changes


def test_a_wide_terminal_sees_everything() -> None:
    line = draw(event(), 120)
    assert line.startswith(NAME)
    for part in (" 34 %", "33.6/98.4 MB", "10.5 MB/s", "6s left", "2 peers", "lan", "━", "─"):
        assert part in line


def test_a_narrow_one_sees_name_bar_and_percentage() -> None:
    line = draw(event(), 39)
    assert "34 %" in line
    assert "━" in line
    assert "gguf" in line
    assert "peers" not in line


@pytest.mark.parametrize("width", range(1, 130))
def test_it_never_exceeds_its_terminal(width: int) -> None:
    for e in (
        event(),
        event(total=None),
        event(rate=None, peers=None, sources={}),
        event(name="x" * 200),
        event(name=""),
        event(waits_s=7200.0),
    ):
        assert len(draw(e, width)) <= width


def test_the_time_left_is_not_guessed_before_something_came() -> None:
    assert "left" not in draw(event(done=0, rate=20_000.0), 120)
    assert "left" in draw(event(done=1, rate=20_000.0), 120)


def test_it_does_not_jump_while_it_goes_on() -> None:
    lines = [draw(event(done=98_362_432 * i // 7), 100) for i in range(1, 7)]
    assert len({line.index(" %") for line in lines}) == 1
    assert len({line.index("MB/s") for line in lines}) == 1


def test_other_states_say_their_name() -> None:
    assert draw(event(state="hashing", rate=None, peers=None, sources={}), 100).startswith(f"hashing {NAME}")
    connecting = event(state="connecting", done=0, total=None, rate=None, peers=0, sources={})
    assert draw(connecting, 100) == f"connecting {NAME}  0 peers"


def test_several_sources_are_told_with_their_shares() -> None:
    assert "lan 75 %, http 25 %" in draw(event(sources={"lan": 75, "http": 25}), 120)


def test_a_server_that_wants_to_be_left_alone_is_told_before_everything_else() -> None:
    waits = event(waits_s=118.6, rate=None)
    assert "the server asks to wait 1m58s" in draw(waits, 80)
    assert (
        describe(waits) == f"downloading {NAME} 33.6 MB of 98.4 MB (34 %), the server asks to wait 1m58s, 2 peers, lan"
    )


def test_a_log_line_says_the_same_in_words() -> None:
    assert describe(event(peers=1)) == f"downloading {NAME} 33.6 MB of 98.4 MB (34 %) 10.5 MB/s, 1 peer, lan"
    assert describe(event(total=None, rate=None, peers=None, sources={})) == f"downloading {NAME}"
