"""From what the user asked for to what can be fetched: the store first, then the LAN, then Hugging Face."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from hali.model.errors import AmbiguousName, HaliError, NotFound, Refused, TransferFailed, UsageError
from hali.model.ids import InfoHashes, ModelRef, is_hash_prefix, is_hex
from hali.model.names import names_part_of
from hali.model.splits import in_order, is_projector
from hali.runtime.log import get_logger
from hali.share.base import Directory, Listing, Neighbours, NoDirectory, Offer
from hali.share.incoming_model import Wanted
from hali.share.library import Entry, Library
from hali.share.targets import MagnetTarget, NameTarget, RepoTarget, Target, TorrentTarget
from hali.store.metadata import Metadata
from hali.transfer import magnet, metainfo
from hali.transfer.http_guard import Reach, check_link, reach, reach_of_host
from hali.transfer.hub import Hub
from hali.transfer.hub_choice import choose_model
from hali.transfer.hub_models import RepoFile, RepoListing
from hali.wire.manifest import FileRef, identity

log = get_logger(__name__)

# Nodes promise an answer within 250 ms. A file that a hub has too is not waited for longer: who answers later joins in.
ANSWER_S = 0.4

SHORT_COMMIT = 7  # digits, as git shortens

FetchMetainfo = Callable[[str], Awaitable[bytes]]


class Plan(msgspec.Struct, frozen=True):
    """How to get one model: a torrent, an HTTP source, or both; `key` names its folder while it is unfinished."""

    key: str
    name: str
    torrent: magnet.Magnet | metainfo.Metainfo | None = None
    peers: tuple[tuple[str, int], ...] = ()
    on_lan: bool = False
    ref: ModelRef | None = None  # when Hugging Face told the SHA-256
    repo_path: str = ""  # of `ref` inside its repository, when it is one file
    files: tuple[Wanted, ...] = ()  # of `ref`, when it has several, in the order of their torrent
    sha256_prefix: str | None = None  # what the user asked for by hash, or a LAN announcement promised
    announced_size: int | None = None  # bytes, as a LAN announcement has it

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The files of `ref`; empty when only the torrent will tell."""
        if self.ref is None or self.files:
            return self.files
        return (Wanted(self.ref.file, self.ref.size, self.ref.sha256, self.repo_path or None),)

    @property
    def identities(self) -> set[str]:
        """All names under which the same file may be asked for at the same time."""
        hashes = self.torrent.infohashes if self.torrent is not None else InfoHashes()
        sha256 = self.ref.sha256 if self.ref else self.sha256_prefix
        return {self.key, *(name for name in (hashes.v1, hashes.v2, sha256 and sha256[:32]) if name)}

    @property
    def size(self) -> int | None:
        """Bytes to come; None where only the torrent's metadata, which is yet to come, will tell."""
        if self.ref is not None:
            return self.ref.size
        return self.torrent.length if isinstance(self.torrent, metainfo.Metainfo) else self.announced_size


