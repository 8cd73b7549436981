"""The chat page with a real model: streamed, stopped, never markup; and the engine that answers, seen beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import WAIT_MS, Tabs
from tests.nodes import TestNode, until

pytestmark = pytest.mark.model
expect.set_options(timeout=WAIT_MS)
QUESTION = "What is the capital of France?"
# What the daemon sends, beside what the page makes of it, and how long the reply was each time that it was drawn.
SPY = """() => {
  const real = window.fetch;
  window.fetch = async (...asked) => {
    const response = await real(...asked);
    response.clone().text().then((text) => { window.heard = text; });
    return response;
  };
  window.lengths = [];
  new MutationObserver(() => {
    const text = document.querySelector(".message.assistant .text");
    if (text) window.lengths.push(text.textContent.length);
  }).observe(document.querySelector(".messages"), { childList: true, subtree: true });
}"""
MODEL = "smollm2:135m:instruct:q4_1"


@pytest.fixture
def chat(tabs: Tabs, viewed: TestNode, smollm2: Path) -> Page:
    viewed.add(smollm2)
    page = tabs.open(viewed, "chat")
    page.get_by_label("Model").select_option(MODEL)
    page.get_by_text("Options").click()
    page.get_by_label("Temperature").fill("0")
    return page


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def test_a_reply_is_streamed_word_by_word_and_what_was_said_before_is_known(chat: Page) -> None:
    chat.evaluate(SPY)
    chat.get_by_label("Longest reply in tokens").fill("40")
    say(chat, QUESTION)
    reply = chat.locator(".message.assistant")
    expect(reply.locator("small")).to_contain_text("token")
    chat.wait_for_function("window.heard")
    chunks = [json.loads(line[6:]) for line in chat.evaluate("window.heard").splitlines() if line.startswith("data: {")]
    sent = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert sent.split() == reply.locator(".text").inner_text().split() != []
    assert len(set(chat.evaluate("window.lengths"))) > 2  # it grew
    chat.get_by_label("System prompt").fill("You are brief.")
    with chat.expect_request("**/v1/chat/completions") as asked:
        say(chat, "And of Spain?")
    told = [(message["role"], message["content"].strip()) for message in asked.value.post_data_json["messages"]]
    assert told == [
        ("system", "You are brief."),
        ("user", QUESTION),
        ("assistant", sent.strip()),
        ("user", "And of Spain?"),
    ]
    expect(reply.nth(1).locator("small")).to_contain_text("token")


def test_stop_ends_the_reply_and_frees_the_engine(chat: Page, viewed: TestNode) -> None:
    chat.get_by_label("Longest reply in tokens").fill("3000")
    say(chat, "Count from 1 to 2000, in words, one on each line.")
    expect(chat.locator(".message.assistant .text")).not_to_be_empty()
    chat.get_by_role("button", name="Stop").click()
    expect(chat.locator(".message.assistant small")).to_have_text("stopped")
    expect(chat.get_by_role("button", name="Send")).to_be_enabled()
    until(lambda: viewed.ok("stats", "--once")["inference"]["running"] == 0, "nothing runs any more")


def test_what_is_said_never_becomes_markup_and_code_is_shown_as_code(chat: Page) -> None:
    nasty = (
        '<img src="http://attacker.test/x" onerror="document.title=\'taken\'"> **bold**\n```\n<script>1</script>\n```'
    )
    chat.get_by_label("Longest reply in tokens").fill("1")
    say(chat, nasty)
    said = chat.locator(".message.user .text")
    expect(said.locator("pre code")).to_have_text("<script>1</script>")
    expect(said.locator("strong")).to_have_text("bold")
    expect(said.locator("p")).to_contain_text('<img src="http://attacker.test/x"')
    assert said.locator("img, script").count() == 0
    assert chat.title() == "Chat · hali"


def test_the_engine_and_its_requests_are_shown_and_it_is_unloaded(chat: Page, viewed: TestNode) -> None:
    chat.get_by_label("Longest reply in tokens").fill("4")
    say(chat, "Hello")
    expect(chat.locator(".message.assistant small")).to_contain_text("token")
    chat.get_by_role("link", name="Engines").click()
    row = chat.get_by_role("row", name=MODEL)
    expect(row).to_contain_text("ready")
    expect(row).to_contain_text("MB")
    expect(chat.locator(".tile").filter(has_text="Answered").locator("dd")).not_to_have_text("0")
    row.get_by_role("button", name=f"Unload {MODEL}").click()
    expect(chat.get_by_text("No model is loaded.")).to_be_visible()
    assert viewed.call("ps")["engines"] == []
