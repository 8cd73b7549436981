"""The queue of pulls: never more inside than places, the most urgent first, and no place is ever lost."""

from __future__ import annotations

import anyio
from hypothesis import given
from hypothesis import strategies as st

from hali.share.queue import PRIORITIES, Priority, WaitingRoom

DEADLINE = 10.0  # a place that is lost lets somebody wait for ever

priorities = st.sampled_from(PRIORITIES)
# (who, what): come with a priority, leave or give up, get another priority, other number of places.
actions = st.lists(
    st.one_of(
        st.tuples(st.just("come"), priorities),
        st.tuples(st.just("go"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("cancel at once"), st.integers(0, 30)),
        st.tuples(st.just("move"), st.integers(0, 30), priorities),
        st.tuples(st.just("resize"), st.integers(1, 4)),
    ),
    max_size=40,
)


class Visitor:
    def __init__(self, number: int, priority: Priority) -> None:
        self.number, self.priority = number, priority
        self.scope = anyio.CancelScope()
        self.leave = anyio.Event()
        self.inside = self.gone = False

    @property
    def key(self) -> str:
        return str(self.number)

    @property
    def rank(self) -> tuple[int, int]:
        return PRIORITIES.index(self.priority), self.number

    async def visit(self, room: WaitingRoom) -> None:
        try:
            with self.scope:
                async with room.place(self.key, self.priority, self.number):
                    self.inside = True
                    await self.leave.wait()
        finally:
            self.inside, self.gone = False, True


async def play(script: list[tuple], places: int) -> None:  # type: ignore[type-arg]
    room, visitors = WaitingRoom(places), list[Visitor]()
    with anyio.fail_after(DEADLINE):
        await perform(script, room, visitors)
    assert room.inside == 0
    assert room.order() == []
    assert all(visitor.gone for visitor in visitors)


async def perform(script: list[tuple], room: WaitingRoom, visitors: list[Visitor]) -> None:  # type: ignore[type-arg]
    async with anyio.create_task_group() as group:
        for kind, *arguments in script:
            if kind == "come":
                visitors.append(Visitor(len(visitors), arguments[0]))
                group.start_soon(visitors[-1].visit, room)
            elif kind == "resize":
                room.resize(arguments[0])
            elif visitors:
                act(kind, visitors[arguments[0] % len(visitors)], room, *arguments[1:])
            if kind != "cancel at once":  # then the next action meets somebody who is called and cancelled
                await anyio.wait_all_tasks_blocked()
                check(room, visitors)
        for visitor in visitors:
            visitor.leave.set()


def act(kind: str, visitor: Visitor, room: WaitingRoom, priority: Priority = "normal") -> None:
    if kind == "go":
        if visitor.inside:
            visitor.leave.set()
    elif kind == "move":
        if room.move(visitor.key, priority):
            visitor.priority = priority
    else:
        visitor.scope.cancel()


def check(room: WaitingRoom, visitors: list[Visitor]) -> None:
    inside = [v for v in visitors if v.inside]
    waiting = [v for v in visitors if not v.inside and not v.gone]
    assert room.inside == len(inside)
    assert room.order() == [v.key for v in sorted(waiting, key=lambda v: v.rank)]
    assert not waiting or len(inside) >= room.places  # nobody waits at an empty place


@given(actions, st.integers(1, 3))
def test_whatever_happens_the_places_are_kept(script: list[tuple], places: int) -> None:  # type: ignore[type-arg]
    anyio.run(play, script, places)


@given(st.lists(priorities, min_size=1, max_size=12), st.integers(1, 3))
def test_those_who_wait_begin_by_priority_then_by_arrival_and_never_too_many(
    arrivals: list[Priority], places: int
) -> None:
    begun: list[int] = []
    most = 0

    async def pull(room: WaitingRoom, number: int, priority: Priority) -> None:
        nonlocal most
        async with room.place(str(number), priority, number):
            begun.append(number)
            most = max(most, room.inside)
            await anyio.lowlevel.checkpoint()

    async def scenario() -> None:
        room = WaitingRoom(places)
        with anyio.fail_after(DEADLINE):
            async with room.place("first", "high", -1), anyio.create_task_group() as group:
                room.resize(1)
                for number, priority in enumerate(arrivals):
                    group.start_soon(pull, room, number, priority)
                await anyio.wait_all_tasks_blocked()
                assert begun == []
                room.resize(places + 1)
        assert most <= places + 1

    anyio.run(scenario)
    assert sorted(begun) == list(range(len(arrivals)))
    ranked = sorted(range(len(arrivals)), key=lambda n: (PRIORITIES.index(arrivals[n]), n))
    # All are called in rank order; those called at the same moment begin in the order in which they came to wait.
    assert begun[0] in ranked[:places]
    if places == 1:
        assert begun == ranked
