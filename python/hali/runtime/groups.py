"""What a task group raises, as the one error that tells most."""

from __future__ import annotations

from hali.model.errors import HaliError


def first_error(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The most telling leaf of a group: a `HaliError` if there is one, else the first."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [errors]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, HaliError)), leaves[0])
