"""`hali stats --web`: where the dashboard is, and whether a browser is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from hali.cli import dashboard
from hali.cli.output import Output
from hali.model.errors import NotRunning

URL = "http://127.0.0.1:47433"


class Opened:
    """A browser that notes what it was asked for."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    def open(self, url: str) -> bool:
        self.urls.append(url)
        return True


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Opened:
    made = Opened()
    monkeypatch.setattr(dashboard.webbrowser, "open", made.open)
    monkeypatch.setattr(dashboard.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    serve(monkeypatch, URL)
    return made


def serve(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    @contextmanager
    def needed(out: Output) -> Iterator[Any]:
        yield SimpleNamespace(call=lambda method: {"http": address} if method == "status" else None)

    monkeypatch.setattr(dashboard.control, "needed", needed)


def test_the_address_is_printed_and_a_browser_opened(browser: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    dashboard.open_dashboard(Output())
    assert capsys.readouterr().out == f"{URL}\n" and browser.urls == [URL]


def test_without_a_display_the_address_is_all(
    browser: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY")
    dashboard.open_dashboard(Output())
    assert capsys.readouterr().out == f"{URL}\n" and browser.urls == []
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    dashboard.open_dashboard(Output())
    assert browser.urls == [URL]


def test_a_program_gets_the_address_as_json_and_no_browser(browser: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    dashboard.open_dashboard(Output(as_json=True))
    assert '"url": "http://127.0.0.1:47433"' in capsys.readouterr().out and browser.urls == []


def test_a_daemon_whose_server_is_down_is_told_of(browser: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, None)
    with pytest.raises(NotRunning):
        dashboard.open_dashboard(Output())
    assert browser.urls == []
