"""The methods of the IPC about models in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from hali.daemon.benching import Bench, Plan
from hali.daemon.ipc import Emit, Handler, Params, field
from hali.daemon.removing import unload
from hali.daemon.views import describe_engine
from hali.engine.kinds import must_write
from hali.model.errors import UsageError

if TYPE_CHECKING:
    from hali.daemon.node import Node

Seconds = Annotated[float, Meta(ge=-1, le=1e9)]  # 0 = unloaded at once, -1 = never
Tokens = Annotated[int, Meta(ge=0, le=1 << 20)]
Streams = Annotated[tuple[Annotated[int, Meta(ge=1, le=256)], ...], Meta(min_length=1, max_length=16)]


class EngineMethods:
    """All methods by name."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def table(self) -> dict[str, Handler]:
        """Method name → handler."""
        return {"ps": self.ps, "load": self.load, "unload": self.unload, "bench": self.bench}

    async def ps(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Models in memory."""
        return {"engines": [describe_engine(status) for status in self._node.engines.list()]}

    async def load(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Load one model; `keep_alive` says how long it stays without requests, in seconds."""
        model = self._node.catalog.find(field(params, "model", str))
        keep = field(params, "keep_alive", Seconds | None, None)
        self._node.usage.used(model.sha256)
        info = await self._node.engines.load(model.engine_name, model.path)
        if keep is not None:
            self._node.engines.keep(model.engine_name, None if keep < 0 else keep)
        return {"model_id": model.id, "sha256": model.sha256, "n_ctx": info.n_ctx, "pid": info.pid}

    async def unload(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Unload one model."""
        entry = self._node.library.find(field(params, "model", str))
        return {"stopped": await unload(self._node.engines, entry)}

    async def bench(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Measure one model through router and engine, telling each result."""
        model = self._node.catalog.find(field(params, "model", str))
        plan = Plan(
            prompt=field(params, "prompt", Tokens, 512),
            generate=field(params, "generate", Tokens, 128),
            streams=field(params, "streams", Streams, (1,)),
            repeat=field(params, "repeat", Annotated[int, Meta(ge=1, le=100)], 3),
        )
        info = await self._node.engines.load(model.engine_name, model.path)
        must_write(info.kind)
        if max(plan.prompt, plan.generate) + 2 > info.n_ctx:
            raise UsageError(
                f"the context of this engine is {info.n_ctx} tokens", hint="measure less, or raise engine.n_ctx"
            )
        bench = Bench(self._node.router, model, info.n_vocab)
        rows = []
        async for result in bench.run(plan):
            rows.append(msgspec.to_builtins(result))
            await emit(rows[-1])
        return {"model_id": model.id, "sha256": model.sha256, "n_ctx": info.n_ctx, "results": rows}
