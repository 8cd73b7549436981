"""What can be run as a service: one row each."""

from __future__ import annotations

import msgspec

from hali.model.errors import UsageError


class Target(msgspec.Struct, frozen=True):
    """One program that serves until it is stopped."""

    name: str
    about: str
    unit: str  # name of the service, without ending
    arguments: tuple[str, ...]  # after `python -P`; those of a person follow
    log: str  # its file in the folder of logs; one writer each
    state: str  # folder in /var/lib of the system service
    watchdog_s: int = 0  # silence after which systemd ends it; 0 = it is not watched
    stop_s: int = 60  # longer than its own orderly end takes


TARGETS = {
    target.name: target
    for target in (
        Target(
            "daemon",
            "hali: shares GGUF models and runs them",
            "halid",
            ("-m", "hali.daemon.main", "--service"),
            "hali.log",
            "hali",
            watchdog_s=60,  # above the 30 s that a service inside may wait before it is tried again
            stop_s=60,  # the daemon gives up by itself after 40 s; open replies have 10 s of them
        ),
        Target(
            "registry",
            "hali registry: signed lists of models",
            "hali-registry",
            ("-m", "hali.cli", "registry", "serve", "--service"),
            "registry.log",
            "hali-registry",
        ),
    )
}


def find_target(name: str) -> Target:
    """The target of that name; UsageError that lists what there is."""
    if (target := TARGETS.get(name)) is None:
        raise UsageError(f"no service {name!r}", hint=f"there is {' and '.join(TARGETS)}")
    return target
