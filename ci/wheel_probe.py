"""Run by ci/wheel_smoke inside a fresh environment: every compiled module is the installed one and answers right."""

from __future__ import annotations

import sys
import sysconfig
from array import array
from pathlib import Path

from hali._native import frames, ggufcheck, hashcore, planning, scoring


def check_place(suffix: str) -> None:
    """The modules come from site-packages and are named for exactly this interpreter."""
    folder = Path(sysconfig.get_path("platlib")) / "hali" / "_native"
    for module in (frames, ggufcheck, hashcore, planning, scoring):
        assert module.__file__ is not None
        expected = folder / (module.__name__.rpartition(".")[2] + suffix)
        assert Path(module.__file__).resolve() == expected.resolve(), f"{module.__file__} is not {expected}"


def check_hashcore() -> None:
    """The digests of "abc", from FIPS 180 and the BLAKE3 test vectors; and a build with optimisation."""
    assert [digest.hex() for digest in hashcore.hash_piece(b"abc", 0, 3)] == [
        "a9993e364706816aba3e25717850c26c9cd0d89d",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
    ]
    assert hashcore.build_profile() == "release", hashcore.build_profile()


def check_ggufcheck() -> None:
    """This very script is no GGUF file."""
    told = None
    try:
        ggufcheck.check([__file__])
    except ggufcheck.Refused as error:
        told = error.args
    assert told == ("magic", "not a GGUF file", 0), told


def check_frames() -> None:
    """A frame of 1.0 in bf16, byte by byte at its ends, and back."""
    frame = frames.encode(
        frames.FORWARD, session=bytes(16), positions=[7], cols=1, dtype=frames.BF16, payload=array("f", [1.0])
    )
    assert frame[:8] == b"HLF1\x01\x01\x01\x00", frame[:8]
    assert len(frame) == 130, len(frame)
    assert frame[128:] == b"\x80\x3f", frame[128:]
    assert list(frames.decode(frame).to_f32()) == [1.0]


def check_scoring() -> None:
    """3 holders × 20 (none near) × 100 (configured) × 0.5 (size unknown) × 0.75 (a quarter is here) = 2,250."""
    out = array("d", [0.0])
    columns = [array("d", [value]) for value in (3.0, 0.0, 0.0, 0.0, 0.25, 0.0)]
    scoring.score_candidates(*columns, bytes([scoring.CONFIGURED]), out, region_minimum=2.0, pool_bytes=1e9)
    assert out[0] == 2250.0, out[0]
    assert scoring.top_k(out, 1) == [0]
    # 4 holders / 2 wanted + 1 (twice as many as wanted) + 1 (cold) + 0.5 × 0.5 (pressure) = 4.25
    columns = [array("d", [value]) for value in (4.0, 2.0, 2.0, 0.0, 60.0, 60.0, 0.0)]
    scoring.prune_scores(*columns, array("H", [scoring.COLD]), out, pressure=0.5)
    assert out[0] == 4.25, out[0]


def check_planning() -> None:
    """Two nodes with one layer each, 3 and 4 ns; entering, leaving and the path between them 1 ns each: 10 ns."""
    prices = memoryview(array("q", [3, 4, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])).cast("B").cast("q", (6, 2))
    path = memoryview(array("q", [1])).cast("B").cast("q", (1, 1))
    nodes, starts, ends, region, most = (array("i", pair) for pair in ([0, 1], [0, 1], [1, 2], [0, 0], [2, 2]))
    found = planning.cheapest_chain(nodes, starts, ends, region, prices, path, most, layers=2, most_stages=2)
    assert found == (10, [(0, 0, 1), (1, 1, 2)]), found


if __name__ == "__main__":
    check_place(sys.argv[1])
    check_hashcore()
    check_ggufcheck()
    check_frames()
    check_scoring()
    check_planning()
    print(f"   Python {sys.version.split()[0]}: 5 modules, {sys.argv[1]}, known answers right ({hashcore.backend()})")
