"""Renders a stranger's Jinja2 template as Transformers does, bounded in time, memory and output. Worker's main thread only."""

from __future__ import annotations

import json
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import jinja2
from jinja2 import filters, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from hali.model.errors import ModelLoadFailed, UsageError

COMPILE_LIMIT_S = 5.0  # the largest template known takes 0.1 s; a busy machine is slower
RENDER_LIMIT_S = 1.0  # a template is part of a stranger's file; ordinary ones take a millisecond
RENDER_LIMIT_BYTES = 16 * 1024 * 1024  # as long as a request may be; the context check rejects far shorter ones
MEMORY_LIMIT_BYTES = 256 * 1024 * 1024  # what a template may add to the process: the output, and copies made on the way
MAX_BITS = 4096  # of an integer; llama.cpp's largest is 64, and powers without a bound take minutes in one C call
MAX_DIGITS = 100  # that a number is rounded to

# All that a template can raise: its own refusals, and what Python's str, list, int and dict raise.
_REFUSALS = (
    jinja2.TemplateError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    AssertionError,
    RuntimeError,
)
_LIMITS = (TimeoutError, RecursionError, MemoryError)


class Template:
    """One compiled template. ModelLoadFailed if it cannot be compiled."""

    def __init__(self, source: str, now: Callable[[], datetime] = datetime.now) -> None:
        try:
            with _limits(COMPILE_LIMIT_S):
                self._template = _environment(now).from_string(source)
        except (*_REFUSALS, *_LIMITS, SyntaxError) as error:
            raise ModelLoadFailed(f"the chat template of the file is broken: {_words(error)}") from None

    def render(self, variables: Mapping[str, Any]) -> str:
        """UsageError: "template" if it refuses these variables, "template_limit" if it takes too much."""
        try:
            with _limits(RENDER_LIMIT_S):
                return self._collect(variables)
        except _LIMITS as error:  # before the refusals: a RecursionError is a RuntimeError
            raise UsageError(
                f"the model's chat template does not end: {_words(error)}", code="template_limit"
            ) from None
        except _REFUSALS as error:
            raise UsageError(
                f"the model's chat template refuses these messages: {_words(error)}", code="template"
            ) from None

    def _collect(self, variables: Mapping[str, Any]) -> str:
        parts, size = [], 0
        for part in self._template.generate(variables):
            size += len(part)
            if size > RENDER_LIMIT_BYTES:
                raise MemoryError(f"more than {RENDER_LIMIT_BYTES} characters")
            parts.append(part)
        return "".join(parts)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


# --- the language


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's own sandbox, which refuses `_` attributes and mutation, and the two operators that cost without a bound."""

    intercepted_binops = frozenset({"*", "**"})  # it also keeps the compiler from folding them

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """OverflowError before a huge result is computed."""
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(right, 0) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_BITS:
                raise OverflowError(f"an integer of {bits} bits")
        elif hasattr(left, "__len__") or hasattr(right, "__len__"):
            many, times = (left, right) if hasattr(left, "__len__") else (right, left)
            if isinstance(times, int) and len(many) * times > RENDER_LIMIT_BYTES:
                raise OverflowError(f"a sequence of {len(many) * times} elements")
        return super().call_binop(context, operator, left, right)


class _GenerationTag(Extension):
    """`{% generation %}` marks what trainers learn from: a scope, nothing else."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's statements in a scope of their own, as Transformers' CallBlock is one."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _SafeNamespace(Namespace):
    """`namespace()` without attributes that begin with `_`."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *values = args
        attributes = dict(*values, **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace has no attribute {name!r}")


def _environment(now: Callable[[], datetime]) -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols])
    environment.filters.update(tojson=_tojson, round=_round)
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=lambda form: now().strftime(form),
        namespace=_SafeNamespace,
        dict=lambda *args, **kwargs: dict(*args, **kwargs),  # the class itself has methods
    )
    return environment


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Transformers': no HTML escapes, unlike Jinja2's."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    """Jinja2's computes 10**precision."""
    if abs(precision) > MAX_DIGITS:
        raise OverflowError(f"{precision} digits")
    return filters.do_round(value, precision, method)


# --- the limits


@contextmanager
def _limits(seconds: float) -> Iterator[None]:
    with _memory_limit(MEMORY_LIMIT_BYTES), _time_limit(seconds):
        yield


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """TimeoutError in this (the main) thread after `seconds`; Python code only, a single C call is not interrupted."""

    def expire(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _memory_limit(extra: int) -> Iterator[None]:
    """MemoryError beyond `extra` bytes more of address space than now. Linux; elsewhere only the output is bounded."""
    mapped = _mapped_bytes()
    if mapped is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = mapped + extra
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _mapped_bytes() -> int | None:
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()
