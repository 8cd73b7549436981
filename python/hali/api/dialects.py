"""Which API a request speaks, told by its path (and one header), and how that API words an error. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from hali.api.problems import OPENAI, Dialect, told
from hali.model.errors import HaliError
from hali.wire.http import status_of

_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
_LLAMA_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}
REQUEST_ID = "jsonrpc_id"  # in the details of an error: of the JSON-RPC request that failed
_JSONRPC_INVALID, _JSONRPC_INTERNAL = -32600, -32603


class AnthropicDetail(msgspec.Struct, frozen=True):
    """What kind of failure, and what failed."""

    type: str
    message: str


class AnthropicError(msgspec.Struct, frozen=True):
    """How Anthropic's API tells an error, also as an event of a stream."""

    error: AnthropicDetail
    type: str = "error"


class OllamaError(msgspec.Struct, frozen=True):
    """How Ollama tells an error, also as a line of a stream."""

    error: str


class DashboardDetail(msgspec.Struct, frozen=True):
    """As the IPC tells it: what failed and what to do; `exit_code` is that of the command."""

    code: str
    message: str
    retryable: bool
    exit_code: int
    hint: str | None = None
    details: dict[str, Any] | None = None


class DashboardError(msgspec.Struct, frozen=True):
    """How the dashboard is told an error."""

    error: DashboardDetail


class LlamaDetail(msgspec.Struct, frozen=True):
    """`code` is the HTTP status."""

    code: int
    message: str
    type: str


class LlamaError(msgspec.Struct, frozen=True):
    """How llama-server tells an error."""

    error: LlamaDetail


class McpDetail(msgspec.Struct, frozen=True):
    """A code of JSON-RPC, and what failed."""

    code: int
    message: str


class McpError(msgspec.Struct, frozen=True):
    """A JSON-RPC error; without `id` where the request was not read, or has none that could be told."""

    error: McpDetail
    id: int | str | None = None
    jsonrpc: str = "2.0"


def anthropic_body(error: HaliError) -> AnthropicError:
    """503 is Anthropic's `overloaded_error`."""
    return AnthropicError(AnthropicDetail(_kind(error, _ANTHROPIC_TYPES, "api_error"), told(error)))


def ollama_body(error: HaliError) -> OllamaError:
    """The text is all that Ollama tells."""
    return OllamaError(told(error))


def llama_body(error: HaliError) -> LlamaError:
    """Types as llama-server names them."""
    return LlamaError(LlamaDetail(status_of(error), told(error), _kind(error, _LLAMA_TYPES, "server_error")))


def mcp_body(error: HaliError) -> McpError:
    """JSON-RPC 2.0, sections 5 and 5.1."""
    code = _JSONRPC_INTERNAL if status_of(error) >= 500 else _JSONRPC_INVALID
    return McpError(McpDetail(code, told(error)), error.details.get(REQUEST_ID))


def _kind(error: HaliError, of_status: dict[int, str], internal: str) -> str:
    status = status_of(error)
    return of_status.get(status) or (internal if status >= 500 else "invalid_request_error")


ANTHROPIC = Dialect("anthropic", anthropic_body, id_header="request-id")
OLLAMA = Dialect("ollama", ollama_body)
LLAMA = Dialect("llama-server", llama_body)
DASHBOARD = Dialect("dashboard", lambda error: {"error": error.to_wire()})
MCP = Dialect("mcp", mcp_body)

_LLAMA_PATHS = frozenset({"/tokenize", "/detokenize", "/apply-template", "/rerank", "/v1/rerank"})
VERSION_HEADER = b"anthropic-version"  # every client of Anthropic's sends it


def dialect_of(path: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> Dialect:
    """The API that `path` belongs to; OpenAI's where it is nobody's in particular."""
    if _within(path, "/v1/messages"):
        return ANTHROPIC
    if _within(path, "/v1/models") and any(name == VERSION_HEADER for name, _ in headers):
        return ANTHROPIC
    if _within(path, "/api"):
        return OLLAMA
    if _within(path, "/mcp"):
        return MCP
    if _within(path, "/dashboard") or _within(path, "/assets"):
        return DASHBOARD
    return LLAMA if path in _LLAMA_PATHS else OPENAI


def _within(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def new_request_id() -> str:
    """As Anthropic's look; long enough never to come twice."""
    return f"req_{secrets.token_hex(12)}"
