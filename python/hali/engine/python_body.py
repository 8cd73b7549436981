"""Calls of tools written as Python calls with keyword arguments, as LFM2 does. Parsed, never run. Pure."""

from __future__ import annotations

import ast
import warnings

from hali.engine.tool_bodies import Call, Found, Outcome, make_call


class PythonBody:
    """`[f(a=1), g()]` before the mark `end`."""

    def __init__(self, end: str) -> None:
        self._end = end
        self._seen = 0  # so far the end was not found

    def read(self, text: str, final: bool) -> Outcome:
        """See Body."""
        at = text.find(self._end, max(0, self._seen - len(self._end)))
        if at < 0 and not final:
            self._seen = len(text)
            return "more"
        calls = _calls(text if at < 0 else text[:at])
        return Found(calls, len(text) if at < 0 else at + len(self._end)) if calls else "wrong"


def _calls(text: str) -> tuple[Call, ...]:
    """Empty if the text is anything but calls."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python will not know for ever
            body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found = [_as_call(item) for item in (body.elts if isinstance(body, ast.List) else [body])]
    calls = tuple(call for call in found if call is not None)
    return calls if len(calls) == len(found) else ()


def _as_call(node: ast.expr) -> Call | None:
    if not isinstance(node, ast.Call) or node.args:
        return None
    try:
        values = {part.arg: ast.literal_eval(part.value) for part in node.keywords}
        return None if None in values else make_call(ast.unparse(node.func), values)
    except (ValueError, TypeError, RecursionError):
        return None
