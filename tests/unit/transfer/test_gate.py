"""The gate that a pause shuts."""

from __future__ import annotations

import anyio

from hali.transfer.gate import Gate


async def test_an_open_gate_holds_nobody_up() -> None:
    gate = Gate()
    await gate.wait()
    with gate.passing() as scope:
        await anyio.lowlevel.checkpoint()
    assert not scope.cancelled_caught


async def test_who_comes_to_a_shut_gate_waits_until_it_opens() -> None:
    gate, through = Gate(is_open=False), []

    async def come() -> None:
        await gate.wait()
        through.append(True)

    async with anyio.create_task_group() as group:
        group.start_soon(come)
        await anyio.wait_all_tasks_blocked()
        assert not through
        gate.open()
    assert through


async def test_shutting_it_cuts_off_who_is_inside_and_nobody_else() -> None:
    gate, ended = Gate(), []

    async def pass_through() -> None:
        with gate.passing() as scope:
            await anyio.sleep_forever()
        ended.append(scope.cancelled_caught)

    async with anyio.create_task_group() as group:
        group.start_soon(pass_through)
        group.start_soon(pass_through)
        with gate.passing():
            pass  # left before
        await anyio.wait_all_tasks_blocked()
        gate.shut()
        await anyio.wait_all_tasks_blocked()
        assert ended == [True, True]
        with gate.passing() as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        gate.open()
