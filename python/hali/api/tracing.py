"""The switch of OpenTelemetry: nothing of it is imported while no collector is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hali.runtime.log import get_logger

if TYPE_CHECKING:
    from hali.api.otel import Spans

log = get_logger(__name__)


def open_spans(endpoint: str, node: str) -> Spans | None:
    """What tells the collector at `endpoint` of requests; None without one, or, as one line of the log says, without the extra."""
    if not endpoint:
        return None
    try:
        from hali.api.otel import Spans
    except ModuleNotFoundError as exc:
        if not (exc.name or "").startswith("opentelemetry"):
            raise
        log.warning("tracing.off", error="tracing.otlp_endpoint needs OpenTelemetry", hint="pip install 'hali[otel]'")
        return None
    log.info("tracing.on", endpoint=endpoint)
    return Spans(endpoint, node)
