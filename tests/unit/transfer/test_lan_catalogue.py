"""What is told of our own models, and when."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hali.transfer.lan_catalogue import FEW, Catalogue
from tests.fakes.lan_node import FakeNode, model


def test_of_a_long_catalogue_only_the_news_is_told() -> None:
    ours = Catalogue()
    ours.set(model(n) for n in range(FEW + 1))
    assert ours.needs_round  # nobody knows of any yet
    ours.take_all()
    assert not ours.is_new
    ours.set(model(n) for n in range(1, FEW + 2))
    assert ours.is_new
    assert not ours.needs_round
    assert ours.take_news() == (model(FEW + 1), msgspec.structs.replace(model(0), flags=0))
    assert not ours.is_new


def test_a_short_catalogue_is_told_whole() -> None:
    ours = Catalogue()
    ours.set([model(1)])
    ours.take_all()
    ours.set([model(1), model(2)])
    assert ours.needs_round


def test_an_announcement_under_way_does_not_bring_back_what_has_gone() -> None:
    ours = Catalogue()
    ours.set([model(1), model(2)])
    packet = FakeNode().packet(models=ours.take_all())
    ours.set([model(2)])
    assert ours.still(packet).models == (model(2),)


@settings(derandomize=True, deadline=None)
@given(st.lists(st.sets(st.integers(0, 9)), max_size=8))
def test_who_hears_all_news_knows_what_we_have(steps: list[set[int]]) -> None:
    ours, known = Catalogue(), {}
    for step in steps:
        ours.set(map(model, sorted(step)))
        for told in ours.take_news():
            if told.flags:
                known[told.sha256] = told
            else:
                del known[told.sha256]
        assert set(known.values()) == set(ours.models)
