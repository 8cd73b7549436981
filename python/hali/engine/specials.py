"""How many special tokens a text spells: llama.cpp looks for them in a time that grows with the square of their number. Pure."""

from __future__ import annotations

from collections.abc import Iterable

# Half a second of llama.cpp, which nothing can interrupt; 100,000 take a minute. A chat of 1,000 turns has 3,000.
MOST = 8192


class SpecialTexts:
    """The spellings of a vocabulary's special tokens, which are recognised in texts."""

    def __init__(self, texts: Iterable[bytes]) -> None:
        self._texts = [text for text in texts if text]
        self._firsts = {text[:1] for text in self._texts}

    def too_many(self, data: bytes, most: int = MOST) -> bool:
        """Whether `data` spells more than `most` of them, those inside each other counted too."""
        if len(data) <= most or sum(map(data.count, self._firsts)) <= most:
            return False  # nearly always: each of them begins somewhere, and few bytes can begin one
        count = 0
        for text in self._texts:
            count += data.count(text)
            if count > most:
                return True
        return False
