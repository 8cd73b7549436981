"""`hali handoff`: another BitTorrent client seeds hali's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hali.cli import models
from hali.cli.apps import new_app
from hali.cli.choosing import with_choice
from hali.cli.output import current
from hali.cli.store import ask, right, whole
from hali.config import load as config
from hali.config.paths import from_environment
from hali.config.schema import HandoffSettings
from hali.model.errors import NotFound, Refused, UsageError

if TYPE_CHECKING:
    from hali.transfer.handoff import Account, HandedOver

app = new_app()
CLIENTS = ("qbittorrent", "transmission")


@app.command()
def handoff(
    ctx: typer.Context,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="qbittorrent or transmission.")],
    model: models.Model,
) -> None:
    """Let a running qBittorrent or Transmission seed a model from hali's own file, without a copy.

    Where it listens is in the keys `handoff.*`. The client must be able to read the file, and the model must be one file.
    Transmission before 4.0 cannot read hybrid torrents and gets the v1 torrent of the same pieces. With --json: `client`,
    `model_id`, `sha256`, `infohash` (as the client lists it), `state` (in the client's words).
    """
    out = current(ctx)
    settings = config.load(from_environment().config).settings.handoff
    if client not in CLIENTS:
        raise UsageError(f"unknown client {client!r}", hint="qbittorrent and transmission can take a model over")
    found = with_choice(out, model, lambda name: _alone(right(whole(ask("info", model=name)))))
    path, torrent = Path(found["path"]), from_environment().torrents / f"{found['infohash_v1']}.torrent"
    if not torrent.exists():
        raise NotFound(f"{found['model_id']} has no torrent yet", hint="`hali verify` makes it")
    done = _give(client, settings, torrent.read_bytes(), path.parent)
    result = {"client": client, "model_id": found["model_id"], "sha256": found["sha256"]}
    result |= {"infohash": done.infohash, "state": done.state}
    out.result(result, f"{client} has {found['model_id']}: {done.state}")


def _alone(found: dict[str, Any]) -> dict[str, Any]:
    """`found`, unless it has several files: Refused, for clients look for these in a folder of the torrent's name."""
    if len(found["files"]) > 1:
        raise Refused(
            f"{found['model_id']} lies in {len(found['files'])} files; only models of one file can be handed over",
            hint=f"pull it there by its magnet link: `hali info {found['model_id']}`",
        )
    return found


def _give(client: str, settings: HandoffSettings, torrent: bytes, directory: Path) -> HandedOver:
    from hali.transfer.handoff import to_qbittorrent, to_transmission

    give = {"qbittorrent": to_qbittorrent, "transmission": to_transmission}[client]
    return give(account(settings, client), torrent, directory)


def account(settings: HandoffSettings, client: str) -> Account:
    """Where `client` listens and who we are to it."""
    from hali.transfer.handoff import Account

    return Account(*(getattr(settings, f"{client}_{part}") for part in ("url", "user", "password")))
