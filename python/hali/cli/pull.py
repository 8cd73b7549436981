"""`hali pull`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.choosing import with_choice
from hali.cli.jobs import run_job
from hali.cli.offers import elsewhere, of_repository
from hali.cli.output import Output, current
from hali.config.paths import absolute
from hali.daemon.client import DaemonClient
from hali.model.errors import NotFound, TransferFailed, UsageError
from hali.model.layers import parse_layers
from hali.share.targets import RepoTarget, parse_target

app = new_app()
PRIORITIES = ("high", "normal", "low")  # as share.queue has them; importing that would load anyio for every command


@app.command()
def pull(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="Model id or part of it (store, LAN, registries), owner/repo[:quant], owner/repo/file.gguf, magnet link, .torrent, "
            "infohash, SHA-256, hali://model/… link, or words to search for.",
        ),
    ],
    quant: Annotated[
        str | None, typer.Option(metavar="QUANT", help="Which quantization of a repository, for example Q4_K_M.")
    ] = None,
    allow_untrusted: Annotated[
        bool,
        typer.Option("--allow-untrusted", help="Take also what the registries trust too little (below 30 of 100)."),
    ] = False,
    mmproj: Annotated[
        bool | None,
        typer.Option(
            "--mmproj/--no-mmproj",
            help="Take the model's vision projector too. Taken unless said otherwise, but not beside a file that is named exactly, and a "
            "model that is here without it stays so: with --mmproj it is fetched anew, whole.",
            show_default=False,
        ),
    ] = None,
    priority: Annotated[
        str | None,
        typer.Option(
            metavar="PRIORITY", help="high, normal (unless said otherwise) or low: who goes first when more pulls wait."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            metavar="A-B",
            help="Only the pieces of the file that hold layers A up to, without, B, and what belongs to no layer.",
        ),
    ] = None,
) -> None:
    """Get a model and share it: verified, resumable, from the LAN, BitTorrent or Hugging Face.

    Of a repository without a choice a terminal gets a list, smallest first, with what fits this machine; anything else gets Q4_K_M,
    which is said on standard error, or exit code 2 and the list. A name that is neither here nor on the LAN, and that no
    registry lists, is searched for on Hugging Face and in the registries: a terminal may choose, anything else gets exit code 2 and
    what was found.

    With --layers a part of the model is fetched, kept as a partial model (`hali list`) and shared: others get these pieces from here.
    Each piece is checked by the hashes of a torrent of the whole file, so a node or torrent that has these must be found. The same
    command without --layers fetches the rest.

    A folder of a repository, as `owner/repo/UD-Q4_K_XL` or its address, means the model in it.
    A revision of a repository (commit, tag, branch) comes behind `@`, with `%2F` for a slash: `owner/repo@refs%2Fpr%2F1:Q4_K_M`.

    A model of several files is one model: all parts of a GGUF split (`-00001-of-00003`), of which each name means all, and with a
    multimodal model the usual one of its projectors (mmproj).

    Starts the daemon when it does not run. More pulls than `pull_concurrency` wait, see `hali queue`; during `hali pause` all do. Ctrl-C
    stops the pull and keeps all whole pieces (16 MiB); the same command goes on from there. When the connection to the daemon is
    lost, the daemon goes on by itself.

    With --json one object a line: `{"event": "progress", "state", "name", "done", "total", "rate", "peers", "sources",
    "waits_s"}` (`waits_s`: until a server that asked for it is asked again, else null) and at last
    `{"event": "done", "ok": true, "from_store", "seconds", …}` with the fields of `hali info` and, when a registry knew the name,
    `registry` (`url`, `trust`, `publisher`), with --layers also `layers` and `on_disk`, or `{"ok": false, "error": {…}}`.
    """
    out, what = current(ctx), _absolute(what)
    with _hint_at_files(what):
        _check_quant(what, quant)  # nonsense is refused before a daemon is started for it
        if layers is not None:
            parse_layers(layers)
        urgency = known_priority(priority) if priority is not None else None
        with control.needed(out) as client:
            options = {"allow_untrusted": allow_untrusted, "priority": urgency, "layers": layers, "mmproj": mmproj}
            _pull(out, client, what, quant, options)


@contextmanager
def _hint_at_files(what: str) -> Iterator[None]:
    """Who names a file that lies here, and gets nothing for it, is told of `hali add`."""
    try:
        yield
    except (UsageError, NotFound, TransferFailed) as exc:
        if os.path.isfile(path := os.path.expanduser(what)) and not _is_torrent(what):
            exc.hint = f"`hali add {shlex.quote(path)}` imports the file that is here"
        raise


def _check_quant(what: str, quant: str | None) -> None:
    """UsageError for a `what` that is nothing to pull, and for a quant that is none or one too many."""
    target = parse_target(what)
    if quant is not None and not quant.strip():
        raise UsageError("--quant is empty", hint="name a quantization, for example Q4_K_M")
    if quant is not None and isinstance(target, RepoTarget) and target.quant is not None:
        raise UsageError(f"{target.repo}: name a quant by :{target.quant} or by --quant, not both")


def _pull(out: Output, client: DaemonClient, what: str, quant: str | None, options: dict[str, Any]) -> None:
    name = of_repository(out, client, what, quant)

    def run(one: str) -> dict[str, Any]:
        # Who has chosen a file of the list needs no quant any more, and named that file to have the whole model.
        chosen = {"mmproj": True} if one != what and options["mmproj"] is None else {}
        return run_job(out, client, "pull", what=one, quant=quant if one == name else None, **options | chosen)

    try:
        with_choice(out, name, run)
    except NotFound as exc:
        found = elsewhere(out, client, what, exc)
        _pull(out, client, found.name, quant or found.quant, options)


def known_priority(text: str) -> str:
    """`text` if it is a priority; UsageError."""
    if text not in PRIORITIES:
        raise UsageError(f"{text!r} is no priority", hint=f"one of {', '.join(PRIORITIES)}")
    return text


def _absolute(what: str) -> str:
    """The path of a .torrent is relative to this process, which has another directory than the daemon."""
    if _is_torrent(what):
        return str(absolute(what))
    return what


def _is_torrent(what: str) -> bool:
    return what.lower().endswith(".torrent") and ":" not in what
