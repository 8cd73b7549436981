"""What GET /metrics tells, as a table: docs/metrics.md, and what the board and the alerts may speak of."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from prometheus_client.metrics_core import Metric

from hali.api.metrics import Metrics
from hali.api.timing import Exchange, Generation
from hali.daemon.measures import catalogue as measured
from hali.model.generation import Usage

INTRO = """\
`GET /metrics` on the daemon's HTTP address, in Prometheus' text format, or as OpenMetrics for who asks for it. Where keys are required
it needs one with the scope `metrics`. What does not run (no LAN, no registry, no engine) tells nothing. Counters begin at zero with
each start of the daemon. `ops/prometheus/alerts.yml` and `ops/grafana/hali.json` are made of these.

```yaml
scrape_configs:
  - job_name: hali
    static_configs:
      - targets: ["127.0.0.1:47433"]
```"""


class Told(msgspec.Struct, frozen=True):
    """A family: its name as Prometheus shows it (of a histogram without `_bucket`), what kind it is, its labels."""

    name: str
    kind: str
    labels: tuple[str, ...]
    about: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names that an expression may use."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


def told() -> list[Told]:
    """All families, by name."""
    metrics, labels = Metrics(), {measure.name: measure.label for measure in measured()}
    metrics.answered(Exchange("GET", None), 200, 0.0)  # the library tells labels of series only
    generation = Generation()
    generation.trace.used = Usage(0, 0, 0.0, 0.0)
    metrics.generated(generation, None)
    found = []
    for family in metrics.families(measured()):
        named = labels.get(family.name)
        own = (named,) if isinstance(named, str) else named or _labels(family)
        suffix = "_total" if family.type == "counter" else ""
        found.append(Told(family.name + suffix, family.type, own, family.documentation))
    return sorted(found, key=lambda each: each.name)


def _labels(family: Metric) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for sample in family.samples for name in sample.labels if name != "le"))


def catalogue() -> Iterator[str]:
    """The paragraphs of docs/metrics.md."""
    yield "# Metrics"
    yield INTRO
    rows = (f"| `{t.name}` | {t.kind} | {', '.join(f'`{label}`' for label in t.labels)} | {t.about} |" for t in told())
    yield "\n".join(["| name | kind | labels | what |", "|---|---|---|---|", *rows])
