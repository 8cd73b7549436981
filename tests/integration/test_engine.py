"""The engine process with a real model: whole replies, clean ends, nothing left over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

import hali.engine.process
from hali.engine import pulse
from hali.engine.options import EngineOptions, EngineStats
from hali.engine.process import EngineProcess
from hali.model.errors import EngineCrashed, EngineUnavailable, HaliError, ModelLoadFailed, UsageError
from hali.model.generation import Chunk, Done, GenerateRequest, GenerationEvent, Message, SamplingParams
from hali.runtime.processes import is_alive
from tests import engines
from tests.waiting import until

pytestmark = pytest.mark.model

DEADLINE_S = 60.0  # a hang is a failure; nothing here takes a tenth of it on an idle machine
SMALL = EngineOptions(n_ctx=1024)


def ask(text: str, **sampling: object) -> GenerateRequest:
    params = SamplingParams(**{"temperature": 0.0, "max_tokens": 48, **sampling})  # type: ignore[arg-type]
    return GenerateRequest(messages=(Message("user", text),), sampling=params)


async def collect(engine: EngineProcess, request: GenerateRequest) -> tuple[str, Done]:
    events: list[GenerationEvent] = [event async for event in engine.generate(request)]
    done = events[-1]
    assert isinstance(done, Done)
    return "".join(event.text for event in events if isinstance(event, Chunk)), done


def running(path: Path, options: EngineOptions = SMALL) -> AbstractAsyncContextManager[EngineProcess]:
    return engines.running(path, options)


def nothing_held(stats: EngineStats, n_seq_max: int = 8) -> bool:
    held = (stats.sessions, stats.queued, stats.kv_used, stats.samplers, stats.sequences_free)
    return held == (0, 0, 0, 0, n_seq_max)


async def test_eight_chats_at_once_are_all_whole_and_each_is_its_own(smollm2: Path) -> None:
    animals = ["cat", "dog", "horse", "whale", "eagle", "spider", "lion", "wolf"]
    texts: dict[str, tuple[str, Done]] = {}
    async with running(smollm2, EngineOptions()) as engine:

        async def chat(animal: str) -> None:
            texts[animal] = await collect(engine, ask(f"Write one sentence about the {animal}.", max_tokens=40))

        async with anyio.create_task_group() as group:
            for animal in animals:
                group.start_soon(chat, animal)
        stats = engine.stats()
    for animal in animals:
        text, done = texts[animal]
        assert animal in text.lower(), text
        assert done.reason == "stop" or done.usage.completion_tokens == 40
    assert nothing_held(stats)
    assert stats.decodes < sum(done.usage.completion_tokens for _, done in texts.values()), "they shared batches"


async def test_more_chats_than_sequences_wait_their_turn_and_all_are_whole(smollm2: Path) -> None:
    done: list[Done] = []
    async with running(smollm2, EngineOptions(n_ctx=512, n_seq_max=2)) as engine:

        async def chat(number: int) -> None:
            done.append((await collect(engine, ask(f"Say {number}.", max_tokens=12)))[1])

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(chat, number)
        assert len(done) == 5
        assert nothing_held(engine.stats(), 2)


@pytest.mark.parametrize(("prefix_cache", "n_kv"), [(False, 160), (True, 150)])  # sharing, they need fewer cells
async def test_a_full_kv_cache_puts_the_youngest_back_and_no_reply_is_cut_short(
    smollm2: Path, prefix_cache: bool, n_kv: int
) -> None:
    options = EngineOptions(n_ctx=96, n_kv=n_kv, n_seq_max=4, prefix_cache=prefix_cache)
    replies: list[Done] = []
    async with running(smollm2, options) as engine:

        async def chat(number: int) -> None:
            request = ask(f"Write a very long story about the number {number}.", max_tokens=None)
            replies.append((await collect(engine, request))[1])

        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(chat, number)
        stats = engine.stats()
    assert stats.preempted > 0
    assert len(replies) == 4
    for done in replies:
        assert done.reason == "stop" or done.usage.prompt_tokens + done.usage.completion_tokens == 96
    assert nothing_held(stats, 4)


async def test_after_others_a_reply_alone_is_the_same_as_before_them(smollm2: Path) -> None:
    async with running(smollm2, EngineOptions(n_ctx=512, speculation="off")) as engine:
        story = ask("Write a story about a lighthouse.", max_tokens=230)
        before, _ = await collect(engine, story)
        async with anyio.create_task_group() as group:
            # The first ends first, so the cells of the second are the last to be freed, and they lie in the middle.
            group.start_soon(collect, engine, ask("Count to 30. " * 4, max_tokens=20))
            await until(lambda: engine.stats().sessions == 1)
            group.start_soon(collect, engine, ask("Count to 30", max_tokens=60))
        assert (await collect(engine, story))[0] == before


async def test_closing_the_iterator_cancels_and_gives_everything_back(smollm2: Path) -> None:
    async with running(smollm2) as engine:
        replies = engine.generate(ask("Write a long story.", max_tokens=900))
        async for _ in replies:
            break
        await replies.aclose()
        await until(lambda: nothing_held(engine.stats()))
        assert engine.stats().completion_tokens < 100
        assert (await collect(engine, ask("Hello")))[1].usage.completion_tokens > 0


async def test_a_cancelled_task_stops_even_a_long_prompt_half_way(smollm2: Path) -> None:
    async with running(smollm2, EngineOptions(n_ctx=8192)) as engine:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(collect, engine, ask("word " * 6000))
                await until(lambda: engine.stats().sessions == 1)
                scope.cancel()
        await until(lambda: nothing_held(engine.stats()))
        assert engine.stats().prompt_tokens <= 512, "stopped inside the first batch, or at the latest the second"


async def test_cancelling_one_of_several_leaves_the_others_whole(smollm2: Path) -> None:
    async with running(smollm2, EngineOptions(n_ctx=2048)) as engine:
        count = ask("Count to 30", max_tokens=60, logit_bias={2: -100.0})  # no end before that
        alone, _ = await collect(engine, count)
        kept: list[tuple[str, Done]] = []

        async def keep() -> None:
            kept.append(await collect(engine, count))

        async with anyio.create_task_group() as group:
            group.start_soon(keep)
            await until(lambda: engine.stats().sessions == 1)
            for _ in range(3):
                doomed = engine.generate(ask("word " * 1500))
                with anyio.move_on_after(0.05):
                    await anext(doomed)
                await doomed.aclose()
        [(text, done)] = kept
        assert done.usage.completion_tokens == 60
        assert text[:12] == alone[:12], "roundings may differ later: the attention adds in another order beside others"
        await until(lambda: nothing_held(engine.stats()))


async def test_kill_9_of_the_worker_ends_each_open_reply_with_a_clear_error(smollm2: Path) -> None:
    engine = EngineProcess("test")
    info = await engine.start(smollm2, SMALL)
    errors: list[EngineCrashed] = []

    async def chat() -> None:
        with pytest.raises(EngineCrashed) as caught:
            await collect(engine, ask("Write a long story.", max_tokens=900))
        errors.append(caught.value)

    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(chat)
            group.start_soon(chat)
            await until(lambda: engine.stats().completion_tokens > 4)
            os.kill(info.pid, signal.SIGKILL)
        await engine.wait()
    assert [error.details["signal"] for error in errors] == ["SIGKILL", "SIGKILL"]
    assert all(error.retryable and error.details["retry_after_s"] == 1 for error in errors)
    told = "the engine of test was killed, perhaps for want of memory (SIGKILL)"  # and no warning from its start
    assert [str(error) for error in errors] == [told, told]
    assert not engine.alive
    with pytest.raises(EngineCrashed):
        await collect(engine, ask("Hello"))


async def test_a_failed_assertion_in_c_shows_its_last_words(smollm2: Path) -> None:
    engine = EngineProcess("test")
    info = await engine.start(smollm2, SMALL)
    os.kill(info.pid, signal.SIGABRT)
    with anyio.fail_after(DEADLINE_S):
        await engine.wait()
        with pytest.raises(EngineCrashed, match="SIGABRT"):
            await collect(engine, ask("Hello"))


async def test_a_worker_that_does_not_answer_the_stop_order_is_killed(smollm2: Path) -> None:
    engine = EngineProcess("test")
    info = await engine.start(smollm2, SMALL)
    os.kill(info.pid, signal.SIGSTOP)
    with anyio.fail_after(DEADLINE_S):
        await engine.stop(timeout_s=0.2)
    assert not is_alive(info.pid)


async def test_a_worker_that_stands_still_in_the_middle_of_replies_ends_each_of_them_with_an_error(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "QUIET_S", 0.2)
    monkeypatch.setattr(pulse, "ANSWER_S", 3.0)  # a slow worker is none that stands still
    engine = EngineProcess("test")
    info = await engine.start(smollm2, SMALL)
    errors: list[EngineCrashed] = []

    async def chat() -> None:
        with pytest.raises(EngineCrashed) as raised:
            await collect(engine, ask("Count to a thousand", max_tokens=1000))
        errors.append(raised.value)

    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(chat)
            group.start_soon(chat)
            await until(lambda: engine.stats().sessions == 2)
            os.kill(info.pid, signal.SIGSTOP)
            monkeypatch.setattr(pulse, "ANSWER_S", 0.3)
    assert len(errors) == 2
    assert not is_alive(info.pid)


async def test_a_worker_that_computes_for_long_says_that_it_lives_and_is_left_in_peace(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "QUIET_S", 0.0)  # asked all the time
    async with running(smollm2) as engine:
        _, done = await collect(engine, ask("Count to 30", max_tokens=30))
    assert done.usage.completion_tokens > 0


async def test_a_silent_worker_is_given_up_on(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "SILENCE_S", 0.3)
    engine = EngineProcess("test")
    info = await engine.start(smollm2, SMALL)
    os.kill(info.pid, signal.SIGSTOP)
    with anyio.fail_after(DEADLINE_S), pytest.raises(EngineCrashed, match="gave no sign of life and was ended"):
        await collect(engine, ask("Hello"))
    assert not is_alive(info.pid)


async def test_a_draining_stop_lets_the_running_reply_end(smollm2: Path) -> None:
    engine = EngineProcess("test")
    await engine.start(smollm2, SMALL)
    replies: list[Done] = []

    async def chat() -> None:
        replies.append((await collect(engine, ask("Count to 30", max_tokens=30)))[1])

    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(chat)
            await until(lambda: engine.stats().sessions == 1)
            await engine.stop(drain=True)
    assert replies[0].reason == "length"


async def test_an_ordinary_stop_ends_running_replies_as_cancelled(smollm2: Path) -> None:
    engine = EngineProcess("test")
    await engine.start(smollm2, SMALL)
    replies: list[Done] = []

    async def chat() -> None:
        replies.append((await collect(engine, ask("Write a long story.", max_tokens=900)))[1])

    with anyio.fail_after(DEADLINE_S):
        async with anyio.create_task_group() as group:
            group.start_soon(chat)
            await until(lambda: engine.stats().completion_tokens > 2)
            await engine.stop()
    assert replies[0].reason == "cancelled"
    assert engine._child is not None
    assert engine._child.returncode == 0


async def test_a_good_load_says_nothing_on_standard_error(smollm2: Path) -> None:
    async with running(smollm2) as engine:
        assert engine._child is not None
        assert engine._child.stderr_tail() == "", "information of llama.cpp would push its errors out of the ring"


async def test_after_stop_no_process_task_thread_or_descriptor_is_left(smollm2: Path) -> None:
    async with running(smollm2):
        pass  # the first start makes things that stay on purpose: the pool of worker threads, imported modules
    before = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())
    async with running(smollm2) as engine:
        pid = engine.pid
        await collect(engine, ask("Hello", max_tokens=4))
    assert pid is not None
    assert not is_alive(pid)
    await until(lambda: (len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())) == before)
    await until(lambda: not any("waitpid" in thread.name for thread in threading.enumerate()))


SCRIPT = """
import anyio, sys
from pathlib import Path
from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
async def main():
    engine = EngineProcess("test")
    print((await engine.start(Path(sys.argv[1]), EngineOptions(n_ctx=512))).pid, flush=True)
    await anyio.sleep_forever()
