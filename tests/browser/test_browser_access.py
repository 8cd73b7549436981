"""For everybody: axe on each section in light and dark, keyboard alone, no sideways scrolling; and pictures to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import WAIT_MS, Tabs
from tests.conftest import ROOT
from tests.nodes import TestNode

expect.set_options(timeout=WAIT_MS)
SECTIONS = ("overview", "models", "transfers", "chat", "engines", "network", "activity", "settings", "system")
PICTURES = ROOT / "build" / "dashboard"
SCREENS = {360: 740, 1280: 800, 2560: 1440}
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def furnished(nodes: tuple[TestNode, TestNode], tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> TestNode:
    """The viewed node with something in each section: models, one of them in memory, and one that the LAN offers."""
    source, viewed = nodes
    names = ("Llama-3.2-3B-Instruct-Q4_K_M", "Qwen3-Coder-30B-A3B-Instruct-UD-Q4_K_XL", "Mixtral-8x7B-v0.1-Q5_K_S")
    folder = tmp_path_factory.mktemp("furniture")
    for number, name in enumerate(names):
        file = folder / f"{name}.gguf"
        file.write_bytes(bytes([number]) * 3_000_000)
        (source if number == 2 else viewed).add(file)
    viewed.call("load", model=viewed.add(smollm2)["sha256"])
    viewed.hears("mixtral:8x7b:v0.1:q5_k_s")
    return viewed


@pytest.fixture
def screen(browser: Browser) -> Iterator[Callable[..., Tabs]]:
    """Makes tabs of a size and scheme; looked at when the test is over."""
    made = []

    def of(width: int, scheme: str) -> Tabs:
        size = {"width": width, "height": SCREENS[width]}
        made.append(Tabs(browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")))
        return made[-1]

    yield of
    for tabs in made:
        tabs.context.close()
        assert tabs.verdict() == []


def go(page: Page, section: str) -> None:
    page.goto(f"{page.url.partition('#')[0]}#{section}")
    expect(page.locator(f"#view-{section}")).to_be_visible()
    expect(page.locator("#status")).to_have_text("Connected")
    if section == "chat":
        expect(page.get_by_label("Model").locator("option").first).to_be_attached()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_serious_in_any_section(
    screen: Callable[..., Tabs], furnished: TestNode, scheme: str
) -> None:
    page, found = screen(1280, scheme).open(furnished), []
    for section in SECTIONS:
        go(page, section)
        expect(page.locator("#rate-down")).not_to_have_text("—")
        found += [f"{section}: {told}" for told in serious(page)]
    go(page, "models")
    page.get_by_role("button", name="More actions").first.click()
    found += [f"menu: {told}" for told in serious(page)]
    page.get_by_role("button", name="Remove…").click()
    found += [f"dialog: {told}" for told in serious(page)]
    assert found == []


def serious(page: Page) -> list[str]:
    """Rule and elements of each finding that is serious or critical."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{one['id']} at {[node['target'] for node in one['nodes']]}"
        for one in violations
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", SCREENS)
def test_each_section_fits_the_screen_and_is_pictured(
    screen: Callable[..., Tabs], furnished: TestNode, width: int, scheme: str
) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page = screen(width, scheme).open(furnished)
    for section in SECTIONS:
        go(page, section)
        page.screenshot(path=PICTURES / f"{section}-{width}-{scheme}.png", caret="initial", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, section
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(16, 19, 22)") is (scheme == "dark")


def test_everything_is_reached_by_the_keyboard_alone(tabs: Tabs, furnished: TestNode) -> None:
    page = tabs.open(furnished, "models")
    row = page.get_by_role("row").filter(has=page.locator('[title="llama-3.2:3b:instruct:q4_k_m"]'))
    expect(row).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#models")
    more = row.get_by_role("button", name="More actions")
    steps = tab_to(page, more)
    assert steps < 20
    assert outlined(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Chat", exact=True)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("button", name="Remove…")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    link = page.get_by_role("link", name="Settings")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Settings")).to_be_visible()
    expect(page.locator("main")).to_be_focused()
    expect(link).to_have_attribute("aria-current", "page")


def tab_to(page: Page, target: object) -> int:
    """How many presses of Tab it takes."""
    for step in range(1, 60):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return step
    raise AssertionError("Tab never comes there")


def outlined(page: Page) -> bool:
    return page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_switch_of_colours_is_kept_and_wins_over_the_system(screen: Callable[..., Tabs], viewed: TestNode) -> None:
    page = screen(1280, "light").open(viewed, "system")
    page.get_by_role("button", name="Colours: system").click()
    page.get_by_role("button", name="Colours: light").click()
    expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 22)"
    page.get_by_role("button", name="Colours: dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(244, 246, 247)"


def test_without_motion_nothing_moves(screen: Callable[..., Tabs], viewed: TestNode) -> None:
    page = screen(1280, "light").open(viewed, "settings")
    switch = page.locator("input.switch").first
    assert switch.evaluate("element => getComputedStyle(element).transitionDuration") == "0s"