class Resolver:
    """Reads the store, asks the LAN and the hub."""

    def __init__(
        self,
        library: Library,
        neighbours: Neighbours,
        hub_client: Hub,
        *,
        fetch_metainfo: FetchMetainfo,
        loopback_peers: bool = False,
        directory: Directory | None = None,
    ) -> None:
        self._library, self._neighbours, self._hub = library, neighbours, hub_client
        self._fetch_metainfo = fetch_metainfo
        self._deepest_peer = Reach.LOOPBACK if loopback_peers else Reach.PRIVATE
        self._directory = directory or NoDirectory()

    def stored(self, target: Target, mmproj: bool | None = None) -> Entry | None:
        """The model of the store that `target` means, whole or not, if it is there (if asked for, with a projector); AmbiguousName."""
        match target:
            case NameTarget(name=name):
                return self._library.find(name) if self._library.holds(name) else None
            case MagnetTarget(uri=uri):
                return self._library.of_torrent(magnet.parse(uri).infohashes)
            case RepoTarget():
                return self._by_repo(target, bool(mmproj))
            case TorrentTarget():
                return None

    def stored_by(self, plan: Plan) -> Entry | None:
        """The model that `plan` would fetch, if it has come meanwhile; a damaged one is fetched again."""
        return next((entry for entry in self.known_by(plan) if entry.is_whole), None)

    def known_by(self, plan: Plan) -> list[Entry]:
        """The model that `plan` would fetch, whole or not, if it is in the store; one, but for hashes that a stranger made up."""
        found = []
        for entry in self._library.entries():
            meta = entry.record.meta
            if {meta.sha256, meta.sha256[:32], *meta.torrents} & plan.identities:
                found.append(entry)
        return found

    def _by_repo(self, target: RepoTarget, mmproj: bool) -> Entry | None:
        """Only an exact choice is answered without asking the hub: a file, or a quant of which there is one here."""
        found = [e for e in self._library.entries() if e.record.meta.hf_repo == target.repo]
        if target.revision is not None:
            found = [e for e in found if _is_commit(target.revision, e.record.meta)]
        if target.file is not None:
            found = [e for e in found if _is_at(e.record.meta, target.file)]
        elif target.quant is not None:
            found = [e for e in found if e.record.meta.model_id.rpartition(":")[2] == target.quant.lower()]
        if mmproj:
            found = [e for e in found if any(map(is_projector, e.record.meta.files))]
        return found[0] if len(found) == 1 else None

    async def plan(
        self,
        target: Target,
        *,
        allow_untrusted: bool = False,
        mmproj: bool | None = None,
    ) -> Plan:
        """What to fetch for `target`; NotFound, AmbiguousName, TransferFailed, Refused.

        `mmproj`: with the model's projector or without; None: with it, unless one file was asked for by its name.
        """
        match target:
            case NameTarget(name=name):
                return await self._plan_name(name, allow_untrusted)
            case MagnetTarget(uri=uri):
                link = self._harmless(magnet.parse(uri))
                if not (link.peers or link.webseeds) and (listed := await self._plan_listed(link, allow_untrusted)):
                    return listed
                return Plan(link.infohashes.best, link.name or link.infohashes.best, link, link.peers)
            case TorrentTarget(location=location):
                return await self._plan_torrent(location)
            case RepoTarget():
                return await self._plan_repo(target, mmproj)

    async def sha256_prefix(self, infohashes: InfoHashes) -> str | None:
        """What nodes of the LAN that have this torrent say of its file; None when nobody does, or not all the same."""
        found = {o.sha256_prefix for o in await self._neighbours.ask(infohashes.best) if o.sha256_prefix}
        return found.pop() if len(found) == 1 else None

    def _harmless(self, link: magnet.Magnet) -> magnet.Magnet:
        """A link without what would make us ask this machine or the network behind it for things in a stranger's name."""
        peers = tuple(peer for peer in link.peers if reach(peer[0]) <= self._deepest_peer)
        return msgspec.structs.replace(link, peers=peers)  # its web seeds are checked when they are asked

    async def _plan_listed(self, link: magnet.Magnet, allow_untrusted: bool) -> Plan | None:
        """A bare infohash says nothing of where the bytes are; a registry may."""
        listing = await self._directory.locate(link.infohashes.best, allow_untrusted=allow_untrusted)
        return None if listing is None else await self._plan_listing(listing)

    async def _plan_listing(self, listing: Listing) -> Plan:
        """The registry's torrent, the nodes of the LAN that have it, and the repository that the publisher names, if it agrees."""
        torrent = metainfo.parse(listing.torrent)
        torrent = msgspec.structs.replace(torrent, webseeds=tuple(filter(_is_public, torrent.webseeds)))
        peers = await self.peers(torrent.infohashes)
        plan = Plan(
            key=listing.sha256,
            name=listing.model_id,
            torrent=torrent,
            peers=tuple(peers),
            on_lan=bool(peers),
            sha256_prefix=listing.sha256,
        )
        return await self._with_repository(plan, listing)

    async def _with_repository(self, plan: Plan, listing: Listing) -> Plan:
        """A publisher's word makes nothing genuine: the hub itself must list the file under this SHA-256."""
        if listing.repo is None:
            return plan
        try:
            found = await self._hub.resolve(listing.repo, listing.revision)
        except HaliError as exc:  # then the torrent is the only source
            log.warning("resolve.repository_unknown", repo=listing.repo, error=str(exc))
            return plan
        for file in found.files:
            if file.sha256 == listing.sha256 and file.base == listing.file:
                ref = ModelRef(listing.sha256, file.base, file.size, listing.repo, found.commit)
                return msgspec.structs.replace(plan, ref=ref, repo_path=file.name)
        log.warning("resolve.repository_disagrees", repo=listing.repo, sha256=listing.sha256)
        return plan

    async def _plan_name(self, name: str, allow_untrusted: bool) -> Plan:
        # Those who hold parts help, but nobody knows whether they have all of it together.
        near = [offer for offer in _merge(await self._neighbours.ask(name)) if offer.complete]
        offers = _meant(name, near)
        if not offers and (listing := await self._directory.locate(name, allow_untrusted=allow_untrusted)) is not None:
            return await self._plan_listing(listing)
        if not offers and is_hex(name, 64):  # not the SHA-256 of anything here: then it can only be a v2 infohash
            return Plan(name, name, magnet.Magnet(InfoHashes(v2=name)))
        if not offers:
            alike = f"; on the LAN is {near[0].model_id}" if near else ""
            raise NotFound(
                f"no model {name!r} in the store, on the LAN or in a registry{alike}",
                hint="give owner/repo, a magnet link or a .torrent to fetch from elsewhere",
            )
        if len(offers) > 1:
            choices = [f"{o.model_id} (sha256 {o.sha256_prefix[:12]}…)" for o in offers]
            raise AmbiguousName(
                f"{name!r} fits {len(offers)} models on the LAN",
                choices=choices,
                hint="give more of the id or the SHA-256",
            )
        (offer,) = offers
        return Plan(
            key=offer.sha256_prefix,
            name=offer.model_id,
            torrent=magnet.Magnet(infohashes=offer.infohashes),
            peers=offer.peers,
            on_lan=True,
            # 64 digits may also be the torrent's infohash.
            sha256_prefix=name if is_hex(name, 64) and name.startswith(offer.sha256_prefix) else offer.sha256_prefix,
            announced_size=offer.size,
        )

    async def offers(self, infohashes: InfoHashes) -> Sequence[Offer]:
        """What nodes of the LAN have of this torrent now. What they send is checked by the torrent's own hashes."""
        return await self._neighbours.ask(infohashes.best)

    async def peers(self, infohashes: InfoHashes) -> list[tuple[str, int]]:
        """Those nodes."""
        return [peer for offer in await self.offers(infohashes) for peer in offer.peers]

    async def news(self) -> None:
        """Wait until the LAN says something new."""
        await self._neighbours.news()

    async def _plan_torrent(self, location: str) -> Plan:
        if "://" in location:
            raw = await self._fetch_metainfo(location)
        else:
            raw = await anyio.to_thread.run_sync(_read_torrent, location)
        parsed = metainfo.parse(raw)
        return Plan(parsed.infohashes.best, parsed.name, parsed)

    async def _plan_repo(self, target: RepoTarget, mmproj: bool | None) -> Plan:
        listing = await self._hub.resolve(target.repo, target.revision)
        model = choose_model(listing, quant=target.quant, file=target.file)
        whole = not (target.file or "").lower().endswith(".gguf") if mmproj is None else mmproj
        plan = _pinned(listing, model.with_projector() if whole else model.files)
        if not self._neighbours.alone:
            with anyio.move_on_after(ANSWER_S):
                plan = await self.with_lan(plan)
        return plan

    async def with_lan(self, plan: Plan) -> Plan:
        """`plan`, of a known file, with the torrent and the nodes of the LAN that have this very file now."""
        assert plan.ref is not None
        sha256 = plan.ref.sha256
        offers = [o for o in _merge(await self._neighbours.ask(sha256)) if sha256.startswith(o.sha256_prefix)]
        if len(offers) != 1:
            return plan
        torrent = magnet.Magnet(infohashes=offers[0].infohashes)
        return msgspec.structs.replace(plan, torrent=torrent, peers=offers[0].peers, on_lan=True)


