"""`python -m bench.macro.streams URL`: chat completions sent at once, streamed, and timed by a client of its own process.

Standard input has a JSON list of request bodies; printed is a JSON object: `wall_s` from the first byte sent to the last
reply's end, and for each reply `ttft_s` (to its first text), `total_s`, `events` (with text), `tokens` and `prompt` (by its usage).
Raw sockets: the client must cost less than what it measures, whoever serves.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit


async def one(host: str, port: int, body: dict[str, Any]) -> dict[str, Any]:
    """Send one request and read its events to the end; RuntimeError for any other answer."""
    data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
    writer.write(f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"{status!r} {(await reader.read())[:400]!r}")
    first, events, usage = None, 0, {}
    async for line in reader:  # chunk sizes of the transfer coding are lines of their own, and no event
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        if any(choice["delta"].get("content") for choice in event.get("choices", [])):
            events += 1
            first = first or time.perf_counter()
    writer.close()
    if first is None:
        raise RuntimeError("a reply without text")
    total = time.perf_counter() - began
    tokens = {"tokens": usage["completion_tokens"], "prompt": usage["prompt_tokens"]}
    return {"ttft_s": first - began, "total_s": total, "events": events, **tokens}


async def all_at_once(url: str, bodies: list[dict[str, Any]]) -> dict[str, Any]:
    """See the module."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    began = time.perf_counter()
    replies = await asyncio.gather(*(one(parts.hostname, parts.port, body) for body in bodies))
    return {"wall_s": time.perf_counter() - began, "replies": replies}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(all_at_once(sys.argv[1], json.load(sys.stdin)))))
