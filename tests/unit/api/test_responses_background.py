"""Responses made in the background: without their client, followed, cancelled, at the end of the server."""

from __future__ import annotations

import anyio
import httpx
import pytest

from hali.api.openai_response_writer import ResponseWriter
from hali.api.response_jobs import Job
from hali.api.response_store import StoreLimits
from hali.model.errors import EngineCrashed
from hali.model.generation import Chunk, Done, Usage
from tests.unit.api.sse import named_events_of

PATH = "/v1/responses"
HI = {"model": "tiny:1m:base:q4_0", "input": "hi", "background": True}
DONE = Done("stop", Usage(7, 2, 0.1, 0.2))


async def started(client: httpx.AsyncClient, **fields: object) -> str:
    """The id of a response that is being made."""
    response = await client.post(PATH, json={**HI, **fields})
    assert (response.status_code, response.json()["status"]) == (200, "queued"), response.text
    return response.json()["id"]


async def reached(client: httpx.AsyncClient, name: str, *states: str) -> dict:
    """The response once it is in one of these states."""
    with anyio.fail_after(5):
        while (response := (await client.get(f"{PATH}/{name}")).json())["status"] not in states:
            await anyio.sleep(0.001)
    return response


async def test_a_response_is_made_while_nobody_waits(client, router, background):
    gate = anyio.Event()
    router.script = [Chunk("Hel", 1), gate, Chunk("lo", 1), DONE]
    name = await started(client)
    await reached(client, name, "in_progress")
    gate.set()
    response = await reached(client, name, "completed")
    assert (response["background"], response["output"][0]["content"][0]["text"]) == (True, "Hello")


async def test_without_a_running_server_nothing_is_begun(client, deps):
    response = await client.post(PATH, json=HI)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert len(deps.responses) == 0


async def test_a_failure_is_told_by_the_response(client, router, background):
    router.script = [Chunk("Hel", 1), EngineCrashed("died")]
    response = await reached(client, await started(client), "failed")
    assert response["error"]["message"] == "died"
    assert response["output"][0]["status"] == "incomplete"


async def test_a_bug_is_a_failed_response_and_harms_no_other(client, router, background):
    router.scripts = [[ZeroDivisionError("secret")], [Chunk("Hello", 1), DONE]]
    failed = await reached(client, await started(client), "failed")
    assert "secret" not in str(failed)
    await reached(client, await started(client), "completed")


async def test_cancelling_ends_the_generation_at_once_and_twice_is_harmless(client, router, background):
    router.script = [Chunk("Hel", 1), anyio.Event()]
    name = await started(client)
    await reached(client, name, "in_progress")
    for _ in range(2):
        response = (await client.post(f"{PATH}/{name}/cancel", json={})).json()
        assert response["status"] == "cancelled"
    assert response["output"][0]["content"][0]["text"] == "Hel"
    with anyio.fail_after(5):
        while router.running:
            await anyio.sleep(0.001)
    assert (await client.get(f"{PATH}/{name}")).json() == response


async def test_cancelling_before_it_began_leaves_nothing_running(client, router, background):
    name = await started(client)
    assert (await client.post(f"{PATH}/{name}/cancel", json={})).json()["status"] == "cancelled"
    await anyio.wait_all_tasks_blocked()
    assert (await client.get(f"{PATH}/{name}")).json()["status"] == "cancelled"
    assert router.running == 0


async def test_what_is_cancelled_stays_so_when_its_end_is_on_its_way():
    writer = ResponseWriter({"id": "resp_1", "status": "queued", "output": []})
    job = Job(writer)
    job.begin()
    sender, receiver = anyio.create_memory_object_stream[Chunk | Done](1)

    async def events():
        async for event in receiver:
            yield 0, event

    async with sender, receiver, anyio.create_task_group() as group:
        group.start_soon(job.run, events(), lambda: None)
        await anyio.wait_all_tasks_blocked()
        sender.send_nowait(DONE)  # the engine has finished, and nobody has looked yet
        job.cancel()
    assert writer.response["status"] == "cancelled"