def _is_commit(revision: str, meta: Metadata) -> bool:
    """Whether `revision` can only be the commit that the model came from: a short one is more likely a tag or branch (`3`, `beef`)."""
    return len(revision) >= SHORT_COMMIT and (meta.hf_revision or "").startswith(revision.lower())


def _is_at(meta: Metadata, path: str) -> bool:
    """Whether `path` in its repository is of this model; a name alone may be in several folders of it, as the hub will tell."""
    files = meta.each[:1] if is_projector(path) else meta.each
    return path in {file.hf_path or file.name for file in files}


def _pinned(listing: RepoListing, files: Sequence[RepoFile]) -> Plan:
    """The plan for these files, of which the first is opened to run it; TransferFailed without a SHA-256, UsageError of an empty one."""
    for file in files:
        if file.size == 0:  # no torrent can be made of it
            raise UsageError(f"{listing.repo}: {file.name} is empty")
        if file.sha256 is None:
            raise TransferFailed(
                f"{listing.repo} does not publish a SHA-256 for {file.name}", hint="only LFS files can be pinned"
            )
    sha256 = identity([FileRef(file.base, file.size, file.sha256 or "") for file in files])
    ref = ModelRef(sha256, files[0].base, sum(file.size for file in files), listing.repo, listing.commit)
    by_base = {file.base: Wanted(file.base, file.size, file.sha256, file.name) for file in files}
    several = tuple(by_base[name] for name in in_order(by_base)) if len(files) > 1 else ()
    return Plan(key=sha256, name=ref.file, ref=ref, repo_path=files[0].name, files=several)


