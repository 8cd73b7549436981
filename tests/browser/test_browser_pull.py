"""Models in the browser: a pull from start to seeding, pause, cancel, choices, magnet, removal; and two tabs that stay in step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import WAIT_MS, Tabs
from tests.fakes.hf_server import FakeHub
from tests.nodes import TestNode, node, random_file, until

expect.set_options(timeout=WAIT_MS)
SLOW, CRAWLING, FREE = "60", "8", "0"  # Mbit/s: two seconds a piece leave time to look; no cap ends it


@pytest.fixture
def slowly(viewed: TestNode) -> Iterator[None]:
    """Downloads take their time until the test lifts the cap."""
    yield from capped(viewed, SLOW)


@pytest.fixture
def crawling(viewed: TestNode) -> Iterator[None]:
    """For a download that is never to end: not one piece comes in a test."""
    yield from capped(viewed, CRAWLING)


def capped(viewed: TestNode, mbps: str) -> Iterator[None]:
    viewed.ok("config", "set", "max_download_mbps", mbps)
    yield
    viewed.ok("config", "set", "max_download_mbps", FREE)
    viewed.idle()


def ask_for(page: Page, what: str) -> None:
    box = page.get_by_label("Name, repository or magnet link")
    box.fill(what)
    box.press("Enter")


def job_of(page: Page, name: str) -> Locator:
    return page.locator("li.job").filter(has_text=name)


def row_of(page: Page, model: str) -> Locator:
    return page.get_by_role("row").filter(has=page.locator(f'[title="{model}"]'))


def test_a_pull_is_seen_live_from_start_to_seeding(
    tabs: Tabs, viewed: TestNode, offered: Callable[..., str], slowly: None
) -> None:
    model = offered("Live-7B-Q4_K_M.gguf", 128)
    page = tabs.open(viewed, "models")
    ask_for(page, model)
    expect(page.locator(".toast").filter(has_text=model)).to_be_visible()
    page.get_by_role("link", name="Transfers").click()
    job = job_of(page, "Live-7B")
    expect(job.locator(".state")).to_have_text("downloading")
    expect(job).to_contain_text(re.compile(r"[1-9][\d.]* MB of 134\.2 MB \(\d+ %\) · [\d.]+ [kM]B/s"))
    seen = float(job.get_by_role("progressbar").get_attribute("value") or 0)
    expect(page.locator("#rate-down")).to_have_text(re.compile(r"\d+\.\d [kM]B/s"))
    viewed.ok("config", "set", "max_download_mbps", FREE)
    assert seen < 100
    expect(job).to_have_count(0)
    page.get_by_role("link", name="Models").click()
    row = row_of(page, model)
    expect(row.locator(".state")).to_have_text("seeding")
    expect(row).to_contain_text("134.2 MB")
    page.get_by_role("link", name="Activity", exact=True).click()
    told = page.locator("#view li.event").filter(has_text=re.compile("live:7b:base:q4_k_m|Live-7B"))
    expect(told.filter(has_text="pull.started")).to_have_count(1)
    expect(told.filter(has_text="pull.finished")).to_have_count(1)
    expect(page.locator("#total-down")).to_have_text(re.compile(r"\d+\.\d MB"))


def test_pause_resume_and_cancel_do_what_they_say(
    tabs: Tabs, viewed: TestNode, offered: Callable[..., str], crawling: None
) -> None:
    model = offered("Halt-7B-Q4_K_M.gguf", 40)
    page = tabs.open(viewed, "transfers")
    viewed.call("pull", what=model, wait=False)
    job = job_of(page, "Halt-7B")
    expect(job.locator(".state")).to_have_text("downloading")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Transfers are paused.")).to_be_visible()
    expect(job.locator(".state")).to_have_text("paused")
    expect(page.locator("#paused")).to_be_visible()
    assert viewed.status()["paused"] is True
    page.get_by_role("button", name="Resume").click()
    expect(job.locator(".state")).to_have_text("downloading")
    assert viewed.status()["paused"] is False
    job.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Nothing is being fetched or imported.")).to_be_visible()
    assert viewed.status()["jobs"] == []


def test_two_tabs_stay_in_step(tabs: Tabs, viewed: TestNode) -> None:
    first, second = tabs.open(viewed, "transfers"), tabs.open(viewed, "transfers")
    first.get_by_label("How long").select_option("for 1 hour")
    first.get_by_role("button", name="Pause").click()
    told = second.get_by_text(re.compile(r"Transfers are paused until \d{4}-\d\d-\d\d \d\d:\d\d\."))
    expect(told).to_be_visible()
    second.get_by_role("button", name="Resume").click()
    expect(first.get_by_text("Transfers run.")).to_be_visible()
    expect(second.get_by_text("Transfers run.")).to_be_visible()


def test_the_magnet_link_is_copied(tabs: Tabs, viewed: TestNode, offered: Callable[..., str]) -> None:
    model = offered("Linked-3B-Q8_0.gguf", 2)
    viewed.pull(model)
    tabs.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tabs.open(viewed, "models")
    row_of(page, model).get_by_role("button", name="Copy magnet").click()
    expect(page.locator(".toast").filter(has_text="Magnet link copied.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == next(row["magnet"] for row in viewed.status()["seeding"] if row["model_id"] == model)


def test_a_model_is_pinned_verified_and_removed_only_when_confirmed(
    tabs: Tabs, viewed: TestNode, offered: Callable[..., str]
) -> None:
    model = offered("Gone-3B-Q8_0.gguf", 2)
    viewed.pull(model)
    page = tabs.open(viewed, "models")
    row = row_of(page, model)
    choose(page, row, "Pin")
    expect(row.get_by_text("pinned")).to_be_visible()
    assert viewed.ok("info", model)["pinned"] is True
    choose(page, row, "Verify")
    expect(page.locator(".toast").filter(has_text=f"{model}: ok, 1 pieces.")).to_be_visible()
    choose(page, row, "Remove…")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert viewed.state_of(model) == "seeding"
    choose(page, row, "Remove…")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    until(lambda: viewed.state_of(model) is None, "the model is removed")


def choose(page: Page, row: Locator, action: str) -> None:
    row.get_by_role("button", name="More actions").click()
    page.get_by_role("button", name=action, exact=True).click()


def test_a_name_that_fits_several_models_of_the_lan_offers_them(
    tabs: Tabs, viewed: TestNode, offered: Callable[..., str]
) -> None:
    models = [offered(f"Twins-1B-{quant}.gguf", size) for quant, size in (("Q2_K", 1), ("Q8_0", 2))]
    page = tabs.open(viewed, "models")
    tabs.forgiven.append("status of 400")  # how the first pull ended, which the page asks for
    ask_for(page, "twins")
    dialog = page.get_by_role("dialog", name="Which one?")
    expect(dialog.get_by_role("radio")).to_have_count(2)
    dialog.get_by_role("radio", name=models[1]).check()
    dialog.get_by_role("button", name="Pull").click()
    expect(row_of(page, models[1]).locator(".state")).to_have_text("seeding")
    expect(row_of(page, models[0])).to_have_count(0)


def test_a_repository_of_several_models_offers_the_choice_and_an_unknown_name_says_so(tabs: Tabs, tmp_path) -> None:
    with FakeHub() as hub, node(tmp_path / "node", hf_endpoint=hub.url, lan_enabled="off") as alone:
        files = {f"Pick-1B-{quant}.gguf": random_file(tmp_path / quant, 1).read_bytes() for quant in ("Q2_K", "Q4_K_M")}
        hub.add("owner/pick", files)
        alone.start()
        page = tabs.open(alone, "models")
        ask_for(page, "owner/pick")
        dialog = page.get_by_role("dialog", name="owner/pick has 2 models")
        expect(dialog.get_by_role("radio")).to_have_count(2)
        expect(dialog.get_by_role("radio", name="Q4_K_M")).to_be_checked()
        dialog.get_by_role("radio", name="Q2_K").check()
        dialog.get_by_role("button", name="Pull").click()
        expect(row_of(page, "pick:1b:base:q2_k").locator(".state")).to_have_text("seeding")
        page.get_by_label("Name, repository or magnet link").fill("pick")
        page.get_by_role("button", name="Search").click()
        dialog = page.get_by_role("dialog", name="Found for pick")
        expect(dialog.get_by_role("radio", name="owner/pick")).to_be_checked()
        page.keyboard.press("Escape")
        tabs.forgiven.append("status of 404")  # the browser's own words for the answer that the page shows
        ask_for(page, "owner/nothing")
        expect(page.get_by_role("alert").filter(has_text="owner/nothing")).to_be_visible()
        expect(page.get_by_label("Name, repository or magnet link")).to_have_attribute("aria-invalid", "true")
        page.close()  # before its daemon goes away
