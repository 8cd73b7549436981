"""Finding a model in the registries: all are asked at once, those that are down are left out, and what is found was checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio

from hali.model.errors import AmbiguousName, HaliError, NotFound, ProtocolError, Refused, TransferFailed
from hali.model.ids import is_hex
from hali.registry import trust
from hali.registry.listing import Candidate, fits
from hali.registry.sources import Source
from hali.runtime.log import get_logger
from hali.share.base import Found, Listing, SearchSort
from hali.store.models import rfc3339

log = get_logger(__name__)
T = TypeVar("T")

LOOK_S = 5.0  # for one registry to answer; an ordinary one takes milliseconds, and a person waits
RESULTS = 100  # of one search, as many as a server gives
REMEMBERED = 256  # listings, for what is told of a pull when it has ended


class RegistryFinder:
    """`share.base.Directory` over registries by URL."""

    name = "registries"

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = dict(sources)
        self._found: OrderedDict[str, Listing] = OrderedDict()

    async def locate(self, name: str, *, allow_untrusted: bool = False) -> Listing | None:
        """See `share.base.Directory`."""
        if is_hex(name, 40) or is_hex(name, 64):
            listing = await self._by_hash(name)
        else:
            listing = await self._by_words(name, allow_untrusted)
        if listing is None:
            return None
        if listing.trust is not None and listing.trust < trust.VISIBLE and not allow_untrusted:
            raise Refused(
                f"{listing.model_id}: trust {listing.trust:.0f} of 100 is below {trust.VISIBLE} in {listing.registry}",
                hint="--allow-untrusted takes it; its SHA-256 is checked in any case",
                code="untrusted",
                details={"trust": listing.trust, "publisher": listing.publisher, "sha256": listing.sha256},
            )
        self._remember(name, listing)
        return listing

    async def search(self, text: str, *, limit: int, sort: SearchSort) -> Sequence[Found]:
        """`share.base.Searchable`: what the registries list for these words, below the threshold left out; unchecked."""
        by_file: dict[str, Candidate] = {}
        answers = await self._ask(lambda source: source.candidates(text, RESULTS, untrusted=False), or_fail=True)
        found = [candidate for rows in answers.values() for candidate in rows]
        for candidate in sorted(found, key=_newness if sort == "updated" else _score, reverse=True):
            by_file.setdefault(candidate.sha256, candidate)
        return [
            Found(each.model_id, self.name, updated=rfc3339(each.published_at) if each.published_at else None)
            for each in list(by_file.values())[:limit]
        ]

    def recall(self, name: str) -> Listing | None:
        """What `locate` found lately under this name, or for this SHA-256."""
        return self._found.get(name.strip().lower())

    def _remember(self, name: str, listing: Listing) -> None:
        for key in (name, listing.sha256):
            self._found.pop(key, None)
            self._found[key] = listing
        while len(self._found) > REMEMBERED:
            self._found.popitem(last=False)

    async def _by_hash(self, name: str) -> Listing | None:
        found = await self._ask(lambda source: source.listing(name))
        return max(found.values(), key=lambda listing: _points(listing.trust), default=None)

    async def _by_words(self, name: str, allow_untrusted: bool) -> Listing | None:
        answers = await self._ask(lambda source: source.candidates(name, RESULTS, untrusted=True))
        found = [candidate for rows in answers.values() for candidate in rows if fits(name, candidate)]
        trusted = [candidate for candidate in found if _score(candidate) >= trust.VISIBLE]
        if trusted and not allow_untrusted:
            found = trusted
        files = {candidate.sha256: candidate for candidate in sorted(found, key=_score)}
        if len(files) > 1:
            raise AmbiguousName(
                f"{name!r} fits {len(files)} models in the registries",
                choices=[_choice(candidate) for candidate in files.values()],
                hint="give more of the id or the SHA-256",
            )
        return await self._by_hash(next(iter(files))) if files else None

    async def _ask(self, question: Callable[[Source], Awaitable[T]], *, or_fail: bool = False) -> dict[str, T]:
        """The answers by registry. When nobody has one, but somebody's was forged or forbidden, that is the error.

        With `or_fail` also that nobody can be reached.
        """
        answers: dict[str, T] = {}
        errors: list[HaliError] = []

        async def ask(url: str, source: Source) -> None:
            try:
                with anyio.fail_after(LOOK_S):
                    answers[url] = await question(source)
            except NotFound:
                return
            except (TransferFailed, ProtocolError, TimeoutError) as exc:
                log.warning("registry.no_answer", registry=url, error=str(exc))
                if or_fail:
                    errors.append(TransferFailed(str(exc) or f"{url}: no answer in {LOOK_S:.0f} s"))
            except HaliError as exc:
                log.warning("registry.bad_answer", registry=url, error=str(exc), code=exc.code)
                errors.append(exc)

        async with anyio.create_task_group() as group:
            for url, source in self._sources.items():
                group.start_soon(ask, url, source)
        if errors and not answers:
            raise errors[0]
        return {url: answers[url] for url in self._sources if url in answers}


def _points(score: float | None) -> float:
    """A pinned publisher is the operator's own choice."""
    return 100.0 if score is None else score


def _score(candidate: Candidate) -> float:
    return _points(candidate.trust)


def _newness(candidate: Candidate) -> int:
    return candidate.published_at or 0


def _choice(candidate: Candidate) -> str:
    # The whole hash: registries find nothing by a part of it.
    return f"{candidate.model_id} (sha256 {candidate.sha256}, trust {_score(candidate):.0f})"
