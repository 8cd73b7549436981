"""What the HTTP API can do with models: pulls that are watched, and what cannot be pulled over HTTP."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
from gguf import GGUFWriter

from hali.api.base import PullProgress
from hali.daemon.offering import OfferedModels
from hali.engine.entry import EngineStatus
from hali.engine.options import EngineStats
from hali.engine.pool import EnginePool
from hali.model.errors import HaliError, TransferFailed
from hali.pipeline.base import ServedModel
from hali.share.board import JobBoard
from hali.share.job import Job, JobSpec, Progress
from hali.share.library import Library
from hali.store.usage import Usage

pytestmark = pytest.mark.anyio
TEMPLATES = Path(__file__).parents[2] / "vectors" / "chat" / "templates"


class OneJob:
    """A board whose only job is the test's."""

    def __init__(self) -> None:
        self.job = Job(JobSpec("pull", "owner/repo"))
        self.asked: list[JobSpec] = []

    async def submit(self, spec: JobSpec) -> Job:
        self.asked.append(spec)
        return self.job


def offered(board: Any = None, engines: Any = None, *, library: Any = None) -> OfferedModels:
    return OfferedModels(cast(Library, library), cast(JobBoard, board), cast(EnginePool, engines), cast(Usage, None))


@pytest.mark.parametrize(
    "what",
    [
        "/etc/x.torrent",
        "x.torrent",
        "~/x.torrent",
        "../x.torrent",
        "http://10.0.0.1/x.torrent",
        "https://models.example/x.torrent",
        "http://127.0.0.1/x",
        "file:///etc/passwd",
        "owner/repo/../x.gguf",
        "",
        "a\0b",
    ],
)
async def test_nothing_of_this_machine_and_no_address_can_be_pulled_over_http(what: str) -> None:
    board = OneJob()
    async with aclosing(offered(board).pull(what)) as progress:
        with pytest.raises(HaliError):
            await anext(progress)
    assert board.asked == []


async def test_a_pull_is_told_until_its_end() -> None:
    board, told = OneJob(), []

    async def watch() -> None:
        async for each in offered(board).pull("owner/repo"):
            told.append(each)

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await anyio.wait_all_tasks_blocked()
        for progress in (Progress("downloading", "a.gguf", 1, 4), Progress("hashing", "a.gguf", 4, 4)):
            board.job.update(progress)
            await anyio.wait_all_tasks_blocked()
        board.job.finish({})
    assert board.asked == [JobSpec("pull", "owner/repo")]
    assert told == [
        PullProgress("queued", "owner/repo", 0, None),
        PullProgress("downloading", "a.gguf", 1, 4),
        PullProgress("hashing", "a.gguf", 4, 4),
        PullProgress("hashing", "a.gguf", 4, 4),
    ]


async def test_a_pull_that_fails_raises_what_failed_and_one_that_nobody_watches_goes_on() -> None:
    board = OneJob()
    async with aclosing(offered(board).pull("owner/repo")) as progress:
        await anext(progress)
    assert not board.job.is_over and not board.job.scope.cancel_called and board.job.updates.readers == 0
    board.job.fail(TransferFailed("nobody has it"))
    with pytest.raises(TransferFailed, match="nobody"):
        async for _ in offered(board).pull("owner/repo"):
            pass


async def test_a_model_that_somebody_uses_goes_when_they_are_done() -> None:
    done: list[Any] = []

    async def stop(name: str, *, drain: bool) -> None:
        done.append(("stop", name))

    def engines(active: int) -> Any:
        status = EngineStatus("a@1", "/a", "ready", 1.0, active, None, None, EngineStats())
        return SimpleNamespace(
            list=lambda: [status], stop=stop, keep=lambda name, seconds: done.append((name, seconds))
        )

    model: Any = SimpleNamespace(engine_name="a@1")
    await offered(engines=engines(1)).unload(model)
    assert done == [("a@1", 0)]
    await offered(engines=engines(0)).unload(model)
    assert done[1:] == [("a@1", 0), ("stop", "a@1")]


def test_a_model_that_is_not_loaded_is_not_kept() -> None:
    offered(engines=EnginePool()).keep(cast(Any, SimpleNamespace(engine_name="a@1")), None)


@pytest.mark.parametrize(
    ("template", "thinks"),
    [
        ("Qwen-Qwen3-0.6B", True),
        ("openai-gpt-oss-120b", True),
        ("mistralai-Ministral-3-14B-Reasoning-2512", True),
        ("CohereForAI-c4ai-command-r7b-12-2024-tool_use", True),
        ("HuggingFaceTB-SmolLM2-135M-Instruct", False),
        ("meta-llama-Llama-3.1-8B-Instruct", False),
    ],
)
async def test_a_model_whose_template_knows_thoughts_can_think(tmp_path: Path, template: str, thinks: bool) -> None:
    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_chat_template((TEMPLATES / f"{template}.jinja").read_text())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    record = SimpleNamespace(meta=SimpleNamespace(files=("m.gguf",)))
    library = SimpleNamespace(find=lambda _: SimpleNamespace(record=record))
    model = ServedModel("m", "ab" * 32, path, 1, 1, 0)
    assert (await offered(library=library).details(model)).thinking is thinks
