"""What the page does with much: 10,000 events, and numbers to the digit; its modules' pure parts, in the browser that runs them."""

from __future__ import annotations

import random
from pathlib import Path

from playwright.sync_api import Page, expect

from hali.api.dashboard_assets import FOLDER
from hali.model.units import format_bytes, format_duration, format_rate
from tests.browser.conftest import WAIT_MS, Tabs
from tests.nodes import TestNode

expect.set_options(timeout=WAIT_MS)
EVENTS = 10_000
ROWS = 150  # view-activity.js
TOASTS = 4  # toasts.js

FLOOD = """async (count) => {
  const socket = window.sockets[0];
  let rows = 0;
  new MutationObserver((changes) => {
    for (const change of changes) rows += [...change.addedNodes].filter((node) => node.matches?.("li.event")).length;
  }).observe(document.body, { childList: true, subtree: true });
  for (let i = 1; i <= count; i += 1) {
    const event = { seq: 1e6 + i, ts: i, kind: "peer.banned", text: `event ${i}`, toast_level: "warning", fields: {} };
    socket.onmessage({ data: JSON.stringify({ t: "activity", replay: false, event }) });
    if (i % 1000 === 0) await new Promise((done) => requestAnimationFrame(done));
  }
  await new Promise((done) => requestAnimationFrame(done));
  return rows;
}"""


def spied(tabs: Tabs, viewed: TestNode, view: str) -> Page:
    """A page whose WebSockets are in `window.sockets`."""
    tabs.context.add_init_script(
        """const Real = WebSocket; window.sockets = [];
           window.WebSocket = class extends Real { constructor(url) { super(url); window.sockets.push(this); } };"""
    )
    page = tabs.open(viewed, view)
    expect(page.locator("#status")).to_have_text("Connected")
    return page


