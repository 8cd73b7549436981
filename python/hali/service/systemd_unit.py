"""The unit files. Each setting that is not obvious says why; systemd.service(5) and systemd.exec(5) have the words."""

from __future__ import annotations

from collections.abc import Iterator

from hali.runtime.processes import FILES
from hali.service.description import FINAL, RESTART_S, Description
from hali.service.systemd_words import plain, quoted

STEPS_SINCE = 254  # RestartSteps= and RestartMaxDelaySec=
# Older versions wait 5 s each time; so that a daemon which cannot start does not try forever, they give up after this many.
BURST, BURST_S = 20, 300
NEVER = 0
DEVICE_GROUPS = ("video", "render")


def unit(what: Description, version: int) -> str:
    """The text of the service for this version of systemd."""
    sections = {"Unit": _unit(what, version), "Service": _service(what, version), "Install": _install(what)}
    return "\n".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())


def _unit(what: Description, version: int) -> Iterator[str]:
    yield f"Description={what.target.about}"
    if what.scope == "system":
        yield "Wants=network-online.target"
        yield "After=network-online.target"
    yield f"StartLimitIntervalSec={NEVER if version >= STEPS_SINCE else BURST_S}"
    if version < STEPS_SINCE:
        yield f"StartLimitBurst={BURST}"


def _install(what: Description) -> Iterator[str]:
    yield f"WantedBy={'multi-user' if what.scope == 'system' else 'default'}.target"


def _service(what: Description, version: int) -> Iterator[str]:
    yield "Type=notify"
    yield "NotifyAccess=main"
    # `:` keeps systemd from replacing $variables in what follows.
    yield f"ExecStart=:{' '.join(map(quoted, what.command))}"
    yield f"Environment={quoted(f'HALI_HOME={what.home}')}"
    yield from _restart(version)
    if what.target.watchdog_s:
        yield f"WatchdogSec={what.target.watchdog_s}"
    yield "TimeoutStartSec=300"  # a model that is loaded first, from a cold disk
    yield f"TimeoutStopSec={what.target.stop_s}"
    # Only the daemon is told to stop: it lets its engines finish the replies that it drains.
    yield "KillMode=mixed"
    # An engine that the kernel took for want of memory is the daemon's to start again.
    yield "OOMPolicy=continue"
    yield f"LimitNOFILE={FILES}"
    yield "UMask=0077"
    yield from (f"LoadCredential={secret.name}:{plain(secret.path)}" for secret in what.credentials)
    yield from _SHARED
    if what.scope == "system":
        yield from _account(what)
        yield from _SYSTEM
        yield from _devices(what)


def _restart(version: int) -> Iterator[str]:
    first, _, last = RESTART_S
    yield "Restart=always"
    yield f"RestartSec={first}"
    if version >= STEPS_SINCE:
        # systemd grows the wait by a constant factor: 5, 17, 60 s.
        yield f"RestartSteps={len(RESTART_S) - 1}"
        yield f"RestartMaxDelaySec={last}"
    yield f"RestartPreventExitStatus={' '.join(str(int(code)) for code in FINAL)}"


def _account(what: Description) -> Iterator[str]:
    if what.account:
        yield f"User={what.account}"
    else:
        # Made up for as long as the service runs: there is no account to create, and none is left behind.
        yield "DynamicUser=yes"
    yield f"StateDirectory={what.target.state}"
    yield "StateDirectoryMode=0700"
    yield "WorkingDirectory=%S/" + what.target.state
    if what.writable:
        # `-`: one that is missing is for the daemon to tell, whose words are clearer than systemd's.
        yield f"ReadWritePaths={' '.join(quoted(f'-{path}') for path in what.writable)}"


def _devices(what: Description) -> Iterator[str]:
    if not what.devices:
        yield "PrivateDevices=yes"
        # Nothing here makes machine code at run time; GPU drivers do.
        yield "MemoryDenyWriteExecute=yes"
        return
    yield "DevicePolicy=closed"
    yield from (f"DeviceAllow={quoted(device)} rw" for device in what.devices)
    yield f"SupplementaryGroups={' '.join(DEVICE_GROUPS)}"


# What user managers can do without privileges.
_SHARED = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    # Netlink tells of network interfaces, Unix sockets lead to the engines.
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    # Engines leave the network, for which they need these two.
    "RestrictNamespaces=user net",
)
_SYSTEM = (
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "KeyringMode=private",
    "PrivateTmp=yes",
    "PrivateUsers=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RemoveIPC=yes",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    "SystemCallErrorNumber=EPERM",
)
