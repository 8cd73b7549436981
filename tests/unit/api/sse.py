"""Server-sent events, read strictly."""

from __future__ import annotations

import json
from typing import Any

import httpx


def events_of(response: httpx.Response) -> list[Any]:
    """The data of each event of a chat; the form of the stream is checked byte for byte."""
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    datas = [part.removeprefix("data: ") for part in parts]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def named_events_of(response: httpx.Response) -> list[dict[str, Any]]:
    """The data of each event of a response; its name is that of its type, its number that of its place."""
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    datas = []
    for part in parts:
        name, data = part.split("\n")
        datas.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {datas[-1]['type']}"
    return datas
