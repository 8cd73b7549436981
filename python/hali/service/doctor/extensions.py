"""Checks of compiled parts, each loaded in a child process: a module that cannot run here may end the process that tries."""

from __future__ import annotations

import json
import subprocess
from importlib.util import find_spec
from typing import Any

from hali._version import __version__
from hali.service.doctor.context import PYTHON, Context, reinstall
from hali.service.doctor.finding import Finding, failed, passed, skipped, warned

OURS = ("hashcore", "ggufcheck", "frames", "planning", "scoring")
CHILD_S = 20.0  # a cold disk; the deadline of the check comes first
_LOAD = """
import importlib, json
found = {}
for name in NAMES:
    try:
        importlib.import_module(name)
        found[name] = None
    except ImportError as error:
        found[name] = str(error)
try:
    from hali._native import hashcore
    found["profile"], found["backend"] = hashcore.build_profile(), hashcore.backend()
except Exception as error:
    found["backend_error"] = str(error)
print(json.dumps(found))
"""


def native(context: Context) -> Finding:
    """Can hali's compiled modules and libtorrent be loaded, were they built for release, and which instructions do they use?"""
    ours = [f"hali._native.{name}" for name in OURS]
    found, trouble = _child(context, "-c", f"NAMES = {[*ours, 'libtorrent']}{_LOAD}")
    if found is None:
        return failed(f"loading the compiled modules ends the process: {trouble}", reinstall(f"hali=={__version__}"))
    if broken := [name for name in ours if found[name] is not None]:
        return failed(f"{broken[0]} cannot be loaded: {found[broken[0]]}", reinstall(f"hali=={__version__}"))
    if found["libtorrent"] is not None:
        return failed(f"libtorrent cannot be loaded: {found['libtorrent']}", reinstall("libtorrent"))
    if "backend_error" in found:  # HALI_HASH_BACKEND names one that this processor has not
        return failed(str(found["backend_error"]), "unset HALI_HASH_BACKEND")
    detail = f"{len(ours)} modules, {found['profile']} build, {found['backend']}"
    if found["profile"] != "release":
        return warned(f"{detail}: a debug build hashes many times slower", reinstall(f"hali=={__version__}"))
    return passed(detail)


def inference(context: Context) -> Finding:
    """Can llama.cpp be loaded, and was it built for the GPU that the settings ask for?"""
    if find_spec("llama_cpp") is None:
        return skipped("not installed: this node shares models and runs none; `pip install 'hali[inference]'` adds it")
    found, trouble = _child(context, "-m", "hali.engine.probe")
    if found is None:
        return failed(f"llama.cpp cannot be loaded: {trouble}", reinstall("llama-cpp-python"))
    detail = f"llama-cpp-python {found['version']}, {'with' if found['gpu'] else 'without'} GPU support"
    layers = context.settings.engine.gpu_layers
    if layers not in ("auto", 0) and not found["gpu"]:
        told = f"{detail}, but engine.gpu_layers is {layers}"
        return warned(told, context.setting_command(("engine.gpu_layers", None)))
    return passed(detail)


def _child(context: Context, *arguments: str) -> tuple[dict[str, Any] | None, str]:
    """The JSON object that a child of this Python prints; without one, the last line it said or the signal that ended it."""
    try:
        done = subprocess.run(
            [PYTHON, "-P", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHILD_S,
            env=dict(context.env),
        )
    except subprocess.TimeoutExpired:
        return None, f"it takes longer than {CHILD_S:.0f} s"
    if done.returncode == 0:
        return json.loads(done.stdout), ""
    lines = done.stderr.strip().splitlines()
    ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return None, lines[-1] if lines and done.returncode > 0 else ended
