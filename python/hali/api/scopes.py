"""Which scope each route needs. One table: a route without a row is a failing test, and only a key with all scopes opens it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from hali.model.errors import Refused

Scope = Literal["inference", "models", "manage", "metrics"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
ALL: frozenset[Scope] = frozenset(SCOPES)
OPEN: frozenset[Scope] = frozenset()  # any valid key; where none is required, anybody

INFERENCE: frozenset[Scope] = frozenset({"inference"})  # computes with a model
MODELS: frozenset[Scope] = frozenset({"models"})  # reads what models there are
MANAGE: frozenset[Scope] = frozenset({"manage"})  # fetches, deletes, loads
METRICS: frozenset[Scope] = frozenset({"metrics"})
ADMIN: frozenset[Scope] = ALL  # sees and changes everything, as its owner at the command line

NEEDED: Mapping[tuple[str, str], frozenset[Scope]] = {
    ("GET", "/"): OPEN,
    ("GET", "/health"): OPEN,
    ("GET", "/health/ready"): OPEN,
    ("GET", "/metrics"): METRICS,
    ("GET", "/v1/models"): MODELS,
    ("GET", "/v1/models/{name:path}"): MODELS,
    ("GET", "/openapi.json"): OPEN,
    ("POST", "/v1/chat/completions"): INFERENCE,
    ("POST", "/v1/completions"): INFERENCE,
    ("POST", "/v1/embeddings"): INFERENCE,
    ("POST", "/v1/responses"): INFERENCE,
    ("POST", "/v1/responses/input_tokens"): INFERENCE,
    ("GET", "/v1/responses/{response_id}"): INFERENCE,
    ("DELETE", "/v1/responses/{response_id}"): INFERENCE,
    ("POST", "/v1/responses/{response_id}/cancel"): INFERENCE,
    ("GET", "/v1/responses/{response_id}/input_items"): INFERENCE,
    ("POST", "/v1/messages"): INFERENCE,
    ("POST", "/v1/messages/count_tokens"): INFERENCE,
    ("POST", "/api/chat"): INFERENCE,
    ("POST", "/api/generate"): INFERENCE,
    ("POST", "/api/embed"): INFERENCE,
    ("POST", "/api/embeddings"): INFERENCE,
    ("GET", "/api/version"): OPEN,
    ("GET", "/api/tags"): MODELS,
    ("GET", "/api/ps"): MODELS,
    ("POST", "/api/show"): MODELS,
    ("POST", "/api/pull"): MANAGE,
    ("DELETE", "/api/delete"): MANAGE,
    ("POST", "/tokenize"): INFERENCE,
    ("POST", "/detokenize"): INFERENCE,
    ("POST", "/apply-template"): INFERENCE,
    ("POST", "/v1/rerank"): INFERENCE,
    ("POST", "/rerank"): INFERENCE,
    ("GET", "/assets/{name}"): OPEN,  # without any key, see dashboard_assets.public
    ("POST", "/dashboard/ticket"): ADMIN,
    ("GET", "/dashboard/ws"): OPEN,  # a ticket stands for the key that got it
    ("POST", "/dashboard/call/{method}"): ADMIN,
    ("POST", "/mcp"): INFERENCE,  # each tool asks for what it needs besides (mcp_local.py)
}


def needed(method: str, path: str) -> frozenset[Scope]:
    """The scopes a key must have for route `path` (its template); all of them where the table has no row."""
    return NEEDED.get(("GET" if method == "HEAD" else method, path), ALL)


def check(held: frozenset[Scope], method: str, path: str) -> None:
    """`Refused` (403) when `held` does not open the route."""
    check_held(held, needed(method, path))


def check_held(held: frozenset[Scope], wanted: frozenset[Scope]) -> None:
    """`Refused` (403) when `held` lacks one of `wanted`."""
    missing = wanted - held
    if missing:
        enough = " ".join(f"--scope {name}" for name in SCOPES if name in held | wanted)
        hint = f"`hali keys create NAME {enough}` makes one that may"
        raise Refused(f"this key has no scope {', '.join(sorted(missing))}", hint=hint, code="insufficient_scope")