def _is_public(url: str) -> bool:
    """Whether a web seed of a listed torrent is https and names nothing inside; where its name leads the dialer judges."""
    try:
        scheme, host, _ = check_link(url)
    except Refused:
        return False
    return scheme == "https" and reach_of_host(host) in (None, Reach.PUBLIC)


def _read_torrent(location: str) -> bytes:
    """A .torrent file; NotFound, UsageError, TransferFailed (too large)."""
    try:
        with open(location, "rb", opener=_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{location} is not a file", hint="give the path of a .torrent file")
            raw = file.read(metainfo.MAX_BYTES + 1)
    except OSError as exc:
        raise NotFound(f"cannot read {location}: {exc.strerror}") from None
    if len(raw) > metainfo.MAX_BYTES:
        raise TransferFailed(f"{Path(location).name} is too large for a .torrent", retryable=False)
    return raw


def _at_once(path: str, flags: int) -> int:
    """Opened so that a pipe without a writer is not waited for, by a thread that nothing can cancel."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _meant(name: str, offers: Sequence[Offer]) -> list[Offer]:
    """Those of the LAN that `name` means, as in the store: the id itself, else the beginning of it or of a hash. Nodes tell of more."""
    return (
        [offer for offer in offers if offer.model_id == name]
        or [offer for offer in offers if names_part_of(name, offer.model_id)]
        or [offer for offer in offers if is_hash_prefix(name) and _has_hash(offer, name)]
    )


def _has_hash(offer: Offer, digits: str) -> bool:
    known = (offer.sha256_prefix, offer.infohashes.v1, offer.infohashes.v2)
    return any(each is not None and (each.startswith(digits) or digits.startswith(each)) for each in known)


def _merge(offers: Sequence[Offer]) -> list[Offer]:
    """One offer per file, with the peers of all who have it; none without a SHA-256 to check what comes against."""
    by_file: dict[str, Offer] = {}
    for offer in filter(lambda offer: offer.sha256_prefix, offers):
        known = by_file.get(offer.sha256_prefix)
        if known is None:
            by_file[offer.sha256_prefix] = offer
        elif known.infohashes == offer.infohashes:
            peers = tuple(dict.fromkeys(known.peers + offer.peers))
            complete = known.complete or offer.complete
            by_file[offer.sha256_prefix] = msgspec.structs.replace(known, peers=peers, complete=complete)
    return list(by_file.values())
