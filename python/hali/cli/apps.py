"""How the commands are declared: one Typer app a module, all made alike. Parsing is Typer's; help and errors are ours."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import NamedTuple

import typer
import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from hali.cli.help import Param


def new_app(about: str | None = None) -> typer.Typer:
    """An app without Typer's own colours, completion and tracebacks; `about` is the help of a group of commands."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, help=about)


class Found(NamedTuple):
    """A command, or a group of commands, and what it is called."""

    path: str  # `hali daemon start`
    command: TyperCommand | TyperGroup

    @property
    def about(self) -> str:
        """Its docstring."""
        return inspect.cleandoc(self.command.help or "")

    @property
    def children(self) -> dict[str, Found]:
        """The commands of a group, in the order of the file; empty for a command."""
        commands = getattr(self.command, "commands", {})
        return {name: _found(f"{self.path} {name}", child) for name, child in commands.items()}

    def params(self) -> Iterator[Param]:
        """Arguments, then options."""
        for param in self.command.params:
            if isinstance(param, TyperArgument):
                yield Param((), param.metavar or str(param.name).upper(), param.help or "", param.required, None)
        for param in self.command.params:
            if isinstance(param, TyperOption):
                metavar = "" if param.is_flag else param.metavar or "VALUE"
                default = None if param.default in (None, False) else str(param.default)
                yield Param(tuple(param.opts), metavar, param.help or "", param.required, default)


def find(app: typer.Typer, name: str) -> Found:
    """The command `name` of `app`: the app itself when it is a group of that name or has one command only."""
    whole = typer.main.get_command(app)
    return _found(f"hali {name}", getattr(whole, "commands", {}).get(name, whole))


def _found(path: str, command: object) -> Found:
    assert isinstance(command, TyperCommand | TyperGroup)
    # `--help` is taken out before Typer parses: its way through Typer would import pydantic for every command (60 ms).
    command.add_help_option = False
    return Found(path, command)
