"""`hali mcp`: the tools of MCP over standard input and output, for programs that start their tools themselves."""

from __future__ import annotations

import os
import signal

import anyio
import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.output import current
from hali.config.paths import from_environment
from hali.model.errors import ExitCode

app = new_app()


@app.command()
def mcp(ctx: typer.Context) -> None:
    """Serve MCP on standard input and output: tools to chat with local models, list and fetch them, and see the status.

    For programs that start their tools as processes; others use http://127.0.0.1:47433/mcp of the daemon, which this starts when it
    does not run. Ends when the input does. Needs the package `mcp`: pip install 'hali[mcp]'.
    """
    from hali.api.mcp_routes import load_sdk
    from hali.cli.mcp_remote import RemoteToolbox, client_of

    sdk = load_sdk()  # before a daemon is started for nothing
    with control.needed(current(ctx)) as daemon:
        url = str(daemon.call("status")["http"])
    key = from_environment().api_key

    async def serve() -> None:
        async with client_of(url, key.read_text().strip() if key.exists() else None) as client:
            await sdk.serve_stdio(RemoteToolbox(client))

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is to be ignored
        signal.signal(signal.SIGINT, _at_once)
    anyio.run(serve)


def _at_once(*_: object) -> None:
    """Nothing has to be put in order, and a cancelled task would wait for the thread that reads the input, so for its next line."""
    os._exit(ExitCode.INTERRUPTED)
