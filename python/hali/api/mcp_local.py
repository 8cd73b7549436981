"""The MCP tools carried out by the daemon itself, in the name of whoever sent the request."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import anyio
from starlette.requests import Request

from hali._version import __version__
from hali.api.asking import deps_of, generated, must_hold, store_of
from hali.api.endings import ended, unfinished
from hali.api.mcp_tools import ChatCall, NoCall, PullCall, pulled
from hali.api.ollama_models import pull_lines
from hali.model.generation import Chunk, Done, GenerateRequest, Message, SamplingParams


class LocalToolbox:
    """For one request."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def chat(self, call: ChatCall) -> dict[str, Any]:
        """One reply to one prompt; thoughts are left out."""
        model = deps_of(self._request).catalog.find(call.model)
        system = [Message("system", call.system)] if call.system else []
        named = {"temperature": call.temperature, "max_tokens": call.max_tokens}
        sampling = SamplingParams(**{name: value for name, value in named.items() if value is not None})  # type: ignore[arg-type]
        asked = GenerateRequest(messages=(*system, Message("user", call.prompt)), sampling=sampling)
        texts: list[str] = []
        async with aclosing(generated(self._request, model, asked)) as events:
            async for item in events:
                if isinstance(item, Chunk) and not item.reasoning:
                    texts.append(item.text)
                elif isinstance(item, Done):
                    return _said("".join(texts), model.id, ended(item))
        raise unfinished()

    async def list_models(self, call: NoCall) -> dict[str, Any]:
        """All that can answer."""
        must_hold(self._request, "models")
        models = deps_of(self._request).catalog.list()
        return {"models": [{"id": each.id, "sha256": each.sha256, "size": each.size} for each in models]}

    async def pull(self, call: PullCall) -> dict[str, Any]:
        """The state when it ended, or when the time was over."""
        must_hold(self._request, "manage")
        last: dict[str, Any] = {}
        with anyio.move_on_after(call.wait_s) as waiting:
            async with aclosing(pull_lines(store_of(self._request).pull(call.model))) as lines:
                async for line in lines:
                    last = {**last, **line}
        return pulled(last, finished=not waiting.cancelled_caught)

    async def status(self, call: NoCall) -> dict[str, Any]:
        """As /health/ready and `hali ps` tell it."""
        must_hold(self._request, "models")  # as it tells which are loaded
        deps = deps_of(self._request)
        stats, reason = deps.router.stats(), deps.not_ready()
        loaded = deps.models.loaded() if deps.models is not None else ()
        return {
            "version": __version__,
            "ready": reason is None and stats.accepting,
            "reason": reason,
            "running": stats.running,
            "queued": stats.queued,
            "loaded": [each.model.id for each in loaded],
        }


def _said(text: str, model: str, done: Done) -> dict[str, Any]:
    return {
        "text": text,
        "model": model,
        "finish_reason": done.reason,
        "prompt_tokens": done.usage.prompt_tokens,
        "completion_tokens": done.usage.completion_tokens,
    }
