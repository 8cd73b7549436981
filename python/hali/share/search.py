"""Searching all providers at once; one that is down costs a warning, not the search."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import msgspec

from hali.model.errors import Failed, HaliError, TransferFailed
from hali.runtime.log import get_logger
from hali.share.base import Found, Searchable, SearchSort

log = get_logger(__name__)

SEARCH_S = 20.0  # for one provider: a person waits, and the others have answered long before
MAX_FOUND = 100  # what one page of a provider holds


class Findings(msgspec.Struct, frozen=True):
    """What was found, best first, and a line for each provider that could not be asked."""

    results: tuple[Found, ...]
    warnings: tuple[str, ...] = ()


class Search:
    """Asks `providers`, in order of preference: what two of them have is shown once."""

    def __init__(self, providers: Sequence[Searchable]) -> None:
        self._providers = tuple(providers)

    async def run(self, text: str, *, limit: int, sort: SearchSort = "downloads") -> Findings:
        """At most `limit` findings; TransferFailed when no provider could be asked."""
        answers: dict[str, Sequence[Found] | HaliError] = {}
        async with anyio.create_task_group() as group:
            for provider in self._providers:
                group.start_soon(self._ask, provider, text, limit, sort, answers)
        found = [answers[provider.name] for provider in self._providers]
        errors = {name: str(answer) for name, answer in answers.items() if isinstance(answer, HaliError)}
        if len(errors) == len(self._providers):
            raise TransferFailed("; ".join(errors.values()), details={"tried": errors})
        results = merged([answer for answer in found if not isinstance(answer, HaliError)], sort)
        return Findings(tuple(cut(results, limit)), tuple(f"{name}: {why}" for name, why in errors.items()))

    @staticmethod
    async def _ask(
        provider: Searchable,
        text: str,
        limit: int,
        sort: SearchSort,
        answers: dict[str, Sequence[Found] | HaliError],
    ) -> None:
        try:
            with anyio.fail_after(SEARCH_S):
                answers[provider.name] = await provider.search(text, limit=limit, sort=sort)
        except TimeoutError:
            answers[provider.name] = Failed(f"no answer in {SEARCH_S:.0f} s")
        except HaliError as exc:
            log.warning("search.provider_down", provider=provider.name, error=str(exc))
            answers[provider.name] = exc


def merged(answers: Sequence[Sequence[Found]], sort: SearchSort) -> list[Found]:
    """All findings in the order of `sort`, what a provider does not know last; each name once, from the first that has it."""
    by_name: dict[str, Found] = {}
    for found in (found for answer in answers for found in answer):
        by_name.setdefault(found.name.lower(), found)
    return sorted(by_name.values(), key=lambda found: _rank(found, sort), reverse=True)


def cut(found: Sequence[Found], limit: int) -> list[Found]:
    """The first `limit`, but of each provider at least its share: one that counts no downloads would else never be seen."""
    providers = list(dict.fromkeys(each.provider for each in found))
    share = limit // max(1, len(providers))
    kept = [each for name in providers for each in [one for one in found if one.provider == name][:share]]
    rest = [each for each in found if each not in kept]
    chosen = [*kept, *rest[: limit - len(kept)]]
    return [each for each in found if each in chosen]


def _rank(found: Found, sort: SearchSort) -> tuple[bool, int | str]:
    value = getattr(found, sort)
    return (value is not None, value if value is not None else 0)
