"""The board and the alerts that come with hali: each expression parses, and speaks of metrics and labels that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from hali.cli.reference_metrics import told

OPS = Path(__file__).resolve().parents[2] / "ops"
OF_PROMETHEUS = {"instance", "job", "le"}  # labels that it adds itself
SERIES = {name: set(family.labels) | OF_PROMETHEUS for family in told() for name in family.series} | {
    "up": OF_PROMETHEUS  # Prometheus' own: whether a target answers
}
VARIABLE = re.compile(r"\$__rate_interval")


def board() -> Any:
    """The Grafana board."""
    return json.loads((OPS / "grafana" / "hali.json").read_text())


def alerts() -> list[dict[str, Any]]:
    """All rules."""
    groups = yaml.safe_load((OPS / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Title and expression of each query of the board and of each alert."""
    for panel in board()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in alerts():
        yield rule["alert"], rule["expr"]


def wrong_with(expression: str) -> list[str]:
    """Metrics and labels that no daemon tells; ValueError for what PromQL cannot read."""
    parsed = promql_parser.parse(VARIABLE.sub("5m", expression))
    found: list[str] = []

    def look(node: Any) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            labels = {matcher.name for matcher in node.matchers.matchers}
            known = SERIES.get(node.name)
            found.extend([f"no metric {node.name}"] if known is None else [f"no label {x}" for x in labels - known])
        for part in ("lhs", "rhs", "expr", "param"):
            if (inner := getattr(node, part, None)) is not None:
                look(inner)
        for argument in getattr(node, "args", ()):
            look(argument)

    look(parsed)
    return found


def summed_by(expression: str) -> set[str]:
    """Labels in `by (…)`."""
    return {label.strip() for labels in re.findall(r"by \(([^)]*)\)", expression) for label in labels.split(",")}


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_each_expression_parses_and_uses_only_what_the_catalogue_has(title: str, expression: str) -> None:
    assert wrong_with(expression) == []
    names = [name for name in SERIES if re.search(rf"\b{name}\b", expression)]
    assert names and summed_by(expression) <= set().union(*(SERIES[name] for name in names))


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("rate(hali_nothing_total[5m])", "no metric hali_nothing_total"),
        ('sum by (x) (hali_models{colour="red"}) > 1', "no label colour"),
        ("histogram_quantile(0.9, rate(hali_queue_seconds[5m]))", "no metric hali_queue_seconds"),
        ("1 - (hali_running / hali_walking)", "no metric hali_walking"),
    ],
)
def test_an_expression_of_something_else_would_be_found(expression: str, problem: str) -> None:
    assert wrong_with(expression) == [problem]


def test_what_is_no_promql_would_be_found() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        wrong_with("rate(hali_tokens_total[5m]")


def test_the_board_has_one_place_for_each_panel() -> None:
    panels = board()["panels"]
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24  # Grafana's grid has 24 columns
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert {"summary", "description"} <= set(rule["annotations"])
        assert isinstance(promql_parser.parse(rule["expr"]), promql_parser.BinaryExpr)  # a comparison, not a value


def test_the_board_speaks_of_every_histogram_and_of_most_counters() -> None:
    shown = " ".join(expression for _, expression in expressions())
    histograms = [
        t.name for t in told() if t.kind == "histogram" and t.name not in ("hali_request_seconds", "hali_load_seconds")
    ]
    assert [name for name in histograms if name not in shown] == []
