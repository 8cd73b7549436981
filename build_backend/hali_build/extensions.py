"""The compiled modules: which there are, and how those of Cython are made."""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

MODULES = ("frames", "planning", "scoring")
RUST_MODULE = "hashcore"  # maturin makes one module a wheel
RUST_CRATES = ("ggufcheck",)  # further ones, by Cargo alone
SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX")

# No -march: a wheel runs on any machine of its platform. The two -fno- let loops with divisions and comparisons be
# vectorised and change no result. Nothing of -ffast-math: checks for NaN must stay checks. No contraction: loops that
# are compiled for wider instruction sets too must round where the plain ones do.
COMPILE_ARGS = (
    []
    if os.name == "nt"
    else ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden"]
)


def filenames() -> list[str]:
    """The compiled modules as this interpreter names them."""
    return [name + SUFFIX for name in (*MODULES, RUST_MODULE, *RUST_CRATES)]


def c_compiler() -> str | None:
    """Path of the compiler that setuptools is going to call, if it is there."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or ("cl" if os.name == "nt" else "cc")
    return shutil.which(command.split()[0])


def build(root: Path, destination: Path, extra: Sequence[str] = ()) -> None:
    """Compile root/cython/*.pyx for the running interpreter and put the modules into destination.

    `extra` goes to the compiler and the linker, after all else: `-fsanitize=address`, for example.
    """
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension

    with tempfile.TemporaryDirectory(prefix="hali-cython-") as scratch:
        work = Path(scratch)
        sources = Path(shutil.copytree(root / "cython", work / "cython"))
        # the full name decides what the module calls itself; the path only where its file lands
        modules = [
            Extension(
                f"hali._native.{name}",
                [str(sources / f"{name}.pyx")],
                extra_compile_args=[*COMPILE_ARGS, *extra],
                extra_link_args=list(extra),
            )
            for name in MODULES
        ]
        distribution = Distribution({"name": "hali", "ext_modules": cythonize(modules, include_path=[str(sources)])})
        command = distribution.get_command_obj("build_ext")
        command.build_lib, command.build_temp = str(work / "lib"), str(work / "temp")
        command.parallel = len(MODULES)
        command.include_dirs = [str(sources)]
        command.ensure_finalized()
        command.run()
        for name in MODULES:
            replace(work / "lib" / "hali" / "_native" / (name + SUFFIX), destination / (name + SUFFIX))


def replace(module: Path, destination: Path) -> None:
    """Swap in a new file: writing over a module that a running process has mapped would crash it."""
    fresh = destination.with_name(destination.name + ".new")
    shutil.copy2(module, fresh)
    fresh.replace(destination)
