"""How a generation must end for its reply to pass for a whole one, in every dialect."""

from __future__ import annotations

from hali.model.errors import Cancelled
from hali.model.generation import Done


def ended(done: Done | None) -> Done:
    """The same; a reply that somebody stopped is an error, or it would pass for a whole one."""
    if done is None:
        raise unfinished()
    if done.reason == "cancelled":
        raise Cancelled("the generation was cancelled")
    return done


def unfinished() -> Cancelled:
    """Why there is no reply though nobody said why."""
    return Cancelled("the generation ended without a result")
