"""Questions to a running engine that generate nothing: tokens, texts, prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.engine.process import EngineProcess
from hali.model.errors import UsageError
from hali.model.generation import Detokenize, GenerateRequest, Message, Render, Rerank, Text, Tokenize, Tokens

pytestmark = pytest.mark.model


async def test_tokens_become_the_text_they_were_made_of_and_a_chat_its_prompt(smollm2: Path):
    engine = EngineProcess("smol")
    await engine.start(smollm2)
    try:
        said = "naïve 詩 <|im_end|>"
        tokens = await engine.ask(Tokenize(said))
        assert isinstance(tokens, Tokens) and tokens.text == said and b"".join(tokens.pieces) == said.encode()
        plain = await engine.ask(Tokenize(said, parse_special=False))
        assert isinstance(plain, Tokens) and plain.text == said and len(plain.tokens) > len(tokens.tokens)
        assert await engine.ask(Detokenize(tokens.tokens)) == Text(said)
        chat = GenerateRequest(messages=(Message("user", "Hi"),))
        prompt = await engine.ask(Render(chat))
        assert isinstance(prompt, Tokens) and "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n" in prompt.text
    finally:
        await engine.stop()


async def test_what_cannot_be_answered_is_refused_and_the_engine_goes_on(smollm2: Path):
    engine = EngineProcess("smol")
    await engine.start(smollm2)
    try:
        with pytest.raises(UsageError, match="there is no token 999999"):
            await engine.ask(Detokenize((999_999,)))
        with pytest.raises(UsageError, match="no score to give"):
            await engine.ask(Rerank("a text", ("another",)))
        assert isinstance(await engine.ask(Tokenize("a")), Tokens)
    finally:
        await engine.stop()
