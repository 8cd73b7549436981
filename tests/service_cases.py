"""Services whose descriptions for each manager are kept as files in tests/vectors/service; `python -m tests.service_cases` renews them."""

from __future__ import annotations

from pathlib import Path

from hali.service import launchd, windows
from hali.service.description import Credential, Description, Scope
from hali.service.systemd_unit import unit
from hali.service.targets import TARGETS

FOLDER = Path(__file__).parent / "vectors" / "service"
OLD, NEW = 252, 255  # before and after RestartSteps=


def described(target: str, scope: Scope, home: str, **more: object) -> Description:
    """A service of a program in /opt."""
    python = r"C:\Program Files\hali\python.exe" if "\\" in home else "/opt/hali/bin/python"
    return Description(TARGETS[target], scope, python, home, **more)  # type: ignore[arg-type]


USER = described("daemon", "user", "/home/ann/my models/100% “ready”", arguments=("--torrent-port", "51413"))
SYSTEM = described("daemon", "system", "/var/lib/hali")
WHOLE = described(
    "daemon",
    "system",
    "/var/lib/hali",
    account="hali",
    credentials=(Credential("hf_token", "/etc/hali/hf_token"), Credential("api_key", "/etc/hali/api_key")),
    devices=("/dev/dri/renderD128", "/dev/nvidia0"),
    writable=("/srv/big models",),
)
REGISTRY = described("registry", "system", "/var/lib/hali-registry", arguments=("--listen", "0.0.0.0:47440"))
AGENT = described("daemon", "user", "/Users/ann/.hali")
BOOT = described("registry", "system", "/usr/local/var/hali-registry", account="_hali")
WINDOWS = described("daemon", "user", r"C:\Users\Ann & Bob\.hali", arguments=("--models-dir", "D:\\my models\\"))


def files() -> dict[str, str]:
    """Name of a file → its text."""
    return {
        "daemon-user.service": unit(USER, NEW),
        "daemon-system.service": unit(SYSTEM, NEW),
        "daemon-system-old.service": unit(SYSTEM, OLD),
        "daemon-system-whole.service": unit(WHOLE, NEW),
        "registry-system.service": unit(REGISTRY, NEW),
        "daemon-agent.plist": launchd.plist(AGENT),
        "registry-daemon.plist": launchd.plist(BOOT),
        "daemon-user.xml": windows.task(WINDOWS, "DESK\\ann"),
        "daemon-system.xml": windows.task(described("daemon", "system", r"C:\ProgramData\hali"), "DESK\\ann"),
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
