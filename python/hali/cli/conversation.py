"""A chat in the terminal: prompts, replies, commands, until somebody has said enough."""

from __future__ import annotations

from contextlib import closing

import typer

from hali.cli.attachments import content_of
from hali.cli.chat import ChatClient, Reply
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
            reply = _reply(commands, chat, said)
            if reply is not None:
                show(out, chat, reply, loaded=loaded)
                commands.last = reply
                loaded = True
        except HaliError as exc:
            out.error(exc)
        if said and not commands.over:
            out.line()


def _reply(commands: Commands, chat: ChatClient, said: str) -> Reply | None:
    """What is asked for by what was typed; None for nothing."""
    if not said:
        return None
    if commands.run(said):
        reply, commands.reply = commands.reply, None
        return reply
    images, commands.images = commands.images, ()
    return chat.say(content_of(said, images))


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


def show(out: Output, chat: ChatClient, reply: Reply, *, loaded: bool) -> bool:
    """Print the reply as it comes; False when the user stopped it."""
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
        return False
    except HaliError:
        if reply.text:
            out.line()  # what there is of it stays on a line of its own
        raise
    out.line()
    return True
