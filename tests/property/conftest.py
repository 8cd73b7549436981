"""How many random cases a property sees: a hundred the same ones each time, or many new ones in the long form."""

from __future__ import annotations

import os

from hypothesis import settings

LONG = bool(os.environ.get("HALI_LONG"))

settings.register_profile(
    "hali", derandomize=not LONG, max_examples=2000 if LONG else 100, deadline=None, database=None
)
settings.load_profile("hali")
