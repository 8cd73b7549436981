"""One conversation over `/v1/chat/completions`, streamed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from hali.model.errors import EngineFailed, Failed, NotFound, Overloaded, Refused, UsageError

# Loading a large model from a cold disk can take minutes before the first byte of the answer.
TIMEOUT = httpx.Timeout(10.0, read=600.0)
BY_STATUS: dict[int, type[Failed] | type[UsageError] | type[Refused] | type[NotFound]] = {
    400: UsageError,
    401: Refused,
    403: Refused,
    404: NotFound,
    429: Overloaded,
    503: Overloaded,
}


class ChatClient:
    """Keeps the history; `say` adds a turn once its reply is complete or was stopped by the user."""

    def __init__(self, url: str, key_file: Path, model: str, system: str | None, options: Mapping[str, Any]) -> None:
        self.model = model
        self._options = {name: value for name, value in options.items() if value is not None}
        self._system = [{"role": "system", "content": system}] if system else []
        self._history: list[dict[str, str]] = []
        key = key_file.read_text().strip() if key_file.exists() else ""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # trust_env=False: a proxy from the environment must not see what is said to our own daemon.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False)

    def clear(self) -> None:
        """Forget the conversation."""
        self._history.clear()

    def say(self, prompt: str) -> Reply:
        """The reply to `prompt`, streamed by iterating over it."""
        turn = {"role": "user", "content": prompt}
        body = {
            "model": self.model,
            "messages": [*self._system, *self._history, turn],
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._options,
        }

        def remember(text: str) -> None:
            self._history += [turn, {"role": "assistant", "content": text}]

        return Reply(self._http, body, remember)

    def __enter__(self) -> ChatClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._http.close()


class Reply:
    """One streamed reply with its timing; seconds are None before they are known."""

    def __init__(self, http: httpx.Client, body: Mapping[str, Any], remember: Any) -> None:
        self._http, self._body, self._remember = http, body, remember
        self.text = ""
        self.finish_reason: str | None = None
        self.ttft_s: float | None = None
        self.total_s: float | None = None
        self.usage: dict[str, int] = {}

    def __iter__(self) -> Iterator[str]:
        started = time.monotonic()
        try:
            for event in self._events():
                yield from self._take(event, started)
        finally:
            self.total_s = time.monotonic() - started
            if self.text:
                self._remember(self.text)

    def _take(self, event: dict[str, Any], started: float) -> Iterator[str]:
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices", []):
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            piece = choice["delta"].get("content") or ""
            if piece:
                self.ttft_s = self.ttft_s if self.ttft_s is not None else time.monotonic() - started
                self.text += piece
                yield piece

    def _events(self) -> Iterator[dict[str, Any]]:
        try:
            with self._http.stream("POST", "/v1/chat/completions", json=self._body) as response:
                if response.status_code != 200:
                    response.read()
                    raise _error(response.status_code, response.text)
                for line in response.iter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        event = json.loads(line[6:])
                        if "error" in event:
                            raise EngineFailed(event["error"]["message"], hint="the next prompt gets a new engine")
                        yield event
        except httpx.HTTPError as exc:
            raise Failed(f"the connection to the daemon broke: {exc or type(exc).__name__}", hint="see `hali logs`") from None

    def timing(self) -> dict[str, Any]:
        """Seconds, tokens, and tokens a second after the first."""
        tokens = self.usage.get("completion_tokens")
        rate = None
        if tokens and tokens > 1 and self.ttft_s is not None and self.total_s is not None:
            rate = round((tokens - 1) / max(self.total_s - self.ttft_s, 1e-6), 2)
        return {
            "ttft_s": self.ttft_s,
            "total_s": self.total_s,
            "prompt_tokens": self.usage.get("prompt_tokens"),
            "completion_tokens": tokens,
            "tokens_per_s": rate,
        }


def _error(status: int, body: str) -> Failed | UsageError | Refused | NotFound:
    kind = BY_STATUS.get(status, EngineFailed)
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {status}"
    return kind(message)
