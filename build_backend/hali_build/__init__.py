"""hali's build backend (PEP 517, PEP 660): compiles the Cython modules and the smaller Rust ones, then lets maturin
build the largest and pack all.

A wheel and an sdist are made of the same list of files (`sources.py`). A wheel is built from a clean copy of them, so
that no compiled module of another interpreter or an older build can get in, and is compared with the exact list of
what it must hold (`wheel_check.py`); a difference fails the build.
"""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import extensions, rust, sources, wheel_check
from .sources import NATIVE as NATIVE

ROOT = Path(__file__).resolve().parents[2]

Settings = Mapping[str, Any] | None


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    """Build a wheel for the running interpreter from a clean stage; its name."""
    sources.check_versions(ROOT)
    target = rust.target_directory(ROOT)
    with sources.lock(target), sources.stage(ROOT, target / "stage") as staged:
        extensions.build(staged, staged / NATIVE)
        wheel = rust.wheel(staged, target, Path(wheel_directory), editable=False)
        wheel_check.check(wheel, staged)
    return wheel.name


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    """Compile into the checkout, with the release profile, and make the wheel that points at it."""
    sources.check_versions(ROOT)
    target = rust.target_directory(ROOT)
    with sources.lock(target):
        extensions.build(ROOT, ROOT / NATIVE)
        return rust.wheel(ROOT, target, Path(wheel_directory), editable=True).name


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    """Pack exactly the files a wheel is built from, and PKG-INFO."""
    version = sources.check_versions(ROOT)
    with tempfile.TemporaryDirectory(prefix="hali-sdist-") as scratch:
        name = rust.dist_info(ROOT, rust.target_directory(ROOT), Path(scratch))
        pkg_info = (Path(scratch) / name / "METADATA").read_bytes()
    return sources.pack_sdist(ROOT, Path(sdist_directory), version, pkg_info).name


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    """Write the .dist-info folder without building anything; its name."""
    return rust.dist_info(ROOT, rust.target_directory(ROOT), Path(metadata_directory))


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Nothing beyond build-system.requires; tools that pip cannot bring are asked for here, before any work."""
    if shutil.which("cargo") is None:
        raise SystemExit("hali: cargo not found. Install Rust (https://rustup.rs) and try again.")
    if not extensions.c_compiler():
        raise SystemExit(f"hali: no C compiler ({sysconfig.get_config_var('CC')}). Install gcc or clang and try again.")
    return []


get_requires_for_build_editable = get_requires_for_build_wheel


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    """Nothing: maturin, from build-system.requires, writes the metadata."""
    return []
