"""A page whose daemon comes and goes, or asks for a key; and settings, changed from the page."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import WAIT_MS, Tabs
from tests.nodes import TestNode, node, random_file

expect.set_options(timeout=WAIT_MS)
GONE = "The daemon does not answer."


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[TestNode]:
    """A node of its own at a port that stays, because its daemon is stopped and started under an open page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with node(tmp_path / "alone", daemon_port=str(port), lan_enabled="off") as made:
        made.start()
        yield made


def events(page: Page) -> list[str]:
    return page.locator("#view .event-text").all_inner_texts()


def test_a_page_survives_a_restart_of_its_daemon_and_tells_nothing_twice(
    tabs: Tabs, alone: TestNode, tmp_path: Path
) -> None:
    tabs.forgiven += ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "WebSocket connection"]
    page = tabs.open(alone, "activity")
    alone.add(random_file(tmp_path / "First-1B-Q8_0.gguf", 1))
    expect(page.locator("#view .event-text").filter(has_text="first:1b:base:q8_0")).to_have_count(1)
    before = events(page)
    alone.stop()
    expect(page.get_by_role("alert").filter(has_text=GONE)).to_be_visible()
    expect(page.locator("#status")).to_have_text("Disconnected")
    assert events(page)[-len(before) :] == before  # what it said last stays to be read
    alone.start()
    alone.add(random_file(tmp_path / "Second-1B-Q8_0.gguf", 1, seed=2))
    expect(page.locator("#status")).to_have_text("Connected")
    expect(page.get_by_role("alert").filter(has_text=GONE)).to_be_hidden()
    expect(page.locator("#view .event-text").filter(has_text="second:1b:base:q8_0")).to_have_count(1)
    assert len(events(page)) == len(set(events(page)))
    page.get_by_role("link", name="Models").click()
    expect(page.locator('[title="second:1b:base:q8_0"]')).to_be_visible()
    expect(page.locator('[title="first:1b:base:q8_0"]')).to_be_visible()
    page.close()


def test_a_break_of_the_connection_brings_what_was_missed_and_tells_nothing_twice(
    tabs: Tabs, alone: TestNode, tmp_path: Path
) -> None:
    tabs.context.add_init_script(
        """const Real = WebSocket; window.sockets = [];
           window.WebSocket = class extends Real { constructor(url) { super(url); window.sockets.push(this); } };"""
    )
    page = tabs.open(alone, "activity")
    alone.add(random_file(tmp_path / "Before-1B-Q8_0.gguf", 1))
    expect(page.locator("#view .event-text").filter(has_text="before:1b:base:q8_0")).to_have_count(1)
    told = len(events(page))
    page.evaluate("window.sockets[0].close()")
    alone.add(random_file(tmp_path / "During-1B-Q8_0.gguf", 1, seed=2))
    expect(page.locator("#view .event-text").filter(has_text="during:1b:base:q8_0")).to_have_count(1)
    expect(page.locator(".toast").filter(has_text="during:1b:base:q8_0")).to_have_count(1)
    page.wait_for_function("window.sockets.length > 1 && document.getElementById('status').textContent === 'Connected'")
    assert len(events(page)) == told + 1
    page.close()


def test_settings_are_saved_refused_at_their_field_and_seen_in_both_tabs(tabs: Tabs, alone: TestNode) -> None:
    page, other = tabs.open(alone, "settings"), tabs.open(alone, "settings")
    cap = page.get_by_label("max_upload_mbps")
    cap.fill("12.5")
    cap.press("Enter")
    expect(page.locator(".toast").filter(has_text="max_upload_mbps is in force.")).to_be_visible()
    assert alone.status()["upload_cap_mbps"] == 12.5
    expect(other.get_by_label("max_upload_mbps")).to_have_value("12.5")

    tabs.forgiven.append("status of 400")
    cap.fill("-1")
    cap.press("Enter")
    field = page.locator("form.setting").filter(has=cap)
    expect(field.get_by_role("alert")).to_contain_text("max_upload_mbps")
    expect(cap).to_have_attribute("aria-invalid", "true")
    field.get_by_role("button", name="Undo").click()
    expect(cap).to_have_value("12.5")
    expect(field.get_by_role("alert")).to_be_hidden()

    page.get_by_label("engine.speculation").select_option("off")
    save(page, "engine.speculation")
    expect(page.locator(".toast").filter(has_text="a restart of the daemon applies it")).to_be_visible()
    page.get_by_label("debug").check()
    save(page, "debug")
    expect(other.get_by_label("debug")).to_be_checked()
    rows = {row["key"]: row for row in alone.ok("config", "show")["keys"]}
    assert (rows["engine.speculation"]["value"], rows["debug"]["value"]) == ("off", True)
    assert rows["engine.speculation"]["source"] == "file"
    changed = other.locator("form.setting").filter(has=other.get_by_label("engine.speculation"))
    expect(changed.get_by_text("waits for a restart")).to_be_visible()
    changed.get_by_role("button", name="Use the default").click()
    expect(page.get_by_label("engine.speculation")).to_have_value("auto")
    expect(changed.get_by_text("waits for a restart")).to_be_hidden()
    secret = page.get_by_label("handoff.qbittorrent_password")
    secret.fill("hunter2")
    secret.press("Enter")
    expect(other.get_by_label("handoff.qbittorrent_password")).to_have_attribute("placeholder", "unchanged")
    expect(secret).to_have_value("")
    assert "hunter2" not in page.content() + other.content()
    for tab in (page, other):
        tab.close()


