"""What llama.cpp has to say while it works. Worker only."""

from __future__ import annotations

import ctypes
import sys

from llama_cpp import llama_cpp as low

_WARNING, _ERROR, _CONTINUED = 3, 4, 5  # enum ggml_log_level; 2 is info. (llama-cpp-python's own table is out of date.)
_KEPT_ERRORS = 8  # lines; the first one usually names the reason


class NativeLog:
    """Keeps llama.cpp's warnings and errors: all go to standard error, the last errors also into `reason()`."""

    def __init__(self) -> None:
        self._errors: list[str] = []
        self._level = 0
        self.callback = low.llama_log_callback(self._take)  # must outlive llama.cpp's use of it

    def install(self) -> None:
        """From now on llama.cpp logs here."""
        low.llama_log_set(self.callback, ctypes.c_void_p(0))

    def _take(self, level: int, text: bytes, _: object) -> None:
        if level != _CONTINUED:
            self._level = level
        if self._level not in (_WARNING, _ERROR):
            return
        line = text.decode("utf-8", "replace")
        sys.stderr.write(line)
        if self._level == _ERROR and line.strip():
            self._errors = [*self._errors, line.strip()][-_KEPT_ERRORS:]

    def reason(self) -> str:
        """llama.cpp's own words for the last failure, on one line."""
        return "; ".join(self._errors) or "no reason given"
