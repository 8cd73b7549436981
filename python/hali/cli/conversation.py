"""A chat in the terminal: prompts, replies, commands, until somebody has said enough."""

from __future__ import annotations

from contextlib import closing

import typer

from hali.cli.attachments import content_of
from hali.cli.chat import ChatClient, Content, Reply
from hali.cli.commands import Commands
from hali.cli.output import Output
from hali.cli.prompting import no_echo, read_prompt
from hali.cli.screen import Screen
from hali.model.errors import ExitCode, HaliError


def converse(out: Output, chat: ChatClient, *, loaded: bool, images: tuple[str, ...] = ()) -> None:
    """Turns until /bye, Ctrl-D, or Ctrl-C twice at the prompt; a failed turn is not part of the history."""
    out.note(f"{chat.model} — /bye or Ctrl-D ends the chat, /help lists more.")
    commands = Commands(chat, out.note)
    commands.images = images
    while not commands.over and (said := _next(out)) is not None:
        try:
            content = _content(commands, said)
            if content is not None:
                commands.last, _ = show(out, chat, content, loaded=loaded)
                loaded = True
        except HaliError as exc:
            out.error(exc)
        if said and not commands.over:
            out.line()


def _content(commands: Commands, said: str) -> Content | None:
    """What to send for what was typed; None for nothing."""
    if not said:
        return None
    if commands.run(said):
        content, commands.ask = commands.ask, None
        return content
    images, commands.images = commands.images, ()
    return content_of(said, images)


def _next(out: Output) -> str | None:
    """The next prompt; None when the chat is over."""
    interrupted = False
    while True:
        try:
            return read_prompt()
        except EOFError:
            out.line()
            return None
        except KeyboardInterrupt:
            out.line()
            if interrupted:
                raise typer.Exit(ExitCode.INTERRUPTED) from None
            interrupted = True
            out.note("(/bye or Ctrl-D ends the chat, and so does Ctrl-C once more)")


def show(out: Output, chat: ChatClient, prompt: Content, *, loaded: bool) -> tuple[Reply, bool]:
    """Print the reply as it comes; the second value tells whether the user stopped it."""
    reply = chat.say(prompt)
    try:
        with (
            no_echo(),
            Screen(out, "" if loaded else f"loading {chat.model} …") as screen,
            closing(reply.__iter__()) as pieces,
        ):
            for piece in pieces:
                screen.write(piece)
    except KeyboardInterrupt:
        out.note("\n(stopped)")
        return reply, True
    out.line()
    return reply, False
