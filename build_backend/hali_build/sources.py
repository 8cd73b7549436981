"""The files a wheel is built from: one list for the stage and for the sdist."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import shutil
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

FILES = ("pyproject.toml", "Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "rust-toolchain.toml")
OPTIONAL = {"rust-toolchain.toml"}
TREES = {
    "build_backend": {".py"},
    "cython": {".pyx", ".pxd", ".pxi", ".h", ".md"},
    "rust": {".rs", ".toml", ".md", ".bin", ".json", ".lock"},
    "python/hali": {".py", ".pyi", ".typed", ".html", ".css", ".js", ".svg", ".ico", ".png", ".woff2", ".json",
                    ".sql", ".toml", ".gbnf", ".jinja", ".md", ".txt"},
}  # fmt: skip
SKIPPED = {"__pycache__", "target", ".pytest_cache", ".mypy_cache", ".ruff_cache"}

NATIVE = Path("python/hali/_native")  # where compiled modules lie beside their stubs

_EPOCH = 315_619_200  # 1980-01-02: the earliest day every archive format and time zone can hold


def listed(root: Path) -> list[Path]:
    """All source files, relative to root, sorted."""
    missing = [name for name in FILES if name not in OPTIONAL and not (root / name).is_file()]
    if missing:
        raise SystemExit(f"hali: {', '.join(missing)} missing in {root}")
    found = [Path(name) for name in FILES if (root / name).is_file()]
    for tree, suffixes in TREES.items():
        for path in (root / tree).rglob("*"):
            relative = path.relative_to(root)
            if path.suffix in suffixes and path.is_file() and not SKIPPED.intersection(relative.parts):
                found.append(relative)
    return sorted(found)


def check_versions(root: Path) -> str:
    """The version, the same in the three places that must know it without asking another."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    cargo = tomllib.loads((root / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    written = re.search(r'__version__(?:: \w+)? = "([^"]+)"', (root / "python/hali/_version.py").read_text())
    python = written[1] if written else None
    if not project == cargo == python:
        raise SystemExit(
            f"hali: versions differ: pyproject.toml {project}, Cargo.toml {cargo}, python/hali/_version.py {python}"
        )
    return str(project)


@contextlib.contextmanager
def stage(root: Path, folder: Path) -> Iterator[Path]:
    """A clean copy of the sources in folder, for as long as the block runs.

    Times of modification are kept, and the folder is the same each time: Cargo then finds an unchanged crate built.
    """
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for relative in listed(root):
            (folder / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / relative, folder / relative)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
    """One build at a time in a target folder: two would share the stage and the compiled module."""
    target.mkdir(parents=True, exist_ok=True)
    with (target / "hali-build.lock").open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows; pip there builds one project at a time
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pack_sdist(root: Path, directory: Path, version: str, pkg_info: bytes) -> Path:
    """hali-VERSION.tar.gz, the same bytes for the same sources."""
    top = f"hali-{version}"
    stamp = int(os.environ.get("SOURCE_DATE_EPOCH", _EPOCH))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for relative in listed(root):
            _add(archive, f"{top}/{relative.as_posix()}", (root / relative).read_bytes(), stamp)
        _add(archive, f"{top}/PKG-INFO", pkg_info, stamp)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{top}.tar.gz"
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=stamp))
    return path


def _add(archive: tarfile.TarFile, name: str, data: bytes, stamp: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(data), stamp, 0o644
    archive.addfile(entry, io.BytesIO(data))
