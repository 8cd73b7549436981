"""POST /v1/embeddings."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hali.api.base import ApiDeps
from hali.api.bodies import read_json
from hali.api.openai_answers import answer, share_of
from hali.api.openai_embedding import EmbeddingList, EmbeddingRequest, embed_query, embedding_list
from hali.api.routes import Endpoint
from hali.model.errors import EngineFailed
from hali.model.generation import Embeddings


async def embeddings(request: Request) -> Response:
    """A vector for each input; given up when the client leaves."""
    deps: ApiDeps = request.app.state.deps
    body = await read_json(request, EmbeddingRequest, deps.limits.body_bytes)
    query, model = embed_query(body), deps.catalog.find(body.model)
    owner, weight = share_of(request)

    async def made() -> dict[str, Any]:
        vectors = await deps.router.ask(model, query, key=owner, weight=weight)
        if not isinstance(vectors, Embeddings) or len(vectors.vectors) != len(query.inputs):
            raise EngineFailed("the engine did not answer with one vector an input")
        return msgspec.structs.asdict(embedding_list(body, model.id, vectors))

    return await answer(request, made)


ROUTES = (
    Endpoint(
        "/v1/embeddings",
        embeddings,
        methods=("POST",),
        summary="A vector for each text",
        tag="openai",
        request=EmbeddingRequest,
        response=EmbeddingList,
    ),
)
