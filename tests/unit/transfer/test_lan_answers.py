"""How questions without wants bring the next announcement forward."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from hali.transfer.lan_answers import ANSWER_DELAY, ROUND_BURST, ROUND_EVERY, ROUND_GAP, Answers
from hali.transfer.lan_inbox import Question
from hali.transfer.lan_index import LanIndex
from hali.transfer.lan_packets import Speaker
from hali.wire.lan import Kind
from tests.fakes.lan_node import FakeNode, model

NOBODY: Any = None  # a question without wants is not answered by itself, so nothing is sent


class Asked:
    """Answers with a clock of their own; `delays` are the announcements they ask for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.delays = 1000.0, []
        self.answers = Answers(Speaker(FakeNode(), None), LanIndex(), lambda: b"nonce", self.delays.append)
        monkeypatch.setattr(anyio, "current_time", lambda: self.now)

    def ask(self) -> None:
        packet = FakeNode(2).packet(kind=Kind.QUERY)
        self.answers.question(Question(packet, None, 1200), (model(),), NOBODY, NOBODY)


def test_one_announcement_serves_all_who_asked_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    for _ in range(5):
        asked.ask()
    (delay,) = asked.delays
    assert 0 <= delay <= ANSWER_DELAY


def test_who_asks_after_it_began_gets_another_one_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    asked.ask()
    asked.answers.announcing()  # before the time that was promised, for a reason of its own
    asked.ask()
    assert len(asked.delays) == 2
    assert asked.delays[1] >= ROUND_GAP


def test_in_the_long_run_there_is_one_announcement_on_request_in_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    for _ in range(10_000):  # 1000 s of questions
        asked.now += 0.1
        asked.ask()
    assert len(asked.delays) <= ROUND_BURST + 1000 / ROUND_EVERY + 1
