"""What was typed is kept as it was typed, whatever the locale of the chat."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHAT = """
import readline, sys
from pathlib import Path
from hali.cli.history import kept

with kept(Path(sys.argv[1])):
    # As readline has what is typed in this locale: bytes that are no letters.
    readline.add_history("Zo\\u00eb".encode().decode("ascii", "surrogateescape"))
"""


def test_a_locale_without_letters_neither_ends_the_chat_nor_loses_what_was_typed(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts"
    prompts.write_text("Grüße\n", "utf-8")
    subprocess.run([sys.executable, "-c", CHAT, str(prompts)], env=os.environ | {"LC_ALL": "C"}, check=True)
    assert prompts.read_text("utf-8") == "Grüße\nZoë\n"
