"""Whatever a path or an argument holds, the service manager reads back exactly that."""

from __future__ import annotations

import plistlib
import subprocess
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.model.errors import UsageError
from hali.service import launchd, windows
from hali.service.survey import describe, machine
from hali.service.systemd_unit import unit
from hali.service.systemd_words import plain, quoted
from hali.service.targets import TARGETS
from tests.service_cases import AGENT, NEW, USER, WINDOWS

_NASTY = st.sampled_from(
    [*"\"'\\%$;#=:&<-a\n\t\r\x01é🦙", " ", "  ", "%%", "%h", "${HOME}", "]]>"],
)
TEXT = st.lists(_NASTY | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).map("".join)
SCHEMA = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


def read_by_systemd(line: str) -> list[str]:
    """Words as systemd.syntax(7) and systemd.unit(5) say: quotes, C escapes, `%%`. Written from the manual, not from our writer."""
    words, at = [], 0
    while at < len(line):
        assert line[at] == '"', f"a word that is not quoted: {line[at:]!r}"
        word, at = bytearray(), at + 1
        while line[at] != '"':
            if line[at] == "\\":
                letter = line[at + 1]
                if letter == "x":
                    word.append(int(line[at + 2 : at + 4], 16))
                    at += 4
                    continue
                word += {"n": b"\n", "r": b"\r", "t": b"\t"}.get(letter) or {"\\": b"\\", '"': b'"'}[letter]
                at += 2
                continue
            if line[at] == "%":
                assert line[at + 1] == "%", "a specifier that nobody meant"
                at += 1
            assert line[at] not in "\n\r", "a line that ends early"
            word += line[at].encode()
            at += 1
        words.append(word.decode())
        at += 1
        assert line[at : at + 1] in ("", " ")
        at += 1
    return words


@given(words=st.lists(TEXT, min_size=1, max_size=4))
def test_systemd_reads_back_every_word(words: list[str]) -> None:
    assert read_by_systemd(" ".join(map(quoted, words))) == words


@given(home=TEXT, argument=TEXT)
def test_no_text_can_add_a_line_to_a_unit(home: str, argument: str) -> None:
    plainly = unit(msgspec.structs.replace(USER, home="/x", arguments=("x",)), NEW)
    nasty = unit(msgspec.structs.replace(USER, home=home, arguments=(argument,)), NEW)
    assert [line.partition("=")[0] for line in nasty.split("\n")] == [
        line.partition("=")[0] for line in plainly.split("\n")
    ]


@given(path=TEXT)
def test_a_path_that_cannot_be_quoted_is_said_whole_or_refused(path: str) -> None:
    try:
        said = plain(path)
    except UsageError:
        assert not path.isprintable() or path != path.strip() or path.endswith("\\")
        return
    assert said.replace("%%", "%") == path and "\n" not in said


@given(home=TEXT, argument=TEXT)
def test_launchd_reads_back_the_home_and_every_argument_or_it_is_refused(home: str, argument: str) -> None:
    try:
        text = launchd.plist(msgspec.structs.replace(AGENT, home=home, arguments=(argument,)))
    except UsageError:
        assert not (home + argument).isprintable()
        return
    found = plistlib.loads(text.encode())
    assert found["EnvironmentVariables"] == {"HALI_HOME": home}
    assert found["ProgramArguments"][-1] == argument


@given(home=TEXT, argument=TEXT)
def test_the_task_scheduler_reads_back_the_command_line_or_it_is_refused(home: str, argument: str) -> None:
    what = msgspec.structs.replace(WINDOWS, home=home, arguments=(argument,))
    try:
        text = windows.task(what, "DESK\\ann")
    except UsageError:
        assert not (home + argument).isprintable()
        return
    told = ElementTree.fromstring(text.encode("utf-16")).findtext(f".//{SCHEMA}Arguments")
    assert told == subprocess.list2cmdline(what.kept_command[1:])


@pytest.mark.parametrize("name", ["two\nlines", "a b", "a;b", "%h", "x" * 40])
def test_an_account_is_a_name_and_nothing_more(name: str) -> None:
    with pytest.raises(UsageError, match="account"):
        describe(machine(), TARGETS["daemon"], "system", [], name)
