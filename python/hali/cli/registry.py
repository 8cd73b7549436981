"""`hali registry serve|index|status` and `hali registry keys rotate|revoke`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.choosing import agreed
from hali.cli.output import current
from hali.config.paths import absolute, from_environment
from hali.model.errors import Cancelled, UsageError

app = new_app(
    "Registries: signed lists of models. Run one, write one as a folder, see what waits for them, change the publisher's key."
)
keys = new_app("Change or revoke the key that signs what you publish.")
app.add_typer(keys, name="keys")
LISTEN = "127.0.0.1:47440"  # beside the daemon's 47433
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command()
def serve(
    ctx: typer.Context,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0 is any free one.")] = LISTEN,
    db: Annotated[
        str | None, typer.Option(metavar="PATH", help="SQLite file; without it registry.db in the data directory.")
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option(metavar="DSN", help="PostgreSQL instead, postgresql://USER@HOST/DATABASE; needs hali[postgres]."),
    ] = None,
    service: Annotated[
        bool, typer.Option("--service", help="Log to a file, as `hali service install` asks for.")
    ] = False,
) -> None:
    """Run a registry server until Ctrl-C: nodes publish to it, search it and report to it.

    It needs no daemon and keeps names, hashes, signatures and .torrent files, never models. See docs/registry.md.

    With --json one line when it is ready: `url`.
    """
    from hali.registry import server
    from hali.runtime import log as logs

    if db is not None and dsn is not None:
        raise UsageError("--db and --dsn exclude each other")
    out, paths = current(ctx), from_environment()
    if service or (db is None and dsn is None):
        paths.create()
    storage = server.open_storage(Path(db) if db is not None else paths.home / "registry.db", dsn)
    try:
        sock = server.listen(listen)
    except BaseException:
        storage.close()
        raise
    folder = paths.logs if service else None
    logs.configure(debug=False, directory=folder, stderr=not (out.quiet or out.as_json or service), file=server.LOG)
    server.serve(storage, sock, lambda url: out.result({"url": url}, f"Registry at {url}"))


@app.command()
def index(
    ctx: typer.Context,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder to write; made when missing.")],
) -> None:
    """Write a static registry of all models of this node: a signed folder for any web server, or for a file: path.

    Readers name it with your key: registry.url = ["https://host/folder#ed25519:KEY"]. Models that are damaged or incomplete are left
    out, and named on standard error.

    With --json: `directory`, `models` (how many), `key`, `sequence`, `left_out` (`model_id`, `reason`).
    """
    if not directory.strip():
        raise UsageError("DIR is empty", hint="name a folder; `.` is the current one")
    out, folder = current(ctx), str(absolute(directory))
    with control.needed(out) as client:
        done = client.call("registry_index", timeout=None, directory=folder)
    for each in done["left_out"]:
        out.warn(f"left out: {each['reason']}")
    models = "1 model" if done["models"] == 1 else f"{done['models']} models"
    out.result(done, f"{models} in {done['directory']}\n  registry.url  …#ed25519:{done['key']}")


@app.command()
def status(ctx: typer.Context) -> None:
    """The configured registries, the publisher's key, and what waits to be delivered. Exit code 4 when the daemon does not run.

    With --json: `registries`, `publish`, `telemetry`, `publisher` (key), `outbox` (`registry`, `kind`, `subject`, `state`, `attempts`,
    `error`).
    """
    out = current(ctx)
    with control.connect() as client:
        found = client.call("registry_status")
    if out.as_json:
        out.json(found)
        return
    out.line(f"publisher key  {found['publisher']}")
    for url in found["registries"]:
        out.line(f"registry       {url}")
    if not found["registries"]:
        out.line("No registries. `hali config set registry.url URL` names one.")
    rows = [(e["registry"], e["kind"], e["state"], str(e["attempts"]), e["error"] or "") for e in found["outbox"]]
    if rows:
        out.line()
        out.table(("REGISTRY", "EVENT", "STATE", "TRIES", "LAST ERROR"), rows)


@keys.command()
def rotate(ctx: typer.Context, yes: Yes = False) -> None:
    """Change the publisher's key: the old one names the new one, which takes over its reputation and its models.

    With --json: `old`, `publisher` (the new key).
    """
    out = current(ctx)
    if not agreed(out, "Change the publisher's key?", yes):
        raise Cancelled("the key is unchanged")
    with control.needed(out) as client:
        done = client.call("registry_rotate")
    out.result(done, f"New publisher key {done['publisher']}\n  succeeds        {done['old']}")


@keys.command()
def revoke(
    ctx: typer.Context,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why; public.")] = None,
    yes: Yes = False,
) -> None:
    """Declare the publisher's key lost or stolen: nothing that it signs later is valid. A new key, without reputation, replaces it.

    With --json: `revoked`, `publisher` (the new key).
    """
    out = current(ctx)
    if not agreed(out, "Revoke the publisher's key? Its reputation is lost.", yes):
        raise Cancelled("the key is unchanged")
    with control.needed(out) as client:
        done = client.call("registry_revoke", reason=reason)
    out.result(done, f"Revoked {done['revoked']}\n  new publisher key {done['publisher']}")
