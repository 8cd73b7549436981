"""What every benchmark shares: no debug build, files made once, and a header that says what was measured on what."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import blake3
import pytest

from bench.versus import SHORT
from hali import hashing

CHUNK = 64 << 20  # bytes of random content; a file repeats it with a counter, so that no two pieces are equal
PACKAGES = ("blake3", "libtorrent", "ml-dtypes", "msgpack", "msgspec", "numpy", "protobuf", "safetensors", "torf")


def pytest_configure(config: pytest.Config) -> None:
    """Numbers of a debug build would be compared with nothing."""
    if hashing.build_profile() != "release":
        raise pytest.UsageError("this is a debug build: `make setup` builds the release profile")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Processor, features, versions, build profile and backend, for the head of the table."""
    machine_info.clear()
    machine_info.update(
        processor=_cpu("model name") or platform.processor(),
        features=_features(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=platform.python_version(),
        backend=hashing.backend(),
        build=hashing.build_profile(),
        form="short" if SHORT else "full",
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def _cpu(key: str) -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _features() -> list[str]:
    known = ("sha_ni", "avx2", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "sha2", "asimd")
    have = (_cpu("flags") or _cpu("Features")).split()
    return [name for name in known if name in have]


@pytest.fixture(scope="session")
def file_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Path]]:
    """Makes a file of so many bytes, in the page cache, and keeps it for the session."""
    folder = tmp_path_factory.mktemp("files")
    content = blake3.blake3(b"hali bench").digest(length=CHUNK)

    def make(size: int) -> Path:
        path = folder / f"{size}.gguf"
        if not path.exists():
            with path.open("wb") as file:
                for start in range(0, size, CHUNK):
                    part = min(CHUNK, size - start)
                    file.write(start.to_bytes(min(8, part), "little") + content[min(8, part) : part])
        return path

    yield make
    shutil.rmtree(folder)
