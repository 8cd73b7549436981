"""POST /v1/embeddings."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from hali.api.asking import answered, deps_of
from hali.api.bodies import read_json
from hali.api.openai_embedding import EmbeddingList, EmbeddingRequest, embed_query, embedding_list
from hali.api.problems import json_response
from hali.api.routes import Endpoint
from hali.model.errors import EngineFailed
from hali.model.generation import Embeddings


async def embeddings(request: Request) -> Response:
    """A vector for each input; given up when the client leaves."""
    deps = deps_of(request)
    body = await read_json(request, EmbeddingRequest, deps.limits.body_bytes)
    query, model = embed_query(body), deps.catalog.find(body.model)
    made = await answered(request, model, query, Embeddings)
    if len(made.vectors) != len(query.inputs):
        raise EngineFailed(f"the engine answered {len(query.inputs)} inputs with {len(made.vectors)} vectors")
    return json_response(embedding_list(body, model.id, made))


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
