"""The MCP tools carried out by asking the daemon over its HTTP API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import httpx

from hali.api.mcp_tools import ChatCall, NoCall, PullCall, pulled
from hali.cli.chat import BY_STATUS, READ_S
from hali.model.errors import EngineFailed, Failed, HaliError

CONNECT_S = 10.0  # to a daemon of this machine


class RemoteToolbox:
    """`hali.api.mcp_tools.Toolbox`. Cancelling a call closes its connection, which stops the work that nobody waits for."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def chat(self, call: ChatCall) -> dict[str, Any]:
        """One reply to one prompt."""
        system = [{"role": "system", "content": call.system}] if call.system else []
        named = {"temperature": call.temperature, "max_tokens": call.max_tokens}
        body = {
            "model": call.model,
            "messages": [*system, {"role": "user", "content": call.prompt}],
            **{name: value for name, value in named.items() if value is not None},
        }
        reply = await self._asked("POST", "/v1/chat/completions", body)
        choice, usage = reply["choices"][0], reply["usage"]
        return {
            "text": choice["message"]["content"] or "",
            "model": reply["model"],
            "finish_reason": choice["finish_reason"],
            "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
        }

    async def list_models(self, call: NoCall) -> dict[str, Any]:
        """All that can answer."""
        rows = (await self._asked("GET", "/v1/models"))["data"]
        return {"models": [{name: row[name] for name in ("id", "sha256", "size")} for row in rows]}

    async def pull(self, call: PullCall) -> dict[str, Any]:
        """The state when it ended, or when the time was over; the daemon goes on."""
        last: dict[str, Any] = {}
        with _telling(), anyio.move_on_after(call.wait_s) as waiting:
            async with self._client.stream("POST", "/api/pull", json={"model": call.model}) as response:
                if response.status_code != 200:
                    raise _failure(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    last |= json.loads(line)
                    if "error" in last:
                        raise Failed(last["error"])
        return pulled(last, finished=not waiting.cancelled_caught)

    async def status(self, call: NoCall) -> dict[str, Any]:
        """What the daemon tells about itself."""
        with _telling():
            ready = (await self._client.get("/health/ready")).json()  # 503 tells why it is not
        health, loaded = await self._asked("GET", "/health"), await self._asked("GET", "/api/ps")
        return {
            "version": health["version"],
            "ready": ready["status"] == "ready",
            **{name: ready[name] for name in ("reason", "running", "queued")},
            "loaded": [row["name"] for row in loaded["models"]],
        }

    async def _asked(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        with _telling():
            response = await self._client.request(method, path, json=body)
        if response.status_code != 200:
            raise _failure(response.status_code, response.content)
        return response.json()


@contextmanager
def _telling() -> Iterator[None]:
    """`Failed` where the daemon cannot be reached, or leaves in the middle."""
    try:
        yield
    except httpx.HTTPError as error:
        raise Failed(f"the connection to the daemon broke: {error or type(error).__name__}") from None


def client_of(url: str, key: str | None) -> httpx.AsyncClient:
    """A client of the daemon at `url`; no proxy of the environment stands between."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout, trust_env=False)


def _failure(status: int, body: bytes) -> HaliError:
    """The daemon's error, in OpenAI's shape or Ollama's."""
    try:
        error = json.loads(body)["error"]
        text = error if isinstance(error, str) else error["message"]
    except (ValueError, KeyError, TypeError):
        text = f"HTTP {status}"
    return BY_STATUS.get(status, EngineFailed)(text)