def save(page: Page, key: str) -> None:
    page.locator("form.setting").filter(has=page.get_by_label(key)).get_by_role("button", name="Save").click()


def test_every_key_has_a_field_of_its_kind(tabs: Tabs, alone: TestNode) -> None:
    page = tabs.open(alone, "settings")
    rows = alone.ok("config", "show")["keys"]
    expect(page.locator("form.setting")).to_have_count(len(rows))
    kinds = {bool: "checkbox", int: "number", float: "number", str: "text", list: "text"}
    for row in rows:
        field = page.locator("form.setting").filter(has=page.get_by_label(row["key"], exact=True))
        expected = "select-one" if row["choices"] else "password" if row["secret"] else kinds[type(row["default"])]
        assert field.locator("input, select").evaluate("field => field.type") == expected, row["key"]
        expect(field.locator(".badge").first).to_have_text("live" if row["live"] else "after restart")
    page.get_by_label("Name or words").fill("hmac secret")
    expect(page.locator("form.setting")).to_have_count(2)
    page.close()


def test_a_node_that_asks_for_a_key_is_given_one_for_this_tab_alone(tabs: Tabs, alone: TestNode) -> None:
    alone.stop()
    alone.set(api_require_key="on")
    alone.start()
    scopes = [word for scope in ("inference", "models", "manage", "metrics") for word in ("--scope", scope)]
    key = alone.ok("keys", "create", "page", *scopes)["key"]
    tabs.forgiven += ["status of 401", "status of 403"]
    page = tabs.open(alone, "system")
    dialog = page.get_by_role("dialog", name="This node asks for a key")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator("#status")).not_to_have_text("Connected")
    page.get_by_role("button", name="Try now").click()  # not before: who declined is not asked again and again
    for useless in ("sk-wrong", alone.ok("keys", "create", "weak")["key"]):
        dialog.get_by_label("API key").fill(useless)
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog.get_by_label("API key")).to_have_value("")
    expect(dialog).to_contain_text("this key has no scope")
    dialog.get_by_label("API key").fill(key)
    dialog.get_by_role("button", name="Continue").click()
    expect(page.locator("#status")).to_have_text("Connected")
    expect(page.get_by_role("row", name="ApiServer")).to_contain_text("ready")
    assert json.loads(page.evaluate("JSON.stringify({...sessionStorage})")) == {"hali-key": key}
    assert page.evaluate("document.cookie + JSON.stringify({...localStorage})") == "{}"
    page.close()


def test_what_no_key_can_be_is_not_sent_and_a_key_of_the_command_in_the_question_opens_the_page(
    tabs: Tabs, alone: TestNode
) -> None:
    alone.stop()
    alone.set(api_require_key="on")
    alone.start()
    tabs.forgiven += ["status of 401"]
    page = tabs.open(alone, "system")
    dialog = page.get_by_role("dialog", name="This node asks for a key")
    field = dialog.get_by_label("API key")
    for impossible in ("sk-cut…", "two words", "   "):
        field.fill(impossible)
        dialog.get_by_role("button", name="Continue").click()
        expect(field).to_have_value(impossible)  # a browser can send no header with it: the page would try for ever
        expect(field).to_have_js_property("validity.valid", False)
    command = dialog.locator("code", has_text="hali keys create").inner_text()
    key = alone.ok(*command.replace("NAME", "page").split()[1:])["key"]
    field.fill(f" {key} ")
    dialog.get_by_role("button", name="Continue").click()
    expect(page.locator("#status")).to_have_text("Connected")
    page.close()


def test_a_key_that_is_given_for_a_button_connects_the_page_too(tabs: Tabs, alone: TestNode) -> None:
    alone.stop()
    alone.set(api_require_key="on")
    alone.start()
    tabs.forgiven += ["status of 401", "status of 400"]
    page = tabs.open(alone, "overview")
    dialog = page.get_by_role("dialog", name="This node asks for a key")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    page.get_by_label("Name, repository or magnet link").fill("magnet:?nothing")
    page.get_by_role("button", name="Pull", exact=True).click()
    dialog.get_by_label("API key").fill(alone.paths.api_key.read_text().strip())
    dialog.get_by_role("button", name="Continue").click()
    expect(page.locator("#status")).to_have_text("Connected")
    page.close()
