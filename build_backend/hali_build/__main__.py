"""By hand, with build_backend in PYTHONPATH: `python -m hali_build cython` compiles the Cython modules in place, while
working on them, and `python -m hali_build cython FOLDER ARGUMENT...` into another folder with more compiler arguments;
`python -m hali_build check WHEEL [SOURCE_TREE]` says what is wrong with a wheel."""

from __future__ import annotations

import sys
from pathlib import Path

from . import NATIVE, ROOT, extensions, wheel_check


def main(arguments: list[str]) -> None:
    """Run one of the commands."""
    match arguments:
        case ["cython"]:
            extensions.build(ROOT, ROOT / NATIVE)
        case ["cython", folder, *arguments_for_the_compiler]:
            extensions.build(ROOT, Path(folder), arguments_for_the_compiler)
        case ["check", wheel, *tree]:
            wheel_check.check(Path(wheel), Path(tree[0]) if tree else ROOT)
            print(f"{wheel}: right")
        case _:
            raise SystemExit(__doc__)


main(sys.argv[1:])
