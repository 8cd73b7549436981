"""`hali keys`."""

from __future__ import annotations

import math
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.facts import moment
from hali.cli.output import current
from hali.model.errors import UsageError
from hali.model.units import parse_duration

app = new_app("Keys of the HTTP API. The key in `api.key` of the data directory is the owner's and opens everything.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="Who or what uses it: letters, digits, `.`, `_`, `-`.")]


@app.command()
def create(
    ctx: typer.Context,
    name: Name,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCOPE",
            help="What it opens: inference, models (lists), manage (fetch, delete, load) or metrics. May be repeated. "
            "Without it: inference and models.",
        ),
    ] = None,
    rpm: Annotated[int | None, typer.Option(metavar="N", help="Requests a minute; 0 for no limit.")] = None,
    tpm: Annotated[int | None, typer.Option(metavar="N", help="Tokens a minute; 0 for no limit.")] = None,
    tpd: Annotated[int | None, typer.Option(metavar="N", help="Tokens a day.")] = None,
    weight: Annotated[
        float, typer.Option(metavar="W", help="Its share of the turns when others wait too; others have 1.")
    ] = 1.0,
    expires: Annotated[str | None, typer.Option(metavar="TIME", help="Valid for so long: 90d, 12h.")] = None,
) -> None:
    """Make a key. It is shown this once: only its SHA-256 is kept.

    Without --rpm and --tpm the keys `api.requests_per_minute` and `api.tokens_per_minute` hold. The daemon takes it at once.
    With --json: `key`, and the fields of `hali keys list`.
    """
    out = current(ctx)
    if not math.isfinite(weight):
        raise UsageError(f"--weight: {weight} is no share", hint="give a number above 0")
    wish: dict[str, Any] = {"name": name, "rpm": rpm, "tpm": tpm, "tpd": tpd, "weight": weight}
    if scope:
        wish["scopes"] = scope
    if expires is not None:
        wish["expires_s"] = _seconds(expires)
    with control.needed(out) as client:
        made = client.call("keys_create", **wish)
    if out.as_json:
        out.json(made)
        return
    out.note(f"Key {name}: {', '.join(made['scopes'])}. It is not shown again.")
    out.line(made["key"])  # alone on standard output, so that a script can take it


@app.command(name="list")
def show(ctx: typer.Context) -> None:
    """Keys that were made, without their secrets.

    With --json: `keys`, a list of `name`, `scopes`, `weight`, `rpm`, `tpm`, `tpd` (limits; null is the default of the configuration, 0
    no limit), `created_at`, `expires_at` (seconds since 1970, or null).
    """
    out = current(ctx)
    with control.connect() as client:
        found = client.call("keys")
    if out.as_json:
        out.json(found)
    elif not found["keys"]:
        out.line("No keys. `hali keys create NAME` makes one.")
    else:
        columns = ("NAME", "SCOPES", "WEIGHT", "REQ/MIN", "TOK/MIN", "TOK/DAY", "CREATED", "EXPIRES")
        out.table(columns, [_row(key) for key in found["keys"]])


@app.command()
def revoke(ctx: typer.Context, name: Name) -> None:
    """Take a key back: its next request is refused; replies under way are finished. With --json: `name`.

    Where no key is needed, it passes like any other word that is no key.
    """
    with control.needed(current(ctx)) as client:
        done = client.call("keys_revoke", name=name)
    current(ctx).result(done, f"Revoked {name}.")


def _row(key: dict[str, Any]) -> tuple[str, ...]:
    limits = ("—" if key[limit] is None else str(key[limit]) for limit in ("rpm", "tpm", "tpd"))
    expires = "never" if key["expires_at"] is None else moment(key["expires_at"])
    return key["name"], ",".join(key["scopes"]), f"{key['weight']:g}", *limits, moment(key["created_at"]), expires


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--expires: {error}") from None