def test_ten_thousand_events_cost_no_more_than_what_fits_the_screen(tabs: Tabs, viewed: TestNode) -> None:
    page = spied(tabs, viewed, "activity")
    before = page.evaluate("document.querySelectorAll('*').length")
    drawn = page.evaluate(FLOOD, EVENTS)
    expect(page.locator("#view li.event").first).to_contain_text(f"event {EVENTS}")
    assert page.locator("#view li.event").count() == ROWS
    assert page.locator(".toast").count() == TOASTS
    assert drawn <= ROWS * (EVENTS // 1000 + 2)  # rows of whole frames, not of each event
    assert page.evaluate("document.querySelectorAll('*').length") < before + ROWS * 5 + TOASTS * 4
    page.get_by_role("link", name="System").click()
    expect(page.get_by_role("row", name="ApiServer")).to_be_visible()


def test_a_slow_page_says_what_it_missed(tabs: Tabs, viewed: TestNode) -> None:
    page = spied(tabs, viewed, "activity")
    page.evaluate("""window.sockets[0].onmessage({ data: JSON.stringify({ t: "lagged", missed: 7 }) })""")
    expect(page.get_by_text("too slow for 7 events")).to_be_visible()


def test_numbers_read_as_those_of_the_command_line(tabs: Tabs, viewed: TestNode) -> None:
    page, rng = tabs.open(viewed, "system"), random.Random(7)
    sizes = [0, 1, 999, 1000, 1049, 1050, 1250, 1750, 12_250, 12_350, 999_949, 999_950, 999_999, 10**15]
    sizes += [rng.randrange(10**6) * 50 for _ in range(3000)] + [round(10 ** rng.uniform(0, 14)) for _ in range(3000)]
    rates = [rng.uniform(0, 10**9) for _ in range(1000)] + [0.5, 1.5, 2.5, 250.5]
    ratios = [n / 8 for n in range(200)] + [rng.uniform(0, 50) for _ in range(1000)]
    told = page.evaluate(
        """async ({sizes, rates, ratios}) => {
             const format = await import("/assets/format.js");
             return { bytes: sizes.map(format.bytes), rates: [null, ...rates].map(format.rate),
                      ratios: ratios.map((n) => format.fixed(n, 2)), times: sizes.slice(0, 14).map(format.duration) };
           }""",
        {"sizes": sizes, "rates": rates, "ratios": ratios},
    )
    assert told["bytes"] == [format_bytes(n) for n in sizes]
    assert told["rates"] == [format_rate(n) for n in [None, *rates]]
    assert told["ratios"] == [f"{n:.2f}" for n in ratios]
    assert told["times"] == [format_duration(n) for n in sizes[:14]]


def test_a_replay_is_told_once_and_a_new_life_of_the_daemon_begins_anew(tabs: Tabs, viewed: TestNode) -> None:
    page = tabs.open(viewed, "system")
    seen = page.evaluate(
        """async () => {
             const { State } = await import("/assets/state.js");
             const fresh = [];
             const frames = [];
             const state = new State((run) => frames.push(run));
             state.subscribe(() => fresh.push(...state.fresh.map((event) => event.key)));
             const tell = (seq, replay) => state.apply({ t: "activity", replay, event: { seq, kind: "k", text: "t" } });
             const keys = () => {
               for (const frame of frames.splice(0)) frame();
               return state.events.map((event) => event.key);
             };
             const steps = [];
             state.apply({ t: "hello", boot: "a" });
             tell(1, true); tell(2, true); tell(3, false);
             steps.push(keys());
             state.apply({ t: "hello", boot: "a" });
             tell(2, true); tell(3, true); tell(4, true);
             steps.push(keys());
             state.apply({ t: "hello", boot: "b" });
             tell(1, true);
             steps.push(keys());
             state.apply({ t: "told by a newer daemon" });
             return { steps, fresh, frames: frames.length };
           }"""
    )
    assert seen["steps"] == [["a/1", "a/2", "a/3"], ["a/1", "a/2", "a/3", "a/4"], ["b/1"]]
    assert seen["frames"] == 0
    assert seen["fresh"] == ["a/3", "a/4"]  # what happened while the page was away is news; what was before it is not


def test_waits_between_tries_grow_and_end(tabs: Tabs, viewed: TestNode) -> None:
    page = tabs.open(viewed, "system")
    waits = page.evaluate(
        """async () => {
             const { backOff } = await import("/assets/socket.js");
             return [...Array(12).keys()].map((n) => [backOff(n, 0), backOff(n, 1)]);
           }"""
    )
    assert [most for _, most in waits[:5]] == [250, 500, 1000, 2000, 4000]
    assert all(least == most / 2 <= 5000 for least, most in waits)
    assert waits[-1][1] == 10_000


def test_the_page_names_each_of_its_modules_so_that_none_waits_for_another(tabs: Tabs, viewed: TestNode) -> None:
    page = tabs.open(viewed)
    expect(page.locator("#status")).to_have_text("Connected")
    loaded = page.evaluate("performance.getEntriesByType('resource').map((entry) => entry.name.split('/').pop())")
    files = {path.name for path in Path(FOLDER).iterdir() if path.suffix != ".html"}
    named = page.locator("script, link").evaluate_all("all => all.map((one) => (one.src || one.href).split('/').pop())")
    assert set(named) == files  # nothing is found out late, and nothing is there that the page does not use
    assert files <= set(loaded)


def test_the_curve_is_broken_where_nothing_was_measured(tabs: Tabs, viewed: TestNode) -> None:
    page = tabs.open(viewed, "system")
    drawn = page.evaluate(
        """async () => {
             const { Sparkline } = await import("/assets/sparkline.js");
             const chart = new Sparkline("rates");
             const top = chart.update([[100, 20000, 0], [101, 10000, 0], [140, 5000, 40000], [145, 0, 0]]);
             const down = chart.el.querySelector(".line.down").getAttribute("d");
             return { top, down, said: chart.el.getAttribute("aria-label") };
           }"""
    )
    assert drawn["top"] == 40_000
    assert drawn["down"] == "M255.0 31.0L256.0 45.5M295.0 52.8L300.0 60.0"
    assert drawn["said"] == "rates: at most 20.0 kB/s down and 40.0 kB/s up"
