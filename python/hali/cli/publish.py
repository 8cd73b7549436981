"""`hali publish` and `hali profile show|set`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.choosing import with_choice
from hali.cli.output import Output, current
from hali.model.errors import ExitCode, Refused, UsageError

app = new_app()
profile = new_app("What your publisher's key tells about you. Only a display name is needed; all of it is public.")
app.add_typer(profile, name="profile")


@app.command()
def publish(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Model id (or a unique part), SHA-256 or infohash (or 8 digits of it), or file name."
        ),
    ],
) -> None:
    """Sign a model's names and hashes and hand them, with its .torrent, to the registries of `registry.url`. Never its bytes.

    What a registry that is down could not take yet is kept and delivered later. Exit code 7 when one refused.

    With --json: `model_id`, `infohash_v2`, `publisher` (your key), `registries` (`url`, `state`: published, queued or refused, `error`).
    """
    out = current(ctx)
    with control.needed(out) as client:
        done = with_choice(out, model, lambda name: client.call("publish", model=name))
    out.result(done, f"{done['model_id']}  publisher {done['publisher'][:16]}…")
    for row in done["registries"]:
        error = (row["error"] or "").removeprefix(f"{row['url']}: ")  # which stands there already
        reason = f": {error}" if error else ""
        out.line(f"  {row['state']:<9} {row['url']}{reason}")
    refused = [row["url"] for row in done["registries"] if row["state"] == "refused"]
    if refused and out.as_json:  # the one object says who refused and why
        raise typer.Exit(ExitCode.REFUSED)
    if refused:
        raise Refused(f"{', '.join(refused)} refused the model")


@profile.command()
def show(ctx: typer.Context) -> None:
    """Your publisher's key and profile.

    With --json: `publisher` (key), `profile` (`display_name`, `description`, `website`, `contact`; those that are set).
    """
    out = current(ctx)
    with control.needed(out) as client:
        _print(out, client.call("profile"))


@profile.command(name="set")
def set_profile(
    ctx: typer.Context,
    display_name: Annotated[str | None, typer.Option(metavar="TEXT", help="Up to 80 characters.")] = None,
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="One line; empty removes it.")] = None,
    website: Annotated[str | None, typer.Option(metavar="URL", help="http or https; empty removes it.")] = None,
    contact: Annotated[str | None, typer.Option(metavar="TEXT", help="One line; empty removes it.")] = None,
) -> None:
    """Change fields of your profile, sign it and hand it to the registries.

    With --json as `hali profile show`.
    """
    given = {"display_name": display_name, "description": description, "website": website, "contact": contact}
    fields = {name: text for name, text in given.items() if text is not None}
    if not fields:
        raise UsageError("nothing to set", hint="--display-name, --description, --website, --contact")
    out = current(ctx)
    with control.needed(out) as client:
        _print(out, client.call("profile_set", fields=fields))


def _print(out: Output, found: dict[str, Any]) -> None:
    if out.as_json:
        out.json(found)
        return
    out.line(f"publisher key  {found['publisher']}")
    for name, text in found["profile"].items():
        out.line(f"{name:<14} {text}")
    if not found["profile"]:
        out.line("No profile. `hali profile set --display-name NAME` makes one.")
