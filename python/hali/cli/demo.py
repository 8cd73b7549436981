"""`hali demo`: two real nodes on this machine; one has a model, the other finds it on the LAN, fetches it, seeds it and answers."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.chat import ChatClient, Reply
from hali.cli.jobs import run_job
from hali.cli.output import Output, current
from hali.cli.screen import Screen
from hali.config.paths import Paths, absolute
from hali.daemon.client import DaemonClient
from hali.model.errors import Failed, NotFound, UsageError
from hali.model.units import format_bytes, format_rate

app = new_app()
# Any free ports, and no settings of the user's own node, from the environment either: the demo runs beside it.
FLAGS = (
    *("--daemon-port", "0", "--torrent-port", "0", "--daemon-listen-addr", "127.0.0.1", "--models-dir", ""),
    *("--lan-enabled", "true", "--lan-hmac-enabled", "false", "--api-require-key", "false", "--streaming-hash", "true"),
    *("--max-upload-mbps", "0", "--max-download-mbps", "0"),
)
HEAR_S = 30.0  # announcements come at once; this is for a machine under load
PROMPT = "In one short sentence: what is a peer-to-peer network?"


@app.command()
def demo(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A GGUF model file for the first node.")],
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="What the second node is asked.")] = PROMPT,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the second node running and print its URLs.")] = False,
) -> None:
    """Two nodes on this machine: share a model, fetch it over BitTorrent, check it, seed it, chat with it.

    Both have data directories of their own, which are deleted at the end. With --json the progress of `hali add` and `hali pull`, then one
    object: `model`, `size`, `import_s`, `pull_s`, `pull_bytes_per_s`, `last_byte_to_seeding_s`, `from`, `ttft_s`, `tokens_per_s`, `reply`,
    `sha256`, `infohash_v1`, `infohash_v2`, `magnet`, and with --keep `http`, `home`, `pid` of the second node.
    """
    out, model = current(ctx), absolute(file)
    _check(model)
    # Whoever ends the demo by a signal wants its nodes gone too; they have sessions of their own, so nothing else ends them.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with _homes(keep=keep) as (home_a, home_b), _node(home_a) as a, _node(home_b, keep=keep) as b:
        added = _share(out, a, model)
        pulled = _fetch(out, b, added["model_id"])
        _same(added, pulled)
        reply = _chat(out, b, pulled["model_id"], prompt)
        _summary(out, added, pulled, reply, b if keep else None)


def _check(model: Path) -> None:
    try:
        with model.open("rb") as file:
            magic = file.read(4)
    except FileNotFoundError:
        raise NotFound(f"no file {model}", hint="give the path of a GGUF file") from None
    except OSError as exc:
        raise Failed(f"cannot read {model}: {exc.strerror}") from None
    if magic != b"GGUF":
        raise UsageError(f"{model} is not a GGUF model", hint="any .gguf file will do; a small one is quick")


@contextlib.contextmanager
def _homes(*, keep: bool) -> Iterator[tuple[Path, Path]]:
    """Data directories of both nodes; afterwards that of the second one is left if it was a success and shall be kept."""
    root = Path(tempfile.mkdtemp(prefix="hali-demo-"))
    kept = False
    try:
        yield root / "a", root / "b"
        kept = keep
    finally:
        shutil.rmtree(root / "a" if kept else root)


class _Node:
    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.client: DaemonClient = control.start(paths, flags=FLAGS, detach=True)
        self.status = self.client.call("status")


@contextlib.contextmanager
def _node(home: Path, *, keep: bool = False) -> Iterator[_Node]:
    paths, finished = Paths(home), False
    try:
        yield _Node(paths)
        finished = True
    finally:
        if not (keep and finished):
            control.stop(paths)


def _share(out: Output, node: _Node, file: Path) -> dict[str, Any]:
    _heading(out, f"Node A (port {node.status['torrent_port']}) imports {file.name}")
    return run_job(out, node.client, "add", what=str(file.absolute()), link=True)


def _fetch(out: Output, node: _Node, model_id: str) -> dict[str, Any]:
    _heading(out, f"Node B (port {node.status['torrent_port']}) hears of it on the LAN and pulls it over BitTorrent")
    deadline = time.monotonic() + HEAR_S
    while not any(row["model_id"] == model_id for row in node.client.call("status")["lan"]):
        if time.monotonic() > deadline:
            raise Failed("node B did not hear node A", hint="is multicast blocked on every interface, loopback too?")
        time.sleep(0.02)
    out.line(f"LAN AVAILABLE  {model_id}")
    return run_job(out, node.client, "pull", what=model_id)


def _same(added: dict[str, Any], pulled: dict[str, Any]) -> None:
    for name in ("sha256", "infohash_v1", "infohash_v2", "size"):
        if added[name] != pulled[name]:
            raise Failed(f"the nodes disagree about {name}: {added[name]} and {pulled[name]}")
    if pulled["state"] != "seeding":
        raise Failed(f"node B does not seed the model: {pulled['state']}")


def _chat(out: Output, node: _Node, model_id: str, prompt: str) -> Reply:
    _heading(out, "Node B answers a chat, streamed")
    out.line(f">>> {prompt}")
    options = {"temperature": 0, "max_tokens": 64}
    reply = ChatClient(node.status["http"], node.paths.api_key, model_id, None, options).say(prompt)
    with Screen(out) as screen:
        for piece in reply:
            screen.write(piece)
    out.line()
    if not reply.text:
        raise Failed("node B answered nothing")
    return reply


def _heading(out: Output, text: str) -> None:
    out.line(f"\n── {text}")


def _summary(out: Output, added: dict[str, Any], pulled: dict[str, Any], reply: Reply, kept: _Node | None) -> None:
    timing = reply.timing()
    facts = {
        "model": pulled["model_id"],
        "size": pulled["size"],
        "import_s": added["seconds"],
        "pull_s": pulled["seconds"],
        "pull_bytes_per_s": pulled["size"] / pulled["seconds"],
        "last_byte_to_seeding_s": pulled["seeding_after_s"],
        "from": pulled["sources"],
        "ttft_s": timing["ttft_s"],
        "tokens_per_s": timing["tokens_per_s"],
        "reply": reply.text,
        "sha256": pulled["sha256"],
        "infohash_v1": pulled["infohash_v1"],
        "infohash_v2": pulled["infohash_v2"],
        "magnet": pulled["magnet"],
    }
    if kept is not None:
        facts |= {"http": kept.status["http"], "home": str(kept.paths.home), "pid": kept.status["pid"]}
    if out.as_json:
        out.json(facts, line=True)
        return
    _heading(out, "Summary")
    for name, value in _readable(facts):
        out.line(f"{name:<22} {value}")
    if kept is not None:
        _say_where(out, kept)


def _readable(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "model", facts["model"]
    yield "size", f"{format_bytes(facts['size'])} ({facts['size']} bytes)"
    yield "import and hash", f"{facts['import_s']:.2f} s, {format_rate(facts['size'] / facts['import_s'])}"
    yield "pull, verify, place", f"{facts['pull_s']:.2f} s, {format_rate(facts['pull_bytes_per_s'])}"
    yield "sources", ", ".join(f"{kind} {format_bytes(n)}" for kind, n in facts["from"].items())
    yield "last byte to seeding", f"{1000 * facts['last_byte_to_seeding_s']:.0f} ms"
    yield "time to first token", f"{1000 * facts['ttft_s']:.0f} ms, the model's loading included"
    yield "tokens per second", str(facts["tokens_per_s"] or "—")
    for name in ("sha256", "infohash_v1", "infohash_v2", "magnet"):
        yield name.replace("_", " "), facts[name]


def _say_where(out: Output, node: _Node) -> None:
    out.line(f"\nNode B stays up (PID {node.status['pid']}):")
    out.line(f"  OpenAI API   {node.status['http']}/v1")
    out.line(f"  home         {node.paths.home}")
    out.line(f"  stop it      HALI_HOME={node.paths.home} hali daemon stop")
