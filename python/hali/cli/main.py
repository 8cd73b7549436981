"""Entry point of `hali`. Imports stay inside functions: `hali --version` must cost no more than starting Python."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Command → (module, help). The module has a Typer `app` (a group, or one command). Sorted as `hali --help` shows them.
COMMANDS = {
    "pull": ("hali.cli.pull", "Get a model: by name on the LAN, from Hugging Face, by magnet, .torrent or infohash."),
    "add": ("hali.cli.add", "Import a local model file and share it."),
    "list": ("hali.cli.models", "Models of this node."),
    "info": ("hali.cli.models", "Everything known about one model."),
    "verify": ("hali.cli.models", "Read a model again and compare it with its hashes."),
    "rm": ("hali.cli.models", "Delete a model."),
    "run": ("hali.cli.run", "Chat with a model, or answer one prompt."),
    "ps": ("hali.cli.engines", "Models loaded in memory."),
    "stop": ("hali.cli.engines", "Unload a model."),
    "daemon": ("hali.cli.daemon", "Start, stop and look at the daemon."),
    "stats": ("hali.cli.stats", "Transfer rates, totals, models and peers."),
    "logs": ("hali.cli.logs", "The daemon's log."),
    "config": ("hali.cli.config", "Show and change settings."),
    "demo": ("hali.cli.demo", "Two nodes on this machine: share a model, fetch it, chat with it."),
}
FLAGS = {"--json": "as_json", "--quiet": "quiet", "-q": "quiet", "--no-color": "no_color"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args in (["--version"], ["-V"], ["version"]):
        from hali._version import __version__

        print(f"hali {__version__}")
        sys.exit(0)
    sys.exit(_run(args))


def _run(args: list[str]) -> int:
    from hali.cli.output import Output
    from hali.model.errors import Cancelled, ExitCode, HaliError

    args, flags = _take_flags(args)
    out = Output(**flags)
    try:
        return _dispatch(args, out)
    except HaliError as exc:
        return out.error(exc)
    except KeyboardInterrupt:
        return out.error(Cancelled("interrupted"))
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; Python must not complain about it at exit either.
        sys.stdout = None
        return ExitCode.OK


def _take_flags(args: list[str]) -> tuple[list[str], dict[str, bool]]:
    """`--json`, `--quiet` and `--no-color` mean the same wherever they stand, up to a `--`."""
    rest: list[str] = []
    flags: dict[str, bool] = {}
    for position, arg in enumerate(args):
        if arg == "--":
            return rest + args[position:], flags
        if arg in FLAGS:
            flags[FLAGS[arg]] = True
        else:
            rest.append(arg)
    return rest, flags


def _dispatch(args: list[str], out: object) -> int:
    import click

    from hali.cli.lazy import root

    try:
        code = root(COMMANDS).main(args=args, prog_name="hali", standalone_mode=False, obj=out)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        from hali.model.errors import UsageError

        raise UsageError(exc.format_message(), hint="`hali --help` shows how") from None
    except click.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else 0