async def test_one_that_grew_too_large_harms_no_other(client, router, deps, background):
    deps.responses._limits = StoreLimits(bytes=8000)
    router.scripts = [[Chunk("a", 1), anyio.Event()], [Chunk("b" * 20_000, 1), DONE], [Chunk("c", 1), DONE]]
    first = await started(client)
    await reached(client, first, "in_progress")
    assert (await reached(client, await started(client), "completed"))["output"]
    assert (await client.get(f"{PATH}/{first}")).json()["status"] == "in_progress"
    assert (await client.post(PATH, json={**HI, "background": False})).json()["status"] == "completed"


async def test_what_has_ended_cannot_be_cancelled_any_more(client, background):
    name = await started(client)
    response = await reached(client, name, "completed")
    assert (await client.post(f"{PATH}/{name}/cancel", json={})).json() == response


async def test_deleting_ends_the_generation_too(client, router, background):
    router.script = [Chunk("Hel", 1), anyio.Event()]
    name = await started(client)
    await reached(client, name, "in_progress")
    assert (await client.delete(f"{PATH}/{name}")).status_code == 200
    with anyio.fail_after(5):
        while router.running:
            await anyio.sleep(0.001)
    assert (await client.get(f"{PATH}/{name}")).status_code == 404


async def test_going_on_from_what_is_not_finished_is_refused(client, router, background):
    router.script = [anyio.Event()]
    name = await started(client)
    response = await client.post(PATH, json={**HI, "previous_response_id": name})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "previous_response_id")


async def test_the_events_can_be_followed_from_any_number_while_it_is_made_and_after(client, router, background):
    gate = anyio.Event()
    router.script = [Chunk("Hel", 1), gate, Chunk("lo", 1), DONE]
    name = await started(client)
    await reached(client, name, "in_progress")
    replies: list[httpx.Response] = []

    async def follow(after: str) -> None:
        query = f"&starting_after={after}" if after else ""
        replies.append(await client.get(f"{PATH}/{name}?stream=true{query}"))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for after in ("", "3", "100"):
                group.start_soon(follow, after)
            await anyio.wait_all_tasks_blocked()
            gate.set()
        await follow("")
    told = [named_events_of(reply) if reply.text else [] for reply in replies]
    numbers = sorted([event["sequence_number"] for event in events] for events in told)
    last = numbers[-1][-1]
    assert numbers == sorted([list(range(last + 1)), list(range(last + 1)), list(range(4, last + 1)), []])
    whole = max(told, key=len)
    assert [event["type"] for event in whole][:3] == ["response.created", "response.queued", "response.in_progress"]
    assert whole[-1]["type"] == "response.completed"


async def test_a_streamed_one_runs_on_when_its_client_leaves(client, router, deps, background):
    gate = anyio.Event()
    router.script = [Chunk("Hel", 1), gate, Chunk("lo", 1), DONE]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.post(PATH, json={**HI, "stream": True}))
            while not router.running:
                await anyio.sleep(0.001)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert router.running == 1
    gate.set()
    (name,) = deps.responses._kept
    assert (await reached(client, name, "completed"))["output"][0]["content"][0]["text"] == "Hello"


async def test_the_end_of_the_server_fails_what_was_being_made(client, router, deps):
    router.script = [Chunk("Hel", 1), anyio.Event()]
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: deps.background.run(task_status=task_status))
        name = await started(client)
        await reached(client, name, "in_progress")
        group.cancel_scope.cancel()
    response = (await client.get(f"{PATH}/{name}")).json()
    assert (response["status"], response["error"]["code"]) == ("failed", "server_error")
    assert router.running == 0


@pytest.mark.parametrize("query", ["starting_after=x", "starting_after=-2"])
async def test_a_wrong_number_is_refused(client, background, query):
    name = await started(client)
    response = await client.get(f"{PATH}/{name}?stream=true&{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "starting_after")
