"""One bucket for many transfers."""

from __future__ import annotations

import anyio

from hali.transfer.rate_limit import BURST_SECONDS, RateLimiter


async def test_no_limit_never_waits() -> None:
    limiter = RateLimiter()
    with anyio.fail_after(1):
        for _ in range(1000):
            await limiter.take(1 << 30)


async def test_bytes_pass_at_the_given_rate() -> None:
    limiter = RateLimiter(1_000_000)
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(limiter.take, 50_000)
    assert anyio.current_time() - began >= 0.2 - 0.005  # never faster; how much slower is the machine's business


async def test_lifting_the_limit_frees_those_who_wait() -> None:
    limiter = RateLimiter(1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(limiter.take, 1_000_000)
            await anyio.wait_all_tasks_blocked()
            limiter.set_rate(0)


async def test_a_new_limit_holds_for_those_who_wait() -> None:
    limiter = RateLimiter(1)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(limiter.take, 1_000)
            await anyio.wait_all_tasks_blocked()
            limiter.set_rate(1_000_000)


async def test_unused_time_is_worth_a_short_burst_only() -> None:
    limiter = RateLimiter(1_000_000)
    await limiter.take(1)
    await anyio.sleep(2 * BURST_SECONDS)
    began = anyio.current_time()
    await limiter.take(int(1_000_000 * BURST_SECONDS) + 50_000)
    assert anyio.current_time() - began >= 0.045


async def test_what_others_took_of_the_budget_is_waited_for() -> None:
    limiter = RateLimiter(1_000_000)
    await limiter.take(1)
    limiter.charge(100_000)
    began = anyio.current_time()
    await limiter.take(1)
    assert anyio.current_time() - began >= 0.095


async def test_those_who_wait_already_wait_for_what_others_take_too() -> None:
    limiter, began = RateLimiter(1_000_000), anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.take, 50_000)
        await anyio.wait_all_tasks_blocked()
        limiter.charge(100_000)
    assert anyio.current_time() - began >= 0.145


async def test_a_debt_is_bounded_so_that_nobody_is_silenced_for_long() -> None:
    limiter = RateLimiter(1_000_000)
    limiter.charge(1e12)
    with anyio.fail_after(30):
        await limiter.take(1)


async def test_it_tells_how_much_passed_and_how_much_of_it_had_to_wait() -> None:
    limiter = RateLimiter(1_000_000)
    await limiter.take(10)
    limiter.set_rate(0)
    await limiter.take(100)
    passed = limiter.passed - limiter.delayed
    limiter.set_rate(1_000)
    async with anyio.create_task_group() as group:
        group.start_soon(limiter.take, 5_000)
        await anyio.wait_all_tasks_blocked()
        assert limiter.waiting
        limiter.set_rate(0)
    assert not limiter.waiting
    assert (limiter.passed - limiter.delayed, limiter.passed) == (passed, 5_110)


def test_a_limit_can_be_set_before_there_is_a_loop() -> None:
    limiter = RateLimiter()
    limiter.set_rate(5)
    limiter.set_rate(7)
    assert limiter.rate == 7