anyio.run(main)
"""


async def test_the_worker_dies_with_a_daemon_that_was_killed(smollm2: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(smollm2)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        line = await anyio.to_thread.run_sync(daemon.stdout.readline)
        daemon.kill()
        await until(lambda: not is_alive(int(line)))


async def test_the_worker_has_no_privileges_no_secrets_and_no_core_dumps(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    async with running(smollm2) as engine:
        proc = Path(f"/proc/{engine.pid}")
        assert "NoNewPrivs:\t1" in (proc / "status").read_text()
        assert b"hf_secret" not in (proc / "environ").read_bytes()
        core = next(line for line in (proc / "limits").read_text().splitlines() if line.startswith("Max core file"))
        assert core.split()[4:6] == ["0", "0"]
        assert os.getsid(engine.pid or 0) == engine.pid
        apart = os.readlink(proc / "ns/net") != os.readlink("/proc/self/ns/net")
        assert apart == (engine.confinement["network"] == "none")


async def test_a_prompt_longer_than_the_context_is_an_error_of_its_own(smollm2: Path) -> None:
    async with running(smollm2) as engine:
        with pytest.raises(UsageError) as caught:
            await collect(engine, ask("word " * 3000))
        assert caught.value.code == "context_length"
        assert caught.value.details["n_ctx"] == 1024
        assert nothing_held(engine.stats())


async def test_requests_that_make_no_sense_are_usage_errors_and_hold_nothing(smollm2: Path) -> None:
    hello = (Message("user", "Hello"),)
    wrong = [
        GenerateRequest(),
        GenerateRequest(messages=hello, prompt="both"),
        GenerateRequest(messages=()),
        GenerateRequest(messages=hello, sampling=SamplingParams(temperature=float("nan"))),
        GenerateRequest(messages=hello, sampling=SamplingParams(top_p=7.0)),
        GenerateRequest(messages=hello, sampling=SamplingParams(logit_bias={10**7: 1.0})),
        GenerateRequest(messages=hello, sampling=SamplingParams(stop=("x" * 5000,))),
    ]
    async with running(smollm2) as engine:
        for request in wrong:
            with pytest.raises(UsageError):
                await collect(engine, request)
        assert nothing_held(engine.stats())
        assert (await collect(engine, ask("Hello", max_tokens=3)))[1].usage.completion_tokens == 3


async def test_an_empty_prompt_begins_with_the_first_token_of_the_vocabulary(smollm2: Path) -> None:
    async with running(smollm2) as engine:
        request = GenerateRequest(prompt="", sampling=SamplingParams(temperature=0, max_tokens=5))
        assert (await collect(engine, request))[1].usage.prompt_tokens == 1


async def test_logit_bias_can_forbid_the_likeliest_token(smollm2: Path) -> None:
    async with running(smollm2) as engine:
        plain, _ = await collect(engine, ask("Count to 30", max_tokens=1))
        # The reply begins with "1"; the digits lie among the first tokens after the special ones of this vocabulary.
        banned = dict.fromkeys(range(17, 60), -100.0)
        biased, _ = await collect(engine, ask("Count to 30", max_tokens=1, logit_bias=banned))
    assert plain != biased


def _copy(source: Path, target: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(source.read_bytes())
    change(data)
    target.write_bytes(data)
    return target


async def test_damaged_files_fail_to_load_with_a_reason_and_the_daemon_lives(smollm2: Path, tmp_path: Path) -> None:
    def flip(position: int, bit: int) -> Callable[[bytearray], None]:
        def change(data: bytearray) -> None:
            data[position] ^= 1 << bit

        return change

    for position, bit in ((0, 0), (4, 1), (8, 7), (13, 3), (16, 6), (20, 4), (24, 0), (34, 2)):
        path = _copy(smollm2, tmp_path / "damaged.gguf", flip(position, bit))
        engine = EngineProcess("test")
        with anyio.fail_after(DEADLINE_S), pytest.raises(ModelLoadFailed, match=r"damaged\.gguf"):
            await engine.start(path, SMALL)
        assert engine.pid is None


async def test_what_slips_through_our_check_fails_in_the_worker_in_llama_cpps_words(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hali.engine.process.ggufcheck, "check", lambda paths: None)
    path = tmp_path / "cut.gguf"
    path.write_bytes(smollm2.read_bytes()[:3_000_000])
    engine = EngineProcess("test")
    with anyio.fail_after(DEADLINE_S), pytest.raises(ModelLoadFailed, match="not within the file bounds"):
        await engine.start(path, SMALL)
    assert engine.pid is None


async def test_a_chat_template_that_never_ends_costs_its_request_a_second(smollm2: Path, tmp_path: Path) -> None:
    data = smollm2.read_bytes()
    begin = data.index(b"{% for message in messages %}")
    end = data.index(b"{% endif %}", data.index(b"add_generation_prompt")) + len(b"{% endif %}")
    loop = b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

    def change(data: bytearray) -> None:
        data[begin:end] = loop.ljust(end - begin)

    async with running(_copy(smollm2, tmp_path / "loop.gguf", change)) as engine:
        with pytest.raises(UsageError, match="does not end"):
            await collect(engine, ask("Hello"))
        prompt = GenerateRequest(prompt="Hello", sampling=SamplingParams(max_tokens=3))
        assert (await collect(engine, prompt))[1].usage.completion_tokens > 0


async def test_a_memory_limit_that_is_too_small_is_a_load_failure(smollm2: Path) -> None:
    engine = EngineProcess("test")
    with anyio.fail_after(DEADLINE_S), pytest.raises(HaliError) as caught:
        await engine.start(smollm2, EngineOptions(n_ctx=1024, memory_limit=300_000_000))
    assert isinstance(caught.value, ModelLoadFailed | EngineUnavailable)
    assert engine.pid is None


async def test_a_start_that_takes_too_long_is_given_up(smollm2: Path) -> None:
    engine = EngineProcess("test")
    with pytest.raises(ModelLoadFailed, match="more than"):
        await engine.start(smollm2, EngineOptions(start_timeout_s=0.01))
    assert engine.pid is None


async def test_part_of_the_layers_is_refused_for_now(smollm2: Path) -> None:
    with pytest.raises(UsageError) as caught:
        await EngineProcess("test").start(smollm2, EngineOptions(layer_start=0, layer_end=10))
    assert caught.value.code == "layer_range"


async def test_without_llama_cpp_the_error_says_what_to_install(smollm2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable) as caught:
        await EngineProcess("test").start(smollm2)
    assert caught.value.hint == "pip install 'hali[inference]'"


async def test_the_daemons_side_never_imports_llama_cpp() -> None:
    code = "import sys, hali.engine.pool; sys.exit('llama_cpp' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
