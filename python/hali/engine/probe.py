"""`python -m hali.engine.probe`: whether llama.cpp can be loaded, in a process of its own, because loading it may end one."""

from __future__ import annotations

import importlib.metadata
import json


def main() -> None:
    """One JSON object on standard output: `version` of llama-cpp-python, `gpu` (built for one), `system` (llama.cpp's words)."""
    from llama_cpp import llama_cpp as low

    found = {
        "version": importlib.metadata.version("llama-cpp-python"),
        "gpu": bool(low.llama_supports_gpu_offload()),
        "system": low.llama_print_system_info().decode(errors="replace").strip(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
