"""What a wheel must hold and be called; used by the build on each wheel and by ci/wheel_smoke."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import sys
import sysconfig
import zipfile
from pathlib import Path

from . import extensions, sources

_GENERATED = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


class WheelError(SystemExit):
    """A wheel that must not leave the build."""


def interpreter_tag() -> str:
    """cpXY-cpXY[t], as in the file name of a wheel for exactly the running interpreter."""
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    threads = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    return f"{version}-{version}{threads}"


def platform_tag() -> str:
    return re.sub(r"[-.]", "_", sysconfig.get_platform())


def check(wheel: Path, root: Path) -> None:
    """Raise WheelError unless the wheel is named and filled exactly as root and this interpreter demand."""
    problems = [*_name_problems(wheel), *_content_problems(wheel, root), *_record_problems(wheel)]
    if problems:
        raise WheelError(f"hali: {wheel.name} is not a wheel to install:\n  " + "\n  ".join(problems))


def _name_problems(wheel: Path) -> list[str]:
    match = re.fullmatch(r"hali-[^-]+-(cp\d+-cp\d+t?)-(.+)\.whl", wheel.name)
    if not match:
        return ["its name is not hali-VERSION-PYTHON-ABI-PLATFORM.whl"]
    problems = []
    if match[1] != interpreter_tag():
        problems.append(f"tagged {match[1]}, built by {interpreter_tag()}")
    # macOS tags name the deployment target, which cargo and the interpreter may see differently
    if sys.platform == "linux" and match[2] != platform_tag():
        problems.append(f"tagged {match[2]}, this platform is {platform_tag()}")
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if name.endswith(".dist-info/WHEEL")]
        tags = re.findall(r"^Tag: (.+)$", archive.read(inside[0]).decode(), re.MULTILINE) if inside else []
    if tags != [f"{match[1]}-{match[2]}"]:
        problems.append(f"its WHEEL file says {tags}")
    return problems


def expected(root: Path) -> set[str]:
    """Package files of the source tree and one compiled file for each native module."""
    package = {path.relative_to("python").as_posix() for path in sources.listed(root) if path.parts[0] == "python"}
    return package | {f"hali/_native/{name}" for name in extensions.filenames()}


def _content_problems(wheel: Path, root: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        different = [
            name
            for name in names
            if (root / "python" / name).is_file() and (root / "python" / name).read_bytes() != archive.read(name)
            and not name.endswith(extensions.SUFFIX)
        ]  # fmt: skip
    held = {name for name in names if ".dist-info/" not in name}
    info = {name.split(".dist-info/", 1)[1] for name in names if ".dist-info/" in name}
    info = {name for name in info if not re.fullmatch(r"sboms/[^/]+\.cyclonedx\.json", name)}
    return [
        *(f"holds {name}, which no source file explains" for name in sorted(held - expected(root))),
        *(f"lacks {name}" for name in sorted(expected(root) - held)),
        *(f"holds an older {name}" for name in different),
        *(f"holds {name} twice" for name in sorted({name for name in names if names.count(name) > 1})),
        *(f"dist-info differs in {name}" for name in sorted(info ^ _GENERATED)),
    ]


def _record_problems(wheel: Path) -> list[str]:
    """RECORD lists every file with its hash; installers do not check it, so this does."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        record = next((name for name in names if name.endswith(".dist-info/RECORD")), None)
        if record is None:
            return ["has no RECORD"]
        rows = {row[0]: row[1] for row in csv.reader(io.StringIO(archive.read(record).decode()))}
        damaged = [name for name in names & rows.keys() - {record} if rows[name] != _digest(archive.read(name))]
    return [
        *(f"RECORD does not list {name}" for name in sorted(names - rows.keys())),
        *(f"RECORD lists {name}, which is not there" for name in sorted(rows.keys() - names)),
        *(f"{name} is not the file that RECORD describes" for name in sorted(damaged)),
    ]


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
