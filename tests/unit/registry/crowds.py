"""Publishers who try to hide a model behind many others, on either database."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hali.registry import records
from hali.registry.documents import FileEntry, Manifest
from hali.registry.reading import CANDIDATES
from hali.registry.signing import unseal
from hali.registry.storage import Storage
from tests.unit.registry.conftest import NOW, Author

MANY = CANDIDATES + 5
Crowd = Callable[[], Iterable[bytes]]


def worthless() -> Iterable[bytes]:
    """Names that hold the words, and nothing behind them; some are the very name."""
    mallory = Author(255)
    for number in range(MANY):
        yield mallory.claim(number, f"tiny-{number}:1m:base:q4_k_m")
        yield mallory.claim(MANY + number, "tiny:1m:base:q4_k_m")


def from_many_keys() -> Iterable[bytes]:
    """Three each of 250 keys."""
    for author in (Author(number) for number in range(5, 255)):
        for number in range(3):
            yield author.claim(number, f"tiny:1m:base-{number}:q4_k_m")


def of_one_file(sha256: str) -> Iterable[bytes]:
    """Torrents that claim to hold it, three each of 250 keys."""
    file = FileEntry(name="x.gguf", size=5, sha256=sha256, blake3=sha256)
    for author in (Author(number) for number in range(5, 255)):
        for number in range(3):
            yield author.claim(number, "other:1m:base:q4_k_m", files=[file])


CROWDS: tuple[Crowd, ...] = (worthless, from_many_keys)


def gather(storage: Storage, crowd: Crowd, *, sound: bool) -> None:
    """Publish them all, two days after the first day of the tests; when `sound`, as if each had come with a good torrent."""
    sql = "UPDATE entry SET torrent = 1, layers = 1, header = 1 WHERE infohash = ?"
    with storage.transaction() as db:
        for envelope in crowd():
            manifest = unseal(envelope, Manifest)
            records.publish(db, manifest, envelope, NOW + 2 * 86_400)
            if sound:
                db.run(sql, manifest.infohash_v2)
