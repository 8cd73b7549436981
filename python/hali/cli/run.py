"""`hali run MODEL ["prompt"]`: a chat in the terminal, over the same HTTP API that every other client uses."""

from __future__ import annotations

import shutil
import sys
from contextlib import closing
from typing import Annotated

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.chat import ChatClient, Reply
from hali.cli.choosing import with_choice
from hali.cli.output import Output, current
from hali.cli.prompting import no_echo, read_prompt
from hali.cli.store import whole
from hali.cli.wrapping import Wrapper
from hali.config.paths import from_environment
from hali.daemon.client import DaemonClient
from hali.model.errors import Cancelled, ExitCode, HaliError, NotFound, UsageError

app = new_app()
COMMANDS = {
    "/clear": "forget the conversation",
    "/bye": "end it (Ctrl-D too)",
    "/help": "this list",
    '"""': "begins and ends a prompt of several lines",
    "Ctrl-C": "stops a reply",
}


@app.command()
def run(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model id or a unique part of it; see `hali list`.")],
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="One prompt; without it a chat begins. `-` reads it from standard input."
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="System message.")] = None,
    temperature: Annotated[
        float, typer.Option(metavar="NUMBER", min=0, max=2, help="0 to 2; 0 = always the likeliest token.")
    ] = 0.7,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", min=1, help="Longest reply, in tokens.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Same seed, same reply.")] = None,
) -> None:
    """Chat with a model in the terminal, or answer one prompt.

    Starts the daemon when it does not run. In a chat `/help` lists what can be typed. Without a terminal the prompt is read from
    standard input and the reply is printed as it comes.

    With --json (one prompt only): `model`, `content`, `finish_reason`, `ttft_s` (seconds to the first token), `total_s`,
    `prompt_tokens`, `completion_tokens`, `tokens_per_s`; null is unknown.
    """
    out = current(ctx)
    if prompt is None and not sys.stdin.isatty():
        prompt = "-"
    if prompt is None and out.as_json:
        raise UsageError(
            "--json answers one prompt", hint="give it as an argument, or `-` to read it from standard input"
        )
    if prompt is not None:
        prompt = _text(prompt)
    options = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    with control.needed(out) as client:
        found = with_choice(out, model, lambda name: _find(client, name))
        chat = ChatClient(client.call("status")["http"], from_environment().api_key, found, system, options)
        loaded = _is_loaded(client, found)
    if prompt is not None:
        _once(out, chat, prompt, loaded=loaded)
    else:
        _converse(out, chat, loaded=loaded)


def _find(client: DaemonClient, name: str) -> str:
    """The id of the model, or its SHA-256 when another one has that id too (a file alone, and with its projector)."""
    try:
        found = whole(client.call("info", model=name))
        namesakes = [m for m in client.call("models")["models"] if m["model_id"] == found["model_id"]]
        return str(found["model_id"] if len(namesakes) == 1 else found["sha256"])
    except NotFound as exc:
        hint = f"`hali list` shows what is here; `hali pull {name}` asks the LAN, `hali pull owner/repo` Hugging Face"
        raise NotFound(exc.message, hint=hint) from None


def _text(prompt: str) -> str:
    """The prompt as text; bytes that are no UTF-8 become question marks. UsageError when there is nothing in it."""
    raw = sys.stdin.buffer.read() if prompt == "-" else prompt.encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "replace").strip()
    if not text:
        raise UsageError("the prompt is empty")
    return text


def _is_loaded(client: DaemonClient, model_id: str) -> bool:
    return any(e["model_id"] == model_id and e["state"] == "ready" for e in client.call("ps")["engines"])


def _once(out: Output, chat: ChatClient, prompt: str, *, loaded: bool) -> None:
    reply, stopped = _print(out, chat, prompt, loaded=loaded)
    if stopped:
        raise Cancelled("the reply was stopped")
    if out.as_json:
        out.json({"model": chat.model, "content": reply.text, "finish_reason": reply.finish_reason, **reply.timing()})


def _converse(out: Output, chat: ChatClient, *, loaded: bool) -> None:
    """Turns until /bye, Ctrl-D, or Ctrl-C twice at the prompt; a failed turn is not part of the history."""
    out.note(f"{chat.model} — /bye or Ctrl-D ends the chat, /help lists more.")
    while (said := _next(out)) is not None:
        if said == "/clear":
            chat.clear()
        elif said in ("/help", "/?"):
            out.note("\n".join(f"  {name:<8}{text}" for name, text in COMMANDS.items()))
        elif said:
            try:
                _print(out, chat, said, loaded=loaded)
                loaded = True
            except HaliError as exc:
                out.error(exc)
            out.line()


def _next(out: Output) -> str | None:
    """The next prompt; None when the chat is over."""
    interrupted = False
    while True:
        try:
            said = read_prompt()
        except EOFError:
            out.line()
            return None
        except KeyboardInterrupt:
            out.line()
            if interrupted:
                raise typer.Exit(ExitCode.INTERRUPTED) from None
            interrupted = True
            out.note("(/bye or Ctrl-D ends the chat, and so does Ctrl-C once more)")
            continue
        return None if said in ("/bye", "/exit", "/quit") else said


def _print(out: Output, chat: ChatClient, prompt: str, *, loaded: bool) -> tuple[Reply, bool]:
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


class Screen:
    """Where a reply is written: wrapped on a terminal, as it is elsewhere, nowhere with --json."""

    def __init__(self, out: Output, waiting: str = "") -> None:
        self._silent = out.as_json
        terminal = sys.stdout.isatty()
        self._wrap = Wrapper(shutil.get_terminal_size().columns) if terminal else None
        self._waiting = waiting if terminal and out.animated else ""

    def __enter__(self) -> Screen:
        if self._waiting:
            print(self._waiting, end="", file=sys.stderr, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._erase()

    def _erase(self) -> None:
        if self._waiting:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._waiting = ""

    def write(self, piece: str) -> None:
        """A piece of the reply."""
        self._erase()
        if not self._silent:
            sys.stdout.write(self._wrap.feed(piece) if self._wrap else piece)
            sys.stdout.flush()
