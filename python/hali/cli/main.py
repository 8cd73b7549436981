"""Entry point of `hali`. Imports stay inside functions: `hali --version` must cost no more than starting Python."""

from __future__ import annotations

import sys

from hali.cli import streams

TYPE_CHECKING = False  # typing's own costs as much as the rest of `hali --version`: it imports re
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hali.cli.apps import Found
    from hali.cli.output import Output

# Command → (module, help). The module has a Typer `app` (a group, or one command). In the order of `hali --help`.
COMMANDS = {
    "search": ("hali.cli.search", "Find models on Hugging Face and in the registries."),
    "pull": (
        "hali.cli.pull",
        "Get a model: by name on the LAN or in the registries, from Hugging Face, by magnet, .torrent or infohash.",
    ),
    "queue": ("hali.cli.queue", "Pulls under way and waiting: look, move, cancel."),
    "pause": ("hali.cli.pause", "Stop all transfers, seeds too, for a while or until `hali resume`."),
    "resume": ("hali.cli.pause", "Let transfers go on."),
    "add": ("hali.cli.add", "Import a local model file and share it."),
    "list": ("hali.cli.models", "Models of this node."),
    "info": ("hali.cli.models", "Everything known about one model."),
    "verify": ("hali.cli.models", "Read a model again and compare it with its hashes."),
    "hash": ("hali.cli.hash", "All digests of a file, and the infohashes of its torrent."),
    "handoff": ("hali.cli.handoff", "Let qBittorrent or Transmission seed a model."),
    "rm": ("hali.cli.models", "Delete models."),
    "prune": ("hali.cli.prune", "Make room: the least recently used models, forgotten downloads."),
    "pin": ("hali.cli.prune", "Keep a model from being pruned."),
    "unpin": ("hali.cli.prune", "Let a model be pruned again."),
    "export": ("hali.cli.export", "Let Ollama or LM Studio use models, without copying them."),
    "run": ("hali.cli.run", "Chat with a model, or answer one prompt."),
    "load": ("hali.cli.engines", "Load a model before it is asked."),
    "ps": ("hali.cli.engines", "Models loaded in memory."),
    "stop": ("hali.cli.engines", "Unload a model, or all."),
    "bench": ("hali.cli.bench", "How fast a model reads and writes here."),
    "mcp": ("hali.cli.mcp", "Serve MCP on standard input and output: local models as tools."),
    "daemon": ("hali.cli.daemon", "Start, stop and look at the daemon."),
    "service": ("hali.cli.service", "Keep the daemon running: as a service of systemd, launchd or Windows."),
    "stats": ("hali.cli.stats", "Transfer rates, totals, models and peers."),
    "events": ("hali.cli.events", "What the daemon did last."),
    "logs": ("hali.cli.logs", "The daemon's log."),
    "doctor": ("hali.cli.doctor", "What is wrong with this node, and the command that mends it."),
    "keys": ("hali.cli.keys", "Keys of the HTTP API: who may ask, for what, and how much."),
    "publish": ("hali.cli.publish", "Sign a model's names and hashes and hand them to the registries."),
    "profile": ("hali.cli.publish", "What your publisher's key tells about you."),
    "registry": ("hali.cli.registry", "Run a registry, write one as a folder, change the publisher's key."),
    "telemetry": ("hali.cli.telemetry", "Whether registries are told how pulls ended, and what exactly."),
    "config": ("hali.cli.config", "Show and change settings."),
    "completion": ("hali.cli.completion", "Completion of commands and model ids for bash, zsh and fish."),
    "demo": ("hali.cli.demo", "Two nodes on this machine: share a model, fetch it, chat with it."),
}
ALONE = {"queue": "list"}  # what a group does when nothing but its name is given
FLAGS = {"--json": "as_json", "--quiet": "quiet", "-q": "quiet", "--no-color": "no_color"}
HELP = ("--help", "-h")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    streams.mend()
    args = list(sys.argv[1:] if argv is None else argv)
    if args in (["--version"], ["-V"], ["version"]):
        from hali._version import __version__

        print(f"hali {__version__}")
        sys.exit(streams.ended(0))
    if args[:1] == ["__complete"]:  # what the completion scripts ask; its words are not ours to read flags from
        from hali.cli.candidates import answer

        sys.stdout.write(answer(args[1:]))
        sys.exit(streams.ended(0))
    sys.exit(streams.ended(_run(args)))


def _run(args: list[str]) -> int:
    from hali.cli.output import Output
    from hali.model.errors import Cancelled, ExitCode, HaliError, system_error

    args, flags = _take_flags(args)
    out = Output(**flags)
    try:
        return _dispatch(args, out)
    except HaliError as exc:
        return out.error(exc)
    except KeyboardInterrupt:
        return out.error(Cancelled("interrupted"))
    except BrokenPipeError:  # the reader (head, less) has what it wanted
        return ExitCode.OK
    except OSError as exc:  # of a file of ours that is full, read-only or somebody else's, wherever it is met
        return out.error(system_error(exc))


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


def _dispatch(args: list[str], out: Output) -> int:
    """Do what `args` say; returns the exit code. UsageError with the nearest names when there is no such command."""
    from hali.cli import help as texts

    if args and args[0] == "help":
        args = [*args[1:], "--help"]
    if not args or args[0] in HELP:
        print(texts.overview({name: text for name, (_, text) in COMMANDS.items()}))
        return 0
    if args[0] in ("version", "--version", "-V"):
        from hali._version import __version__

        out.result({"version": __version__}, f"hali {__version__}")
        return 0
    return _call(args, out)


def _call(args: list[str], out: Output) -> int:
    """Import the module of the command, find the command of a group, and run it or show its help."""
    import importlib

    from hali.cli import apps
    from hali.cli import help as texts

    name, rest = args[0], args[1:]
    _known(name, COMMANDS, "hali")
    found = apps.find(importlib.import_module(COMMANDS[name][0]).app, name)
    while found.children:
        if not rest and name in ALONE:
            rest = [ALONE[name]]
        if not rest or rest[0] in HELP:
            print(texts.group(found.path, found.about, {k: texts.summary(v.about) for k, v in found.children.items()}))
            return 0
        _known(rest[0], found.children, found.path)
        found, rest = found.children[rest[0]], rest[1:]
    options = rest[: rest.index("--")] if "--" in rest else rest
    if any(arg in HELP for arg in options):
        print(texts.command(found.path, found.about, list(found.params())))
        return 0
    return _invoke(found, rest, out)


def _known(name: str, names: Iterable[str], of: str) -> None:
    from hali.model.errors import UsageError

    if name in names:
        return
    import difflib

    near = difflib.get_close_matches(name, names, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`{of} --help` lists the commands"
    raise UsageError(f"no {'option' if name.startswith('-') else 'command'} {name!r}", hint=hint)


def _invoke(found: Found, args: list[str], out: Output) -> int:
    """Parse `args` and run the command. Not by Typer's `main`, which has ways of its own with Ctrl-C and broken pipes."""
    import typer

    from hali.model.errors import UsageError

    try:
        with found.command.make_context(found.path, args, obj=out) as context:
            code = found.command.invoke(context)
    except typer.Exit as exc:
        return int(exc.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.TyperException as exc:
        message = (
            " ".join(exc.format_message().split()).replace(": Value error, ", ": ").rstrip(".")
        )  # Pydantic's words
        raise UsageError(message[:1].lower() + message[1:], hint=f"`{found.path} --help` shows how") from None
    return code if isinstance(code, int) else 0
