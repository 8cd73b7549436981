"""Tokens, prompts and ranks in llama-server's shapes."""

from __future__ import annotations

import dataclasses

import pytest

from hali.model.errors import UsageError
from hali.model.generation import Detokenize, Message, Render, Rerank, Scores, Tokenize, Tokens
from tests.unit.api.conftest import TINY, MemoryCatalog

NAMED = {"model": "acme/tiny"}


class OneModel(MemoryCatalog):
    """A catalogue with nothing to choose."""

    def list(self):
        return [TINY]


async def test_a_text_becomes_tokens_and_tokens_a_text(client, router):
    reply = await client.post("/tokenize", json={**NAMED, "content": "hi", "add_special": True, "parse_special": False})
    assert reply.json() == {"tokens": [1, 2]}
    reply = await client.post("/detokenize", json={**NAMED, "tokens": [1, 2]})
    assert reply.json() == {"content": "bc"}
    asked = [query for _, query in router.queries]
    assert asked == [Tokenize("hi", add_special=True, parse_special=False), Detokenize((1, 2))]


async def test_pieces_are_strings_or_the_bytes_of_half_a_character(client, router):
    router.answers[Tokenize] = Tokens((7, 8), "é", (b"a", b"\xc3"))
    reply = await client.post("/tokenize", json={**NAMED, "content": "x", "with_pieces": True})
    assert reply.json() == {"tokens": [{"id": 7, "piece": "a"}, {"id": 8, "piece": [195]}]}


async def test_a_chat_becomes_its_prompt(client, router):
    reply = await client.post("/apply-template", json={**NAMED, "messages": [{"role": "user", "content": "hi"}]})
    assert reply.json() == {"prompt": "<hi>"}
    ((_, query),) = router.queries
    assert isinstance(query, Render) and query.request.messages == (Message("user", "hi"),)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank"])
async def test_documents_come_back_by_their_score(client, router, path):
    router.answers[Rerank] = Scores((0.1, 0.9, 0.5), 12)
    ask = {**NAMED, "query": "q", "documents": ["a", "b", "c"], "top_n": 2, "return_documents": True}
    reply = (await client.post(path, json=ask)).json()
    assert reply["results"] == [
        {"index": 1, "relevance_score": 0.9, "document": {"text": "b"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "c"}},
    ]
    assert (reply["model"], reply["usage"]) == (TINY.id, {"prompt_tokens": 12, "total_tokens": 12})
    assert router.queries[-1][1] == Rerank("q", ("a", "b", "c"))
    reply = (
        await client.post(path, json={**NAMED, "query": "q", "texts": ["a", "b", "c"], "return_text": True})
    ).json()
    assert reply[0] == {"index": 1, "score": 0.9, "text": "b"} and len(reply) == 3


async def test_the_only_model_needs_no_name_and_of_several_none_is_guessed(deps, client, client_of, router):
    ask = {"content": "hi"}
    refused = await client.post("/tokenize", json=ask)
    assert refused.status_code == 400 and refused.json()["error"]["code"] == 400
    assert router.queries == []
    alone = client_of(dataclasses.replace(deps, catalog=OneModel()))
    assert (await alone.post("/tokenize", json=ask)).status_code == 200
    assert router.queries[0][0] == TINY.id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/rerank", {**NAMED, "query": "q", "documents": []}),
        ("/rerank", {**NAMED, "query": "q", "documents": ["a"], "top_n": 0}),
        ("/detokenize", {**NAMED, "tokens": [-1]}),
        ("/detokenize", {**NAMED, "tokens": ["a"]}),
        ("/apply-template", {**NAMED, "messages": []}),
        ("/tokenize", NAMED),
    ],
)
async def test_what_is_wrong_is_a_400_in_llama_servers_shape(client, router, path, body):
    reply = await client.post(path, json=body)
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"code", "message", "type"}
    assert router.queries == []


async def test_what_the_engine_refuses_is_told(client, router):
    router.answers[Rerank] = UsageError("this model cannot rerank")
    reply = await client.post("/rerank", json={**NAMED, "query": "q", "documents": ["a"]})
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "this model cannot rerank")
