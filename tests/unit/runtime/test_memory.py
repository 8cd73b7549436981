"""How much memory is free."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.runtime.memory import free_memory, free_ram, gpu_bytes

MEMINFO = "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    8000000 kB\n"


def machine(folder: Path, **files: str) -> tuple[Path, Path]:
    (folder / "meminfo").write_text(files.pop("meminfo", MEMINFO))
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(text)
    return folder / "meminfo", folder


def test_what_the_kernel_calls_available_is_free(tmp_path: Path) -> None:
    assert free_ram(*machine(tmp_path)) == 8_000_000 * 1024


@pytest.mark.parametrize(
    ("limit", "free"),
    [("max\n", 8_000_000 * 1024), ("3000\n", 2000), ("500\n", 0), ("99000000000\n", 8_000_000 * 1024)],
)
def test_the_limit_of_a_container_counts_when_it_is_nearer(limit: str, free: int, tmp_path: Path) -> None:
    assert free_ram(*machine(tmp_path, max=limit, current="1000\n")) == free


def test_files_that_a_container_has_read_are_given_up_first(tmp_path: Path) -> None:
    stat = "anon 100\ninactive_file 800\nactive_file 50\n"
    assert free_ram(*machine(tmp_path, max="3000\n", current="2900\n", stat=stat)) == 900


@pytest.mark.parametrize("text", ["", "MemAvailable:\n", "MemAvailable: many kB\n", "no colon\n"])
def test_a_machine_that_does_not_say_is_unknown_not_zero(text: str, tmp_path: Path) -> None:
    assert free_ram(*machine(tmp_path, meminfo=text)) is None
    assert free_ram(tmp_path / "nothing", tmp_path) is None


def test_the_memory_of_all_gpus_is_added_up() -> None:
    assert gpu_bytes("24000\n8000\n") == 32_000 * 2**20
    assert gpu_bytes("[N/A]\n") is None
    assert gpu_bytes("") is None


async def test_a_machine_without_the_nvidia_tool_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hali.runtime.memory.NVIDIA_SMI", ["hali-has-no-such-program"])
    assert (await free_memory()).gpu is None


async def test_the_answer_of_the_nvidia_tool_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hali.runtime.memory.NVIDIA_SMI", ["echo", "1000"])
    assert (await free_memory()).gpu == 1000 * 2**20
    monkeypatch.setattr("hali.runtime.memory.NVIDIA_SMI", ["false"])
    assert (await free_memory()).gpu is None
