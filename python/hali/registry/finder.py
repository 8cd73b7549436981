"""Finding a model in the registries: all are asked at once, those that are down are left out, and what is found was checked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from hali.model.errors import AmbiguousName, Refused
from hali.model.ids import is_hex
from hali.registry import trust
from hali.registry.inquiry import Inquiry
from hali.registry.listing import Candidate, fits, other_model
from hali.registry.sources import Source
from hali.share.base import Found, Listing, SearchSort
from hali.store.metadata import rfc3339

RESULTS = 100  # of one search, as many as a server gives
CHECKED = 8  # files that one name fits: so many are fetched to see whether they bear it; of more a person chooses first
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
        look = Inquiry(self._sources).all
        answers = await look(lambda source: source.candidates(text, RESULTS, untrusted=False), or_fail=True)
        found = [candidate for _, rows in answers for candidate in rows]
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
        found = await Inquiry(self._sources).all(lambda source: source.listing(name))
        return max((listing for _, listing in found), key=_trust, default=None)

    async def _by_words(self, name: str, allow_untrusted: bool) -> Listing | None:
        inquiry = Inquiry(self._sources)
        answers = await inquiry.all(lambda source: source.candidates(name, RESULTS, untrusted=True))
        # The best line of each registry for each file.
        best = {
            (url, line.sha256): line
            for url, rows in answers
            for line in sorted(rows, key=_score)
            if fits(name, line.model_id)
        }
        files = _files(best.values(), allow_untrusted)
        if len(files) > CHECKED:
            raise _ambiguous(name, [_choice(line.model_id, line.sha256, line.trust) for line in files.values()])
        meant = [(url, _meant(name, line)) for (url, sha256), line in best.items() if sha256 in files]
        found = {each.sha256: each for each in sorted((each for _, each in await inquiry.each(meant)), key=_trust)}
        if len(found) > 1:
            raise _ambiguous(name, [_choice(each.model_id, each.sha256, each.trust) for each in found.values()])
        return next(iter(found.values()), None)


def _files(lines: Iterable[Candidate], allow_untrusted: bool) -> dict[str, Candidate]:
    """The best line of each file; of the trusted files alone where there are some."""
    trusted = [line for line in lines if _score(line) >= trust.VISIBLE]
    shown = trusted if trusted and not allow_untrusted else lines
    return {line.sha256: line for line in sorted(shown, key=_score)}


def _meant(name: str, line: Candidate) -> Callable[[Source], Awaitable[Listing]]:
    """Asks for what a line of a search promised: this publisher's word, and by that word the model that was asked for."""

    async def question(source: Source) -> Listing:
        listing = await source.listing(line.infohash, line.publisher)
        if not fits(name, listing.model_id):
            raise other_model(name, listing.model_id)
        return listing

    return question


def _ambiguous(name: str, choices: list[str]) -> AmbiguousName:
    return AmbiguousName(
        f"{name!r} fits {len(choices)} models in the registries",
        choices=choices,
        hint="give more of the id or the SHA-256",
    )


def _points(score: float | None) -> float:
    """A pinned publisher is the operator's own choice."""
    return 100.0 if score is None else score


def _score(candidate: Candidate) -> float:
    return _points(candidate.trust)


def _trust(listing: Listing) -> float:
    return _points(listing.trust)


def _newness(candidate: Candidate) -> int:
    return candidate.published_at or 0


def _choice(model_id: str, sha256: str, score: float | None) -> str:
    # The whole hash: registries find nothing by a part of it.
    return f"{model_id} (sha256 {sha256}, trust {_points(score):.0f})"
