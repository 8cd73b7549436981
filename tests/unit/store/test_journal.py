"""The journal: what a restart may believe, and what it must not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.model.digests import PieceDigests
from hali.model.units import PIECE
from hali.store import journal as module
from hali.store.journal import Journal

LENGTH = 5 * PIECE + 7


def digests(n: int) -> PieceDigests:
    return PieceDigests(bytes([n]) * 20, bytes([n + 1]) * 32, bytes([n + 2]) * 32)


def filled(path: Path) -> Journal:
    journal = Journal.open(path, LENGTH, sha256="ab")
    journal.record_piece(0, digests(0), b"m" * 40)
    journal.record_piece(4, digests(4))
    journal.record_torrent_piece(9)
    return journal


def test_what_was_recorded_is_there_after_a_reopen(tmp_path: Path) -> None:
    filled(tmp_path / "j").close()
    again = Journal.open(tmp_path / "j", LENGTH, sha256="ab")
    assert again.pieces == {0: digests(0), 4: digests(4)}
    assert again.torrent_pieces == {9}
    assert again.midstate == b"m" * 40
    assert again.same_boot
    again.close()


@pytest.mark.parametrize("change", [{"length": LENGTH + 1}, {"sha256": "cd"}, {"tag": "other"}])
def test_a_journal_of_another_file_is_not_believed(tmp_path: Path, change: dict[str, object]) -> None:
    filled(tmp_path / "j").close()
    arguments = {"length": LENGTH, "sha256": "ab"} | change
    again = Journal.open(tmp_path / "j", **arguments)  # type: ignore[arg-type]
    assert again.pieces == {}
    again.close()


def test_a_torn_tail_costs_only_the_torn_record(tmp_path: Path) -> None:
    path = tmp_path / "j"
    filled(path).close()
    whole = path.read_bytes()
    record = module._RECORD.size
    first = len(whole) - 4 * record  # four records: piece, midstate, piece, torrent piece
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        again = Journal.open(path, LENGTH, sha256="ab")
        kept = (cut - first) // record
        assert len(again.pieces) == (0, 1, 1, 2)[kept]
        again.close()


def test_a_flipped_bit_ends_the_journal_there(tmp_path: Path) -> None:
    path = tmp_path / "j"
    filled(path).close()
    data = bytearray(path.read_bytes())
    data[-1 - 3 * module._RECORD.size - 30] ^= 1  # inside the first record
    path.write_bytes(data)
    again = Journal.open(path, LENGTH, sha256="ab")
    assert (again.pieces, again.torrent_pieces, again.midstate) == ({}, set(), None)
    again.close()


@pytest.mark.parametrize("content", [b"", b"x", module.MAGIC, module.MAGIC + b"\xff\xff\xff\xff{}", b"\0" * 4096])
def test_garbage_is_replaced_by_a_new_journal(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    again = Journal.open(tmp_path / "j", LENGTH)
    assert again.pieces == {}
    again.record_piece(1, digests(1))
    again.close()
    assert set(Journal.open(tmp_path / "j", LENGTH).pieces) == {1}


def test_after_another_boot_the_records_are_only_hints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "j").close()
    monkeypatch.setattr(module, "boot_id", lambda: "the next boot")
    again = Journal.open(tmp_path / "j", LENGTH, sha256="ab")
    assert not again.same_boot
    assert set(again.pieces) == {0, 4}
    again.close()


def test_hints_of_another_boot_stay_hints_until_they_are_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "j").close()
    monkeypatch.setattr(module, "boot_id", lambda: "the next boot")
    for _ in range(2):  # killed before it could read the pieces: the next start must not believe them either
        again = Journal.open(tmp_path / "j", LENGTH, sha256="ab")
        assert not again.same_boot
        again.close()
    again = Journal.open(tmp_path / "j", LENGTH, sha256="ab")
    again.forget_piece(4)
    again.confirm({7})
    again.close()
    last = Journal.open(tmp_path / "j", LENGTH, sha256="ab")
    assert last.same_boot
    assert (set(last.pieces), last.torrent_pieces) == ({0}, {7})
    last.close()


def test_a_piece_outside_the_file_is_ignored(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "j", LENGTH)
    journal.record_piece(6, digests(6))
    journal.close()
    assert Journal.open(tmp_path / "j", LENGTH).pieces == {}


def test_a_forgotten_piece_stays_forgotten(tmp_path: Path) -> None:
    journal = filled(tmp_path / "j")
    journal.forget_piece(0)
    journal.record_piece(1, digests(1))
    journal.close()
    again = Journal.open(tmp_path / "j", LENGTH, sha256="ab")
    assert set(again.pieces) == {1, 4}
    assert again.midstate is None
    again.close()
