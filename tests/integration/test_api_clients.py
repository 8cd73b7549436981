"""The official clients of Anthropic, Ollama and MCP, unmodified, against a running daemon with SmolLM2."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import httpx
import ollama
import pytest
from mcp import StdioServerParameters
from mcp.client.client import Client
from mcp.client.stdio import stdio_client

from tests.fakes import tiny_models
from tests.fakes.hf_server import FakeHub
from tests.fakes.pictures import png
from tests.fakes.tiny_projector import write_projector
from tests.nodes import TestNode, node, until

pytestmark = pytest.mark.model

# Texts are compared: tokens guessed ahead would change the shapes of batches, and so near ties, as it happens to pay.
EXACT = {"lan_enabled": "off", "engine_speculation": "off"}
NEW = "acme/Tiny-1B-GGUF"
COUNT = [{"role": "user", "content": "Count from 1 to 200, in words."}]
CAPITAL = [{"role": "user", "content": "What is the capital of France?"}]
GREEDY = {"temperature": 0, "top_k": 0, "top_p": 1, "repeat_penalty": 1, "num_predict": 24}  # Ollama's words for it


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.add(NEW, {"tiny-1b-Q4_0.gguf": b"4" * 5000, "tiny-1b-Q8_0.gguf": b"8" * 9000})
        yield running


@pytest.fixture(scope="module")
def one(hub: FakeHub, smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    with node(tmp_path_factory.mktemp("one"), hf_endpoint=hub.url, **EXACT) as made:
        url, model = made.start()["http"], made.add(smollm2)["model_id"]
        load = {"model": model}  # an engine that a test starts would be a process that it leaves behind
        assert httpx.post(f"{url}/api/generate", json=load, timeout=60).json()["done_reason"] == "load"
        yield made


@pytest.fixture(autouse=True)
def no_idle_connections(hub: FakeHub) -> Iterator[None]:
    yield
    hub.hang_up()


@pytest.fixture(scope="module")
def url(one: TestNode) -> str:
    return str(one.status()["http"])


@pytest.fixture(scope="module")
def model(one: TestNode) -> str:
    return str(one.call("info", model="smollm2")["model_id"])


@pytest.fixture
def claude(url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


@contextmanager
def ollama_client(url: str) -> Iterator[ollama.Client]:
    client = ollama.Client(url)
    yield client
    client._client.close()


@pytest.fixture
def llama(url: str) -> Iterator[ollama.Client]:
    with ollama_client(url) as client:
        yield client


@pytest.fixture(scope="module")
def said(url: str, model: str) -> str:
    """What the model says of the capital of France at temperature 0, by the API that is compared with llama.cpp itself."""
    body = {"model": model, "messages": CAPITAL, "temperature": 0, "max_tokens": 24}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
    return str(reply.json()["choices"][0]["message"]["content"])


# ---- anthropic


def test_anthropic_hears_the_same_whole_and_streamed(claude: anthropic.Anthropic, model: str, said: str) -> None:
    ask = {"model": "smollm2", "max_tokens": 24, "messages": CAPITAL, "extra_body": {"temperature": 0}}
    whole = claude.messages.create(**ask)
    assert (whole.content[0].text, whole.model, whole.stop_reason) == (said, model, "max_tokens")
    with claude.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == said
        last = stream.get_final_message()
    for reply in (whole, last):
        assert reply.usage.output_tokens == 24
    total = whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    assert claude.messages.count_tokens(model="smollm2", messages=CAPITAL).input_tokens == total
    longer = claude.messages.count_tokens(model="smollm2", messages=CAPITAL, system="Be brief, and kind.")
    assert longer.input_tokens != total


def test_anthropic_is_told_which_stop_sequence_came(claude: anthropic.Anthropic, said: str) -> None:
    word = said.split()[2]
    ask = {"model": "smollm2", "max_tokens": 24, "messages": CAPITAL, "extra_body": {"temperature": 0}}
    whole = claude.messages.create(stop_sequences=["never said", word], **ask)
    with claude.messages.stream(stop_sequences=["never said", word], **ask) as stream:
        last = stream.get_final_message()
    for reply in (whole, last):
        assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", word)
        assert reply.content[0].text == said.partition(word)[0]


def test_anthropic_gets_the_call_that_it_insists_on_and_hands_back_its_result(claude: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
    tools = [{"name": "weather", "description": "The weather of a city.", "input_schema": schema}]
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    asked = [{"role": "user", "content": "How is the weather in Rome?"}]
    ask = {"model": "smollm2", "max_tokens": 60, "tools": tools, "extra_body": {"temperature": 0}}
    whole = claude.messages.create(messages=asked, tool_choice=choice, **ask)
    with claude.messages.stream(messages=asked, tool_choice=choice, **ask) as stream:
        begun = next(event for event in stream if event.type == "message_start").message.usage
        last = stream.get_final_message()
    for name in ("input_tokens", "cache_read_input_tokens"):
        assert getattr(begun, name) == getattr(last.usage, name)
    for reply in (whole, last):
        (use,) = [block for block in reply.content if block.type == "tool_use"]
        assert (reply.stop_reason, use.name, set(use.input)) == ("tool_use", "weather", {"city"})
        assert use.input["city"] in ("Oslo", "Rome")
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "Sunny, 25 degrees."}
    turns = [*asked, last.to_param(), {"role": "user", "content": [result]}]
    final = claude.messages.create(messages=turns, **ask)
    assert final.stop_reason in ("end_turn", "max_tokens", "tool_use")
    assert final.usage.input_tokens + final.usage.cache_read_input_tokens > 20


def test_anthropic_lists_models_and_is_told_of_unknown_ones(claude: anthropic.Anthropic, model: str) -> None:
    assert [each.id for each in claude.models.list()] == [model]
    with pytest.raises(anthropic.NotFoundError) as caught:
        claude.messages.create(model="nosuch", max_tokens=5, messages=CAPITAL)
    assert caught.value.request_id.startswith("req_")


def test_a_client_that_leaves_ends_the_generation(claude: anthropic.Anthropic, one: TestNode, url: str) -> None:
    def sampled() -> int:
        return int(one.call("ps")["engines"][0]["completion_tokens"])

    before = sampled()
    with claude.messages.stream(model="smollm2", max_tokens=3000, messages=COUNT) as stream:
        assert next(iter(stream.text_stream))
    until(lambda: httpx.get(f"{url}/health/ready").json()["running"] == 0, "the generation has ended")
    assert sampled() - before < 1000


# ---- ollama


def test_ollama_hears_the_same_whole_and_streamed(llama: ollama.Client, said: str) -> None:
    for name in ("smollm2", "smollm2:latest"):
        whole = llama.chat(name, CAPITAL, options=GREEDY)
        assert (whole.message.content, whole.model, whole.done_reason) == (said, name, "length")
    streamed = list(llama.chat("smollm2", CAPITAL, options=GREEDY, stream=True))
    assert "".join(part.message.content or "" for part in streamed) == said
    assert [part.done for part in streamed[-2:]] == [False, True]
    last = streamed[-1]
    assert (last.eval_count, last.prompt_eval_count) == (24, whole.prompt_eval_count)
    assert last.total_duration >= last.prompt_eval_duration + last.eval_duration > 0
    assert llama.generate("smollm2", CAPITAL[0]["content"], options=GREEDY).response == said


def test_ollama_keeps_to_a_schema_and_to_json(llama: ollama.Client) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    options = {**GREEDY, "num_predict": 60}
    reply = llama.chat(
        "smollm2", [{"role": "user", "content": "How many legs has a dog?"}], format=schema, options=options
    )
    assert set(json.loads(reply.message.content)) == {"n"}
    asked = "Name, as JSON, a colour: one key, one short value."
    whole = llama.generate("smollm2", asked, format="json", options={**options, "num_predict": 200})
    if whole.done_reason == "stop":  # a model this small may not find an end; a cut reply is only a beginning
        assert isinstance(json.loads(whole.response), dict)
    assert whole.response.lstrip().startswith("{")


def test_ollama_goes_on_with_a_raw_prompt(llama: ollama.Client) -> None:
    reply = llama.generate("smollm2", "1, 2, 3, 4, 5, 6,", raw=True, options={**GREEDY, "num_predict": 6})
    assert reply.response.startswith(" 7, 8")


def test_ollama_fetches_a_model_and_deletes_it(llama: ollama.Client, one: TestNode) -> None:
    progress = list(llama.pull(f"hf.co/{NEW}:Q8_0", stream=True))
    assert progress[-1].status == "success"
    assert {part.total for part in progress if part.total} == {9000}
    assert one.call("info", model=f"{NEW}:q8_0")["size"] == 9000
    assert llama.pull(f"{NEW}:Q4_0").status == "success"
    with pytest.raises(ollama.ResponseError, match="2 models"):
        llama.delete(NEW)
    for quant in ("Q8_0", "Q4_0"):
        assert llama.delete(f"hf.co/{NEW}:{quant}").status == "success"
    assert len(llama.list().models) == 1
    for refused in ("/etc/x.torrent", "acme/nosuch"):
        with pytest.raises(ollama.ResponseError):
            list(llama.pull(refused, stream=True))


# ---- mcp


async def check_tools(client: Client, model: str) -> str:
    assert {tool.name for tool in (await client.list_tools()).tools} == {"chat", "list_models", "pull", "status"}
    listed = (await client.call_tool("list_models", {})).structured_content
    assert [each["id"] for each in listed["models"]] == [model]
    call = {"model": "smollm2", "prompt": CAPITAL[0]["content"], "temperature": 0, "max_tokens": 24}
    reply = await client.call_tool("chat", call)
    assert reply.content[0].text and reply.structured_content["completion_tokens"] == 24
    status = (await client.call_tool("status", {})).structured_content
    assert status["ready"] and status["loaded"] == [model]
    unknown = await client.call_tool("pull", {"model": "acme/nosuch"})
    assert unknown.is_error and "acme/nosuch" in unknown.content[0].text
    return reply.content[0].text


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_mcp_over_http_offers_the_tools(one: TestNode, url: str, model: str, said: str, era: str) -> None:
    async with Client(f"{url}/mcp", mode=era) as client:
        assert await check_tools(client, model) == said


async def test_mcp_over_stdio_offers_the_same(one: TestNode, model: str, said: str) -> None:
    server = StdioServerParameters(command=sys.executable, args=["-m", "hali.cli", "mcp"], env=one.env)
    async with Client(stdio_client(server)) as client:
        assert await check_tools(client, model) == said


# ---- text


def test_tokens_prompts_and_texts_agree_with_each_other(url: str, claude: anthropic.Anthropic) -> None:
    def post(path: str, **body: object) -> dict:
        reply = httpx.post(f"{url}{path}", json=body, timeout=60)
        assert reply.status_code == 200, reply.text
        return reply.json()

    prompt = post("/apply-template", messages=CAPITAL)["prompt"]
    tokens = post("/tokenize", content=prompt)["tokens"]
    assert post("/detokenize", tokens=tokens) == {"content": prompt}
    assert len(tokens) == claude.messages.count_tokens(model="smollm2", messages=CAPITAL).input_tokens
    pieces = post("/tokenize", content="naïve 詩", with_pieces=True)["tokens"]
    raw = [piece["piece"].encode() if isinstance(piece["piece"], str) else bytes(piece["piece"]) for piece in pieces]
    assert b"".join(raw).decode() == "naïve 詩"


# ---- pictures, with a projector of random weights: it sees nothing, but another picture makes it say something else


@pytest.fixture(scope="module")
def seeing(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("seeing")
    with node(folder / "node", **EXACT) as made:
        url = str(made.start()["http"])
        projector = write_projector(folder / "mmproj-tiny-f32.gguf", n_embd=576)
        model = made.call("add", what=str(smollm2), link=True, beside=str(projector))["model_id"]
        assert httpx.post(f"{url}/api/generate", json={"model": model}, timeout=60).status_code == 200
        yield url


def test_pictures_are_seen_alike_by_both_apis(seeing: str, llama: ollama.Client) -> None:
    def by_anthropic(picture: bytes) -> str:
        source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(picture).decode()}
        content = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
        turns = [{"role": "user", "content": content}]
        with anthropic.Anthropic(base_url=seeing, api_key="none", max_retries=0, timeout=60) as client:
            ask = {"model": "smollm2", "max_tokens": 16, "messages": turns, "extra_body": {"temperature": 0}}
            return str(client.messages.create(**ask).content[0].text)

    def by_ollama(picture: bytes) -> str:
        turns = [{"role": "user", "content": "What is this?", "images": [picture]}]
        with ollama_client(seeing) as client:
            return str(client.chat("smollm2", turns, options={**GREEDY, "num_predict": 16}).message.content)

    first, second = png(28, 28, seed=1), png(28, 28, seed=2)
    assert by_anthropic(first) == by_ollama(first)
    assert by_anthropic(second) != by_anthropic(first)
    with ollama_client(seeing) as client:
        assert "vision" in client.show("smollm2").capabilities
    with pytest.raises(ollama.ResponseError):  # the model without a projector
        llama.chat("smollm2", [{"role": "user", "content": "?", "images": [first]}])


# ---- vectors, by encoders with random weights


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("encoders")
    with node(folder / "node", lan_enabled="off") as made:
        url = str(made.start()["http"])
        made.add(tiny_models.bert().write(folder / "Tinybert-1M-F32.gguf"))
        made.add(tiny_models.bert(pooling=4, ranks=True).write(folder / "Tinyrank-1M-F32.gguf"))
        for model in ("tinybert", "tinyrank"):
            assert httpx.post(f"{url}/api/generate", json={"model": model}, timeout=60).status_code == 200
        yield url


def test_ollama_gets_vectors_and_documents_are_ranked(encoders: str) -> None:
    with ollama_client(encoders) as client:
        both = client.embed("tinybert", ["hello", "world"]).embeddings
        (again,) = client.embed("tinybert", "world").embeddings
        (short,) = client.embed("tinybert", "world", dimensions=4).embeddings
        raw = client.embeddings("tinybert", "world").embedding
        assert client.show("tinybert").capabilities == ["embedding"]
    assert both[1] == pytest.approx(again, abs=1e-5) and both[0] != pytest.approx(both[1], abs=1e-3)
    assert [sum(x * x for x in vector) for vector in (again, short)] == pytest.approx([1, 1])
    scale = raw[0] / again[0]
    assert list(raw) == pytest.approx([scale * x for x in again], rel=1e-4)
    ask = {"model": "tinyrank", "query": "a", "documents": ["b", "c d", "e f g"], "top_n": 2}
    results = httpx.post(f"{encoders}/rerank", json=ask, timeout=60).json()["results"]
    assert len(results) == 2 and results[0]["relevance_score"] >= results[1]["relevance_score"]


# ---- the last, as it stops the engine that the others use


def test_ollama_sees_the_model_on_disk_and_in_memory(
    llama: ollama.Client, one: TestNode, model: str, smollm2: Path
) -> None:
    (listed,) = llama.list().models
    assert (listed.model, listed.size, listed.details.parameter_size) == (model, smollm2.stat().st_size, "135M")
    shown = llama.show("smollm2")
    assert shown.modelinfo["general.architecture"] == "llama"
    assert "im_start" in shown.template and "completion" in shown.capabilities

    def expires() -> float:
        return llama.ps().models[0].expires_at.timestamp() - time.time()

    assert llama.generate("smollm2", keep_alive=-1).done_reason == "load"
    assert expires() > 1e9
    llama.chat("smollm2", CAPITAL, options=GREEDY, keep_alive="2h")
    assert 7000 < expires() <= 7200
    (loaded,) = llama.ps().models
    assert (loaded.model, loaded.context_length > 0, loaded.size > 0) == (model, True, True)
    assert llama.generate("smollm2", keep_alive=0).done_reason == "unload"
    assert llama.ps().models == [] and one.call("ps")["engines"] == []
