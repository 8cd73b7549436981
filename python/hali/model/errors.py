"""One tree of errors, grouped by what the caller can do about them, and the exit codes they end in."""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping, Sequence
from typing import Any


class ExitCode(enum.IntEnum):
    """What the `hali` process tells its caller; stable across versions."""

    OK = 0
    FAILED = 1
    USAGE = 2  # also: ambiguous
    NOT_FOUND = 3
    NOT_RUNNING = 4
    VERIFICATION = 5
    NO_SPACE = 6
    REFUSED = 7
    CONFIG = 78  # sysexits EX_CONFIG: a service manager must not restart us
    INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class HaliError(Exception):
    """What failed, on what (`str(error)`, one line), and what to do (`hint`).

    `code` is the wire name of the error (IPC, HTTP, frames); `retryable` tells a peer that the same request may work later.
    """

    exit_code: ExitCode = ExitCode.FAILED
    code: str = "failed"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: str | None = None,
        retryable: bool | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details: dict[str, Any] = dict(details or {})
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable

    def to_wire(self) -> dict[str, Any]:
        """The error as IPC, HTTP and frames carry it."""
        wire: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "exit_code": int(self.exit_code),
        }
        if self.hint:
            wire["hint"] = self.hint
        if self.details:
            wire["details"] = self.details
        return wire


class UsageError(HaliError):
    """The command, argument or request is wrong as written."""

    exit_code = ExitCode.USAGE
    code = "usage"


class AmbiguousName(UsageError):
    """A name fits several files; `choices` lists what to choose from."""

    code = "ambiguous"

    def __init__(self, message: str, *, choices: Sequence[str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint, details={"choices": list(choices)})
        self.choices = list(choices)


class ConfigError(HaliError):
    """The configuration cannot be used; the message names file, key and reason."""

    exit_code = ExitCode.CONFIG
    code = "config"


class NotFound(HaliError):
    """Nothing of that name is known here or where it was looked for."""

    exit_code = ExitCode.NOT_FOUND
    code = "not_found"


class NotRunning(HaliError):
    """The daemon does not run, or what answers at its address is not our daemon."""

    exit_code = ExitCode.NOT_RUNNING
    code = "not_running"


class VerificationFailed(HaliError):
    """Bytes differ from what was promised; `details` may name pieces."""

    exit_code = ExitCode.VERIFICATION
    code = "verification"


class NoSpace(HaliError):
    """The disk is, or would become, full."""

    exit_code = ExitCode.NO_SPACE
    code = "no_space"


class Refused(HaliError):
    """We or the other side will not do this (permission, token, policy)."""

    exit_code = ExitCode.REFUSED
    code = "refused"


class Unreachable(Refused):
    """No chain of the known nodes can run the model; `details['layers']` and `['units']` say what nobody could take."""

    code = "unreachable"
    retryable = True


class Cancelled(HaliError):
    """The user or the client stopped it; what was verified is kept."""

    exit_code = ExitCode.INTERRUPTED
    code = "cancelled"


class Failed(HaliError):
    """Everything else that went wrong while doing what was asked."""


class StoreDamaged(Failed):
    """A record of one model cannot be read; the others are unharmed."""

    code = "store_damaged"


class TransferFailed(Failed):
    """No source could deliver the bytes; `details['tried']` says which and why."""

    code = "transfer"
    retryable = True


class PortInUse(Failed):
    """A port belongs to another program. Of one that somebody chose (`chosen`) no restart finds a better one."""

    code = "port_in_use"

    def __init__(self, message: str, *, chosen: bool = False, **more: Any) -> None:
        super().__init__(message, **more)
        if chosen:
            self.exit_code = ExitCode.CONFIG


class ProtocolError(Failed):
    """The other side broke the protocol."""

    code = "protocol"


class Overloaded(Failed):
    """Queue or limit reached; try again later (`details['retry_after_s']`)."""

    code = "overloaded"
    retryable = True


class EngineFailed(Failed):
    """The engine could not answer this request."""

    code = "engine"


class EngineUnavailable(EngineFailed):
    """llama.cpp is not installed here (the `inference` extra is missing)."""

    code = "engine_unavailable"


class EngineCrashed(EngineFailed):
    """The engine process ended during the request; the next request gets a new one."""

    code = "engine_crashed"
    retryable = True


class ModelLoadFailed(EngineFailed):
    """llama.cpp refused the file; the message carries its own words."""

    code = "model_load"


def _all_errors(base: type[HaliError]) -> dict[str, type[HaliError]]:
    found = {base.code: base}
    for child in base.__subclasses__():
        found.update(_all_errors(child))
    return found


# A finer code than its class has (`context_length` of UsageError) still ends in the exit code of its class.
_BY_EXIT_CODE: dict[object, type[HaliError]] = {
    int(kind.exit_code): kind
    for kind in (UsageError, NotFound, NotRunning, VerificationFailed, NoSpace, Refused, ConfigError, Cancelled)
}


def from_wire(wire: Mapping[str, Any]) -> HaliError:
    """The error that `HaliError.to_wire` described; an unknown code keeps its code and the class of its exit code."""
    by_exit_code = _BY_EXIT_CODE.get(wire.get("exit_code"), Failed)
    kind = _all_errors(HaliError).get(str(wire.get("code")), by_exit_code)
    message, hint = str(wire.get("message", "unknown error")), wire.get("hint")
    details = dict(wire.get("details") or {})
    if kind is AmbiguousName:
        return AmbiguousName(message, choices=details.get("choices", []), hint=hint)
    error = kind(message, hint=hint, details=details, retryable=bool(wire.get("retryable", kind.retryable)))
    error.code = str(wire.get("code", kind.code))
    if wire.get("exit_code") == ExitCode.CONFIG:  # also of errors whose class does not say so
        error.exit_code = ExitCode.CONFIG
    return error


def system_error(error: OSError) -> HaliError:
    """What the operating system refused, as one of ours."""
    what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(what, hint="free some space and run the same command again")
    if error.errno == errno.EROFS:
        return Refused(what, hint="it is mounted for reading only; HALI_HOME names another data directory")
    if isinstance(error, PermissionError):
        return Refused(what, hint="run it as the account that it belongs to, or set HALI_HOME to a folder of yours")
    return Failed(what)
