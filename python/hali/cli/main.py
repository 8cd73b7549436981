"""Entry point of `hali`. Imports stay inside functions: `hali --version` must cost no more than starting Python."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hali.cli.output import Output

# Command → (module, help). The module has a Typer `app` (a group, or one command). In the order of `hali --help`.
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
USAGE = """usage: hali COMMAND [ARGUMENTS]      hali COMMAND --help

Get large language models onto machines, keep them shared, and run them, alone or together."""
FOOTER = """Every command takes --json, --quiet and --no-color. HALI_HOME chooses the data directory (default ~/.hali).
Exit codes: 0 ok, 1 failed, 2 usage or ambiguous, 3 not found, 4 not running, 5 verification failed, 6 no space, 7 refused,
78 bad configuration, 130 interrupted."""
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
        found = _dispatch(args)
        return _call(*found, out) if found is not None else ExitCode.OK
    except HaliError as exc:
        return out.error(exc)
    except KeyboardInterrupt:
        return out.error(Cancelled("interrupted"))
    except BrokenPipeError:
        # The reader (head, less) has what it wanted; Python must not complain about it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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


def _dispatch(args: list[str]) -> tuple[str, list[str]] | None:
    """The command and its arguments; None when help was asked for. UsageError with the nearest names otherwise."""
    from hali.model.errors import UsageError

    if not args or args[0] in ("--help", "-h", "help"):
        print(_help())
        return None
    name, rest = args[0], args[1:]
    if name not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, COMMANDS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "`hali --help` lists the commands"
        raise UsageError(f"no command {name!r}", hint=hint)
    return name, rest


def _call(name: str, args: list[str], out: Output) -> int:
    """Import the module of command `name` and run it; returns its exit code."""
    import importlib

    import typer
    import typer.main

    from hali.model.errors import UsageError

    command = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
    nested = getattr(command, "commands", {})
    if name in nested:  # a module of several commands, not a group
        command = nested[name]
    try:
        code = command.main(args=args, prog_name=f"hali {name}", standalone_mode=False, obj=out)
    except typer.Exit as exc:
        return int(exc.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as exc:
        message = exc.format_message() if hasattr(exc, "format_message") else str(exc)
        raise UsageError(message.replace("\n", " "), hint=f"`hali {name} --help` shows how") from None
    return code if isinstance(code, int) else 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join([USAGE, "", *lines, "", FOOTER])
