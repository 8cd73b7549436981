"""`hali run MODEL ["prompt"]`: a chat in the terminal, over the same HTTP API that every other client uses."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hali.cli import control
from hali.cli.chat import ChatClient, Reply
from hali.cli.output import Output, current
from hali.config.paths import from_environment
from hali.model.errors import HaliError, UsageError

app = typer.Typer(add_completion=False)


@app.command()
def run(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="Model id or a unique part of it; see `hali list`.")],
    prompt: Annotated[str | None, typer.Argument(help="One prompt; without it a chat begins. `-` reads standard input.")] = None,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 = always the likeliest token.")] = 0.7,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest reply, in tokens.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same reply.")] = None,
) -> None:
    """Chat with a model in the terminal, or answer one prompt."""
    out = current(ctx)
    client, started = control.ensure()
    if started:
        out.note("Started the daemon.")
    with client:
        found = client.call("info", model=model)
        url = client.call("status")["http"]
    options = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    with ChatClient(url, from_environment().api_key, found["model_id"], system, options) as chat:
        if prompt is None and not sys.stdin.isatty():
            prompt = "-"
        if prompt is not None:
            _once(out, chat, sys.stdin.read() if prompt == "-" else prompt)
        else:
            _converse(out, chat)


def _once(out: Output, chat: ChatClient, prompt: str) -> None:
    if not prompt.strip():
        raise UsageError("the prompt is empty")
    reply = _print(out, chat, prompt)
    if out.as_json:
        out.json({"model": chat.model, "content": reply.text, "finish_reason": reply.finish_reason, **reply.timing()})


def _converse(out: Output, chat: ChatClient) -> None:
    """Turns until Ctrl-D or /bye; Ctrl-C ends the reply, not the chat; a failed turn is not part of the history."""
    out.note(f"{chat.model} — /clear forgets the conversation, /bye or Ctrl-D ends it.")
    while True:
        try:
            said = input(">>> ").strip()
        except (EOFError, KeyboardInterrupt):
            out.line()
            return
        if said in ("/bye", "/exit", "/quit"):
            return
        if said == "/clear":
            chat.clear()
        elif said:
            try:
                _print(out, chat, said)
            except HaliError as exc:
                out.error(exc)


def _print(out: Output, chat: ChatClient, prompt: str) -> Reply:
    reply = chat.say(prompt)
    try:
        for piece in reply:
            if not out.as_json:
                sys.stdout.write(piece)
                sys.stdout.flush()
    except KeyboardInterrupt:
        out.note("\n(stopped)")
    out.line()
    return reply
