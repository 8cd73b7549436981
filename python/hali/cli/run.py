"""`hali run MODEL ["prompt"]`: a chat in the terminal, over the same HTTP API that every other client uses."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.attachments import content_of, response_format, with_image
from hali.cli.chat import ChatClient, Content
from hali.cli.choosing import with_choice
from hali.cli.conversation import converse, show
from hali.cli.given import MAX_BODY
from hali.cli.history import kept
from hali.cli.output import Output, current
from hali.cli.store import whole
from hali.config.paths import from_environment
from hali.daemon.client import DaemonClient
from hali.model.errors import Cancelled, NotFound, UsageError
from hali.model.units import format_bytes

app = new_app()


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
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="An image for the (first) prompt; may be given more than once."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORM", help="`json`, or a file with a JSON schema that replies must fit."),
    ] = None,
) -> None:
    """Chat with a model in the terminal, or answer one prompt.

    Starts the daemon when it does not run. In a chat `/help` lists what can be typed; what was typed is kept in the data directory
    for the arrow keys of the next chat. Without a terminal the prompt is read from standard input and the reply is printed as it
    comes, without what the model thought before it.

    With --json (one prompt only): `model`, `content`, `reasoning`, `finish_reason`, `ttft_s` (seconds to the first token), `total_s`,
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
    images: tuple[str, ...] = ()
    for file in image or ():
        images = with_image(images, file)
    form = response_format(format_) if format_ is not None else None
    options = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed, "response_format": form}
    with control.needed(out) as client:
        found = with_choice(out, model, lambda name: _find(client, name))
        chat = ChatClient(client.call("status")["http"], from_environment().api_key, found, system, options)
        loaded = _is_loaded(client, found)
    if prompt is not None:
        _once(out, chat, content_of(prompt, images), loaded=loaded)
    else:
        with kept(from_environment().prompts):
            converse(out, chat, loaded=loaded, images=images)


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
    """The prompt as text; bytes that are no UTF-8 become question marks. UsageError when there is nothing in it, or too much."""
    raw = sys.stdin.buffer.read(MAX_BODY + 1) if prompt == "-" else prompt.encode("utf-8", "surrogateescape")
    if len(raw) > MAX_BODY:
        raise UsageError(f"the prompt is larger than {format_bytes(MAX_BODY)}", hint="give a shorter one")
    text = raw.decode("utf-8", "replace").strip()
    if not text:
        raise UsageError("the prompt is empty")
    return text


def _is_loaded(client: DaemonClient, model_id: str) -> bool:
    return any(e["model_id"] == model_id and e["state"] == "ready" for e in client.call("ps")["engines"])


def _once(out: Output, chat: ChatClient, prompt: Content, *, loaded: bool) -> None:
    reply = chat.say(prompt)
    if not show(out, chat, reply, loaded=loaded):
        raise Cancelled("the reply was stopped")
    if out.as_json:
        said = {"content": reply.text, "reasoning": reply.thoughts or None, "finish_reason": reply.finish_reason}
        out.json({"model": chat.model, **said, **reply.timing()})
