"""What the native hashers raise, in hali's words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hali.hashing._extension import native
from hali.model import errors


@contextmanager
def in_hali_words(*, spare: Sequence[BaseException] = ()) -> Iterator[None]:
    """Map native errors to hali's; ValueError passes, for it is a mistake in our own code.

    `spare` collects what a callback raised: that is the caller's and passes as it is, an OSError too.
    """
    try:
        yield
    except (native.Cancelled, native.NoBackend, OSError) as error:
        if any(error is own for own in spare):
            raise
        raise _translated(error) from error


def _translated(error: Exception) -> errors.HaliError:
    match error:
        case native.Cancelled():
            return errors.Cancelled(str(error), hint="finished pieces are kept; start again to go on")
        case native.NoBackend():
            return errors.ConfigError(str(error), hint="unset the variable to let hali choose")
        case native.FileChanged():
            hint = "hash it again when no program writes to it"
            return errors.Failed(str(error), code="file_changed", hint=hint, retryable=True)
        case FileNotFoundError():
            return errors.NotFound(_one_line(error))
        case OSError():
            return errors.Failed(_one_line(error), code="io")
    return errors.Failed(str(error))


def _one_line(error: OSError) -> str:
    name = error.filename if error.filename is not None else "open file"
    return f"cannot hash {name}: {error.strerror or error}"
