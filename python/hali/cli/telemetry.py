"""`hali telemetry status|on|off`."""

from __future__ import annotations

import json
from typing import Any

import typer

from hali.cli.apps import new_app
from hali.cli.output import current
from hali.config import load as config
from hali.config.paths import Paths, from_environment

app = new_app("Telemetry: reports to the configured registries of how pulls ended. Off unless you switch it on.")
KEY = "telemetry"
REPORT = "/report"  # where a registry takes them


@app.command()
def status(ctx: typer.Context) -> None:
    """Whether telemetry is on, and exactly what a report holds: these fields and no others, to these registries and nobody else.

    With --json: `telemetry` (true or false), `request`, `reports` (`registry`, `body`; what differs from report to report stands in
    angle brackets).
    """
    out, paths = current(ctx), from_environment()
    settings = config.load(paths.config).settings
    reports = _previews(paths, settings.registry.url)
    found = {"telemetry": settings.telemetry, "request": f"POST {REPORT}", "reports": reports}
    if out.as_json:
        out.json(found)
        return
    out.line(f"telemetry is {'on' if settings.telemetry else 'off'}")
    for report in reports:
        out.line(f"\nwhen a pull has ended, POST {report['registry']}{REPORT}")
        out.line(json.dumps(report["body"], indent=2))
    if not reports:
        out.line("No registry server is configured, so nothing is sent.")


def _previews(paths: Paths, urls: tuple[str, ...]) -> list[dict[str, Any]]:
    from hali.config.identity import load_or_create
    from hali.config.registries import parse_all
    from hali.registry.telemetry import preview

    servers = [address.url for address in parse_all(urls) if address.pin is None]
    if not servers:
        return []
    paths.create()
    identity = load_or_create(paths.identity)
    return [{"registry": url, "body": preview(identity, url)} for url in servers]


@app.command()
def on(ctx: typer.Context) -> None:
    """Switch telemetry on. Applied by `hali daemon restart`.

    With --json: `telemetry`, `path`.
    """
    _set(ctx, True)


@app.command()
def off(ctx: typer.Context) -> None:
    """Switch telemetry off. Applied by `hali daemon restart`.

    With --json: `telemetry`, `path`.
    """
    _set(ctx, False)


def _set(ctx: typer.Context, value: bool) -> None:
    paths = from_environment()
    paths.create()
    config.store(paths.config, KEY, str(value).lower())
    text = f"Telemetry is {'on' if value else 'off'} in {paths.config}. `hali daemon restart` applies it."
    current(ctx).result({"telemetry": value, "path": str(paths.config)}, text)
