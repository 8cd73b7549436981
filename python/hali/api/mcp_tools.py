"""The tools that hali offers over MCP, whoever carries them out: the daemon itself, or a process that asks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from hali.model.errors import UsageError

WAIT_S = 30.0  # below the 60 s after which common MCP clients give up on a tool

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]


class ChatCall(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `chat`."""

    model: Annotated[str, Meta(description="Which model; `list_models` names them.")]
    prompt: Annotated[str, Meta(min_length=1, description="What to ask.")]
    system: Annotated[str | None, Meta(description="How the model shall behave.")] = None
    max_tokens: Annotated[Count | None, Meta(description="Longest reply, in tokens.")] = None
    temperature: Annotated[Temperature | None, Meta(description="0 = always the likeliest token.")] = None


class PullCall(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `pull`."""

    model: Annotated[str, Meta(min_length=1, description="A name, owner/repo[:quant], magnet link or infohash.")]
    wait_s: Annotated[
        float, Meta(ge=0, le=600, description="How long to wait for the end; the download goes on in any case.")
    ] = WAIT_S


class NoCall(msgspec.Struct, forbid_unknown_fields=True):
    """No arguments."""


class Toolbox(Protocol):
    """What carries the tools out; each answer is a JSON object. Failures are `HaliError`s."""

    async def chat(self, call: ChatCall) -> dict[str, Any]:
        """`text`, `model`, `finish_reason`, tokens."""

    async def list_models(self, call: NoCall) -> dict[str, Any]:
        """`models`: `id`, `sha256`, `size` in bytes."""

    async def pull(self, call: PullCall) -> dict[str, Any]:
        """As `pulled` has it."""

    async def status(self, call: NoCall) -> dict[str, Any]:
        """`version`, `ready`, `running`, `queued`, `loaded`."""


def pulled(line: Mapping[str, Any], *, finished: bool) -> dict[str, Any]:
    """How far a pull is by its last line of progress, in bytes; null is unknown."""
    status = line.get("status", "queued")
    return {"finished": finished, "status": status, "done": line.get("completed"), "total": line.get("total")}


class ToolSpec(msgspec.Struct, frozen=True):
    """One tool: `call` is the type of its arguments."""

    name: str
    description: str
    call: type[Any]
    run: Callable[[Toolbox, Any], Awaitable[dict[str, Any]]]
    read_only: bool = True

    def schema(self) -> dict[str, Any]:
        """The JSON schema of its arguments, in one piece: not every client follows references."""
        (schema,), parts = msgspec.json.schema_components([self.call], ref_template="{name}")
        return {name: value for name, value in parts[schema["$ref"]].items() if name not in ("title", "description")}

    def arguments(self, given: dict[str, Any]) -> Any:
        """`given` as an object of `call`; `UsageError`."""
        try:
            return msgspec.convert(given, self.call)
        except msgspec.ValidationError as error:
            raise UsageError(f"{self.name}: {error}", code="invalid_value") from None


TOOLS = {
    tool.name: tool
    for tool in (
        ToolSpec("chat", "Ask a local model.", ChatCall, lambda box, call: box.chat(call)),
        ToolSpec("list_models", "Models on this node.", NoCall, lambda box, call: box.list_models(call)),
        ToolSpec(
            "pull",
            "Fetch a model, from the LAN, by BitTorrent or from Hugging Face. Ask again to see how far it is.",
            PullCall,
            lambda box, call: box.pull(call),
            read_only=False,
        ),
        ToolSpec("status", "What the node does now.", NoCall, lambda box, call: box.status(call)),
    )
}
