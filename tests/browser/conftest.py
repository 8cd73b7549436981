"""Debian's Chromium, driven by Playwright, on real daemons. A page that says anything in the console, or asks another origin, fails."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.nodes import TestNode, node, random_file, until

CHROMIUM = shutil.which("chromium")
WAIT_MS = 30_000  # a deadline for conditions; nothing measures against it
FLAGS = [
    "--no-sandbox",  # CI runs as root in a container, where Chromium's sandbox cannot be made
    "--disable-features=SpareRendererForSitePerProcess",  # a renderer kept for later would look left over
]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this folder."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(autouse=True)
def no_blocking_calls() -> None:
    """Playwright's synchronous API keeps a loop in this thread, in which these tests, unlike hali, may block."""


@pytest.fixture(autouse=True)
def no_leftover_threads_or_processes() -> Iterator[None]:
    """As for all tests, but for Chromium's processes and engines, which come and go; a node looks after its own at its end."""
    before = _children()
    yield
    until(lambda: _children() <= before, "all processes that the test began have ended")


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


class Tabs:
    """Opens pages on a node and keeps what must not happen in them: words in the console, errors, requests to elsewhere."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []
        self.forgiven: list[str] = []  # parts of messages that a test provokes
        self.origins: set[str] = set()

    def open(self, viewed: TestNode, view: str = "overview") -> Page:
        """A page on `viewed` that is connected."""
        url = viewed.status()["http"]
        self.origins.add(url)
        page = self.context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._requested)
        page.on("websocket", lambda socket: self._asked(socket.url.replace("ws:", "http:")))
        page.goto(f"{url}/#{view}")
        return page

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _requested(self, request: Request) -> None:
        self._asked(request.url)

    def _asked(self, url: str) -> None:
        if not any(url.startswith(f"{origin}/") for origin in self.origins):
            self.complaints.append(f"asked {url}")

    def verdict(self) -> list[str]:
        """What must not have happened."""
        return [text for text in self.complaints if not any(part in text for part in self.forgiven)]


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Tabs]:
    """See `Tabs`; looked at when the test is over."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    found = Tabs(context)
    yield found
    context.close()
    assert found.verdict() == []


@pytest.fixture(scope="package")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestNode, TestNode]]:
    """A source of models, and the node that is looked at."""
    folder = tmp_path_factory.mktemp("nodes")
    with node(folder / "source") as source, node(folder / "viewed") as viewed:
        source.launch()
        viewed.launch()
        source.ready()
        viewed.ready()
        yield source, viewed


@pytest.fixture
def viewed(nodes: tuple[TestNode, TestNode]) -> TestNode:
    """The node that is looked at."""
    return nodes[1]


@pytest.fixture
def offered(nodes: tuple[TestNode, TestNode], tmp_path: Path) -> Callable[..., str]:
    """Makes the source offer a new file of random bytes; its model id, which the viewed node has heard."""

    def offer(name: str, mib: float) -> str:
        source, viewed = nodes
        file = random_file(tmp_path / name, mib, seed=len(name) + os.getpid())
        model = source.add(file)["model_id"]
        viewed.hears(model)
        return str(model)

    return offer
