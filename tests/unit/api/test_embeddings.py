"""POST /v1/embeddings: every shape of input, both encodings, and answers that are none."""

from __future__ import annotations

import base64
import math
import struct

import pytest

from hali.model.errors import UsageError
from hali.model.generation import Embed, Embeddings, Text

PATH = "/v1/embeddings"
HI = {"model": "tiny:1m:base:q4_0", "input": "hi"}


async def test_a_vector_comes_for_each_input(client, router):
    reply = (await client.post(PATH, json={**HI, "input": ["hi", "ho"]})).json()
    assert reply == {
        "object": "list",
        "model": "tiny:1m:base:q4_0",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, 0.0]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 1.0]},
        ],
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    }


@pytest.mark.parametrize(
    ("sent", "inputs"),
    [("hi", ("hi",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
async def test_an_input_may_be_texts_or_tokens(client, router, sent, inputs):
    assert (await client.post(PATH, json={**HI, "input": sent})).status_code == 200
    assert router.queries == [(HI["model"], Embed(inputs))]


async def test_base64_is_little_endian_float32(client):
    reply = (await client.post(PATH, json={**HI, "encoding_format": "base64"})).json()
    assert base64.b64decode(reply["data"][0]["embedding"]) == struct.pack("<2f", 1, 0)


async def test_fewer_dimensions_are_cut_and_made_a_unit_vector_again(client, router):
    router.answers[Embed] = Embeddings((struct.pack("<3f", 3, 4, 5),), 1)
    reply = (await client.post(PATH, json={**HI, "dimensions": 2})).json()
    vector = reply["data"][0]["embedding"]
    assert vector == pytest.approx([0.6, 0.8])
    assert math.hypot(*vector) == pytest.approx(1)


async def test_a_vector_of_zeros_stays_one(client, router):
    router.answers[Embed] = Embeddings((struct.pack("<3f", 0, 0, 1),), 1)
    reply = (await client.post(PATH, json={**HI, "dimensions": 2})).json()
    assert reply["data"][0]["embedding"] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": [1, "a"]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"dimensions": 0}, "dimensions"),
    ],
)
async def test_a_wrong_field_is_named(client, router, fields, param):
    response = await client.post(PATH, json={**HI, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert router.queries == []


async def test_more_dimensions_than_the_model_has_are_refused(client):
    response = await client.post(PATH, json={**HI, "dimensions": 3})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "dimensions")


async def test_the_engines_no_is_told(client, router):
    router.answers[Embed] = UsageError("this model makes no embeddings", code="unsupported")
    response = await client.post(PATH, json=HI)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "unsupported")


@pytest.mark.parametrize("answer", [Embeddings((), 0), Text("hm")])
async def test_an_answer_that_is_none_is_an_error(client, router, answer):
    router.answers[Embed] = answer
    response = await client.post(PATH, json=HI)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "engine")
