"""One conversation over `/v1/chat/completions`, streamed. Plain `http.client`: a chat needs one connection at a time."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hali.model.errors import EngineFailed, Failed, HaliError, NotFound, NotRunning, Overloaded, Refused, UsageError

CONNECT_S = 10.0  # to a daemon of this machine
READ_S = 600.0  # loading a large model from a cold disk can take minutes before the first byte of the answer
Content = str | list[dict[str, Any]]  # of a message: a text, or parts of which some are images
BY_STATUS: dict[int, type[HaliError]] = {
    400: UsageError,
    401: Refused,
    403: Refused,
    404: NotFound,
    413: UsageError,
    429: Overloaded,
    503: Overloaded,
}


class Thought(str):
    """A piece of a reply that is a thought of the model, not the answer."""

    __slots__ = ()


class ChatClient:
    """Keeps the history; `say` adds a turn once its reply is complete or was stopped by the user, not when it failed.

    `system` and `options` (further fields of a request) may be changed between turns.
    """

    def __init__(self, url: str, key_file: Path, model: str, system: str | None, options: Mapping[str, Any]) -> None:
        self.model = model
        self._url = url
        self.options = {name: value for name, value in options.items() if value is not None}
        self.system = system
        self.history: list[dict[str, Any]] = []
        self._sent: dict[str, Any] | None = None  # the last turn that was asked, whatever came of it
        self._headers = {"content-type": "application/json"}
        if key_file.exists():
            self._headers["authorization"] = f"Bearer {key_file.read_text().strip()}"

    def clear(self) -> None:
        """Forget the conversation."""
        self.restore([])

    def restore(self, history: list[dict[str, Any]]) -> None:
        """Go on after these messages."""
        self.history, self._sent = history, None

    def say(self, prompt: Content) -> Reply:
        """The reply to `prompt`, streamed by iterating over it."""
        return self._ask({"role": "user", "content": prompt}, after=self.history)

    def retry(self) -> Reply | None:
        """Another reply to the last prompt, whatever came of it; it takes the place of one that is remembered. None without a prompt."""
        answered = self.history[-2] if len(self.history) >= 2 else None
        turn = self._sent or answered
        if turn is None:
            return None
        return self._ask(turn, after=self.history[:-2] if turn is answered else self.history)

    def _ask(self, turn: dict[str, Any], *, after: list[dict[str, Any]]) -> Reply:
        self._sent = turn
        system = [{"role": "system", "content": self.system}] if self.system else []
        body = {
            "model": self.model,
            "messages": [*system, *after, turn],
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.options,
        }

        def remember(text: str) -> None:
            self.history = [*after, turn, {"role": "assistant", "content": text}]

        return Reply(_stream(self._url, self._headers, body), remember)


class Reply:
    """One streamed reply with its timing; seconds are None before they are known. To leave the loop over it closes `events`."""

    def __init__(self, events: Generator[dict[str, Any]], remember: Callable[[str], None]) -> None:
        self._events, self._remember = events, remember
        self.text = self.thoughts = ""
        self.finish_reason: str | None = None
        self.ttft_s: float | None = None
        self.total_s: float | None = None
        self.usage: dict[str, int] = {}

    def __iter__(self) -> Generator[str, None, None]:
        started = time.monotonic()
        try:
            with closing(self._events):  # now, not when the reply is forgotten: its timing may be asked for long after
                for event in self._events:
                    yield from self._take(event, started)
        except HaliError:
            self.total_s = time.monotonic() - started
            raise
        except BaseException:  # the user stopped it
            self._end(started)
            raise
        self._end(started)

    def _end(self, started: float) -> None:
        self.total_s = time.monotonic() - started
        if self.text:
            self._remember(self.text)

    def _take(self, event: dict[str, Any], started: float) -> Iterator[str]:
        self.usage = event.get("usage") or self.usage
        for choice in event.get("choices", []):
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            piece, thought = (choice["delta"].get(name) or "" for name in ("content", "reasoning_content"))
            if (piece or thought) and self.ttft_s is None:
                self.ttft_s = time.monotonic() - started
            self.text += piece
            self.thoughts += thought
            yield from filter(None, (Thought(thought), piece))

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


def _stream(url: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
    """The server-sent events of one request. Leaving the loop closes the connection, which stops the reply."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=CONNECT_S)
    try:
        connection.connect()
        connection.sock.settimeout(READ_S)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), dict(headers))
        response = connection.getresponse()
        if response.status != 200:
            raise _error(response.status, response.read(), known="authorization" in headers)
        yield from _parse(response)
    except ConnectionRefusedError:
        raise NotRunning(f"no daemon answers at {url} any more", hint="`hali daemon start`, then ask again") from None
    except (OSError, http.client.HTTPException) as exc:
        raise Failed(
            f"the connection to the daemon broke: {exc or type(exc).__name__}", hint="see `hali logs`"
        ) from None
    finally:
        connection.close()


def _parse(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON after each `data:` up to `[DONE]`; raises the error that the daemon sends as an event."""
    for line in response:
        if not line.startswith(b"data: "):
            continue
        if line.strip() == b"data: [DONE]":
            return
        event = json.loads(line[6:])
        if "error" in event:
            raise EngineFailed(event["error"]["message"])  # which tells what to do, too
        yield event
    raise Failed("the reply ended too early", hint="see `hali logs`")


def _error(status: int, body: bytes, *, known: bool) -> HaliError:
    """`known`: a key was sent."""
    if status == HTTPStatus.UNAUTHORIZED and not known:
        return Refused("a key is required, and api.key is gone", hint="`hali doctor` tells how to get a new one")
    kind = BY_STATUS.get(status, EngineFailed)
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = f"HTTP {status}"
    return kind(message)
