"""maturin and Cargo: the Rust modules, and the wheel around everything."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from . import extensions, sources

# Only macOS must be told that a module finds Python's symbols in the program that loads it.
_LINK_ARGUMENTS = ["-C", "link-arg=-undefined", "-C", "link-arg=dynamic_lookup"] if sys.platform == "darwin" else []
_RECORD = "hali-sources.sha256"  # what the last finished build in a target folder was made of


def target_directory(root: Path) -> Path:
    """Where Cargo keeps what the backend builds: apart from plain `cargo build`, so that nobody else writes there."""
    return Path(os.environ.get("CARGO_TARGET_DIR") or root / "target").resolve() / "wheel"


def wheel(root: Path, target: Path, directory: Path, *, editable: bool) -> Path:
    """Build and pack root for the running interpreter; the wheel's path in directory."""
    digest = _digest(root)
    _forget_other_sources(root, target, digest)
    for crate in extensions.RUST_CRATES:
        _build_module(root, target, crate)
    # "off": the plain platform tag. Whoever publishes wheels runs auditwheel over all modules.
    command = ["build-wheel", "--interpreter", interpreter(), "--compatibility", "off"]
    built = maturin([*command, *(["--editable"] if editable else [])], root, target)
    (target / _RECORD).write_text(digest)
    directory.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy2(root / built, directory))


def _build_module(root: Path, target: Path, crate: str) -> None:
    """Compile a crate's bindings and lay the module where maturin packs it up like those of Cython."""
    command = ["cargo", "rustc", "--quiet", "--locked", "--release", f"--package={crate}", "--features=python"]
    command += ["--lib", "--crate-type=cdylib", "--target-dir", str(target), "--", "-C", "strip=symbols"]
    environment = {**os.environ, **_as_maturin()}
    subprocess.run([*command, *_LINK_ARGUMENTS], cwd=root, env=environment, check=True)
    prefix, suffix = {"darwin": ("lib", ".dylib"), "win32": ("", ".dll")}.get(sys.platform, ("lib", ".so"))
    built = target / "release" / (prefix + crate + suffix)
    extensions.replace(built, root / sources.NATIVE / (crate + extensions.SUFFIX))


def _as_maturin() -> dict[str, str]:
    """What maturin tells PyO3's build scripts: told the same, Cargo compiles PyO3 once for all modules."""
    major, minor = sys.version_info[:2]
    return {
        "PYO3_PYTHON": interpreter(),
        "PYTHON_SYS_EXECUTABLE": interpreter(),
        "PYO3_ENVIRONMENT_SIGNATURE": f"cpython-{major}.{minor}-{64 if sys.maxsize > 2**32 else 32}bit",
        "PYO3_BUILD_EXTENSION_MODULE": "1",
    }


def dist_info(root: Path, target: Path, directory: Path) -> str:
    """Write hali-VERSION.dist-info into directory without building; its name."""
    command = ["write-dist-info", "--metadata-directory", str(directory), "--interpreter", interpreter()]
    return Path(maturin(command, root, target)).name


def interpreter() -> str:
    """The interpreter behind a virtual environment: its path stays the same from one isolated build to the next, so
    Cargo does not compile PyO3 again."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def maturin(arguments: list[str], root: Path, target: Path) -> str:
    """Run `maturin pep517 ...` in root; the last line it prints is its answer."""
    # an isolated build has it on PATH; without isolation it lies beside the interpreter, which may not be on PATH
    command = [shutil.which("maturin") or str(Path(sys.executable).with_name("maturin")), "pep517", *arguments]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    done = subprocess.run(command, cwd=root, env=environment, stdout=subprocess.PIPE, check=False)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    if done.returncode:
        raise SystemExit(f"hali: {' '.join(command)} failed with exit status {done.returncode}")
    return done.stdout.decode().strip().splitlines()[-1]


def _forget_other_sources(root: Path, target: Path, digest: str) -> None:
    """Make Cargo compile our crates again unless target holds the build of exactly these sources.

    Cargo compares times, not contents, and names a crate by its place in the workspace: an older tree copied with its
    times, or another checkout with the same target folder, would pass as built already.
    """
    record = target / _RECORD
    if record.is_file() and record.read_text() == digest:
        return
    record.unlink(missing_ok=True)
    crates = [tomllib.loads(path.read_text())["package"]["name"] for path in sorted(root.glob("rust/*/Cargo.toml"))]
    command = ["cargo", "clean", "--quiet", "--release", *(f"--package={name}" for name in crates)]
    subprocess.run([*command, "--target-dir", str(target)], cwd=root, check=True)


def _digest(root: Path) -> str:
    """SHA-256 over the names and contents of all that Cargo reads."""
    digest = hashlib.sha256()
    for path in sources.listed(root):
        if path.parts[0] in ("rust", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
            digest.update(f"{path}\0{hashlib.sha256((root / path).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
