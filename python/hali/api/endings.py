"""How a generation must end for its reply to pass for a whole one, in every dialect."""

from __future__ import annotations

from hali.model.errors import Cancelled, EngineFailed
from hali.model.generation import Done

RETRY_AFTER_S = 1  # as after a crash


def ended(done: Done | None) -> Done:
    """The same; a reply whose engine was stopped is an error, or it would pass for a whole one."""
    if done is None:
        raise unfinished()
    if done.reason == "cancelled":
        raise _stopped()
    return done


def _stopped() -> EngineFailed:
    """As of a client that leaves nobody hears, the model was unloaded."""
    details = {"retry_after_s": RETRY_AFTER_S}
    hint = "the next request starts it again"
    return EngineFailed("the model was stopped", hint=hint, code="engine_stopped", retryable=True, details=details)


def unfinished() -> Cancelled:
    """Why there is no reply though nobody said why."""
    return Cancelled("the generation ended without a result")
