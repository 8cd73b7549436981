"""Questions about text, in llama-server's shapes: tokens of it, text of tokens, the prompt of a chat, what ranks first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from hali.api.asking import answered, deps_of
from hali.api.bodies import read_json
from hali.api.dialects import LlamaError
from hali.api.llama_shapes import Ranking, RenderedPrompt, TextOfTokens, TextRank, TokenList
from hali.api.openai_chat import ChatRequest, generate_requests
from hali.api.openai_completion import Token
from hali.api.problems import json_response
from hali.api.refusals import invalid
from hali.api.routes import Endpoint, Handler
from hali.model.errors import AmbiguousName, NotFound
from hali.model.generation import Detokenize, Render, Rerank, Scores, Text, Tokenize, Tokens
from hali.pipeline.base import ServedModel


class TokenizeBody(msgspec.Struct):
    """The body of POST /tokenize."""

    content: str
    model: str | None = None
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class DetokenizeBody(msgspec.Struct):
    """The body of POST /detokenize."""

    tokens: list[Token]
    model: str | None = None


class TemplateBody(ChatRequest, kw_only=True):
    """The body of POST /apply-template: a chat as /v1/chat/completions takes it; the model may be left out."""

    model: str = ""


class RerankBody(msgspec.Struct):
    """The body of POST /v1/rerank as Jina and Cohere have it; `texts` is what Hugging Face's TEI calls `documents`."""

    query: str
    documents: list[str] | None = None
    texts: list[str] | None = None
    model: str | None = None
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_text: bool = False
    return_documents: bool = False


async def tokenize(request: Request) -> Response:
    """The tokens of a text; with `with_pieces` what each stands for: a string, or its bytes where it is no UTF-8 alone."""
    body = await read_json(request, TokenizeBody, deps_of(request).limits.body_bytes)
    query = Tokenize(body.content, body.add_special, body.parse_special)
    found = await answered(request, _model(request, body.model), query, Tokens)
    if not body.with_pieces:
        return json_response({"tokens": found.tokens})
    pairs = zip(found.tokens, found.pieces, strict=True)
    return json_response({"tokens": [{"id": token, "piece": _piece(piece)} for token, piece in pairs]})


def _piece(piece: bytes) -> str | list[int]:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


async def detokenize(request: Request) -> Response:
    """The text of tokens."""
    body = await read_json(request, DetokenizeBody, deps_of(request).limits.body_bytes)
    found = await answered(request, _model(request, body.model), Detokenize(tuple(body.tokens)), Text)
    return json_response({"content": found.text})


async def apply_template(request: Request) -> Response:
    """The prompt that a chat becomes."""
    body = await read_json(request, TemplateBody, deps_of(request).limits.body_bytes)
    asked = generate_requests(body)[0]
    found = await answered(request, _model(request, body.model), Render(asked), Tokens)
    return json_response({"prompt": found.text})


async def rerank(request: Request) -> Response:
    """Documents in the order of how well they answer; ties stay as they came."""
    body = await read_json(request, RerankBody, deps_of(request).limits.body_bytes)
    documents = body.documents if body.documents is not None else body.texts
    if not documents:
        raise invalid("documents", "at least one is needed")
    model = _model(request, body.model)
    found = await answered(request, model, Rerank(body.query, tuple(documents)), Scores)
    best = _best(found.scores, body.top_n)
    if body.documents is None:
        text = body.return_text
        rows = [{"index": i, "score": found.scores[i], **({"text": documents[i]} if text else {})} for i in best]
        return json_response(rows)
    return json_response(
        {
            "model": model.id,
            "object": "list",
            "usage": {"prompt_tokens": found.prompt_tokens, "total_tokens": found.prompt_tokens},
            "results": [_result(i, found.scores[i], documents[i] if body.return_documents else None) for i in best],
        }
    )


def _best(scores: Sequence[float], top_n: int | None) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: -scores[index])[:top_n]


def _result(index: int, score: float, document: str | None) -> dict[str, Any]:
    shown = {} if document is None else {"document": {"text": document}}
    return {"index": index, "relevance_score": score, **shown}


def _model(request: Request, name: str | None) -> ServedModel:
    """The model that is named, or the only one; llama-server has one and so its clients name none."""
    catalog = deps_of(request).catalog
    if name:
        return catalog.find(name)
    models = catalog.list()
    if not models:
        raise NotFound("there is no model here", hint="`hali pull` fetches one")
    if len(models) > 1:
        choices = [model.id for model in models]
        raise AmbiguousName(f"model: name one of {len(models)}", choices=choices, hint="GET /v1/models lists them")
    return models[0]


def _post(path: str, handler: Handler, summary: str, body: type, said: Any) -> Endpoint:
    return Endpoint(
        path,
        handler,
        methods=("POST",),
        summary=summary,
        tag="llama-server",
        request=body,
        response=said,
        error=LlamaError,
    )


Ranked = Ranking | list[TextRank]  # by the name that the documents were sent under
ROUTES = (
    _post("/tokenize", tokenize, "The tokens of a text", TokenizeBody, TokenList),
    _post("/detokenize", detokenize, "The text of tokens", DetokenizeBody, TextOfTokens),
    _post("/apply-template", apply_template, "The prompt that a chat becomes", TemplateBody, RenderedPrompt),
    _post("/v1/rerank", rerank, "Documents by how well they answer", RerankBody, Ranked),
    _post("/rerank", rerank, "Documents by how well they answer", RerankBody, Ranked),
)
