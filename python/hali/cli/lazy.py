"""A click group whose commands are Typer apps in modules that are imported when they are used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import click
import typer
import typer.core
import typer.main


class LazyGroup(typer.core.TyperGroup):
    """`commands`: name → (module, one line of help)."""

    lazy: Mapping[str, tuple[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of the table."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and build it."""
        if cmd_name not in self.lazy:
            return None
        module = importlib.import_module(self.lazy[cmd_name][0])
        command = typer.main.get_command(module.app)
        if isinstance(command, click.Group) and cmd_name in command.commands:
            command = command.commands[cmd_name]
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help of the group needs no module."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Plain click help: Typer's would import every module."""
        click.Group.format_help(self, ctx, formatter)


def root(commands: Mapping[str, tuple[str, str]]) -> LazyGroup:
    """The `hali` command."""
    group = LazyGroup(
        name="hali",
        help="Get large language models onto machines, keep them shared, and run them, alone or together.",
        epilog="Every command takes --json, --quiet and --no-color. Exit codes: 0 ok, 1 failed, 2 usage or ambiguous, 3 not found, "
        "4 not running, 5 verification failed, 6 no space, 7 refused, 130 interrupted.",
        no_args_is_help=True,
        params=[click.Option(["-V", "--version"], is_flag=True, help="Show the version and exit.")],
    )
    group.lazy = commands
    return group
