"""How pages are read and compared by the tests that run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import as_said, blocks


def test_blocks_come_in_order_with_their_titles_and_what_they_print(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One\n\n```sh second\n# no title\nls\n```\n\nso\n\n```text\na\n```\n\n## Two\n\n```\n$ hali list\nx\n```\n"
    )
    first, second = blocks(page)
    assert (first.title, first.kind, first.words, first.prints) == ("One", "sh", ("second",), "a\n")
    assert (second.title, second.typed, second.is_run) == ("Two", ["hali list"], True)


@pytest.mark.parametrize(
    "text", ["```text\nnobody prints it\n```\n", "```bash\nls\n```\n", "```console\n$ x\n```\n```text\ny\n```\n"]
)
def test_a_block_that_could_not_be_judged_is_refused(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(AssertionError):
        blocks(page)


@pytest.mark.parametrize(
    ("printed", "said", "same"),
    [
        ("a  b\n", "a b\n", True),
        ("a 17 b\n", "a … b\n", True),
        ("a\nx\ny\nb\n", "a\n…\nb\n", True),
        ("a\nb\n", "a\n…\nb\n", True),
        ("NAME\n----\nx\n", "NAME\n--------\nx\n", True),
        ("a\nx\n", "a\n", False),
        ("a\n", "a\nb\n", False),
        ("axb\n", "a.b\n", False),
        ("a 17\nb\n", "a …b\n", False),
        ("", "a\n", False),
    ],
)
def test_what_is_printed_is_what_is_said_but_for_what_differs(printed: str, said: str, same: bool) -> None:
    assert as_said(printed, said) is same
