"""Windows: a task of the Task Scheduler, the commands for each verb, and what `schtasks` answers. Pure.

Not a service of the SCM: that has to be a program which talks to the SCM, or it is ended after 30 s, and without further packages
Python cannot be one. The task runs our keeper, which knows the waits (the Task Scheduler's own begin at a minute) and the exit codes.
"""

from __future__ import annotations

import csv
import io
import subprocess
from xml.sax.saxutils import escape

from hali.service.description import Description
from hali.service.plan import Remove, Run, Step, Write
from hali.service.state import ServiceState, State
from hali.service.xml_words import sayable

_FOLDER = "\\hali\\"
_LOCAL_SERVICE = "S-1-5-19"  # the built-in account with the fewest rights that may use the network
_STATES: dict[str, State] = {"Running": "running", "Ready": "stopped", "Disabled": "stopped", "Queued": "starting"}
_NEVER_RAN, _RUNNING_NOW = 267011, 267009  # SCHED_S_TASK_HAS_NOT_RUN, SCHED_S_TASK_RUNNING


def task_name(name: str) -> str:
    r"""`\hali\halid`."""
    return _FOLDER + name


def task_path(name: str, home: str) -> str:
    """The description is kept beside the data, because `schtasks` reads it from a file."""
    return f"{home}\\{name}.xml"


def task(what: Description, user: str) -> str:
    """The XML of the task; `user` is who it belongs to, DOMAIN\\NAME. A system task starts with the machine, a user's at logon."""
    program, *arguments = map(sayable, what.kept_command)
    if what.scope == "system":
        trigger = "<BootTrigger><Enabled>true</Enabled></BootTrigger>"
        principal = f"<UserId>{_LOCAL_SERVICE}</UserId>"
    else:
        trigger = f"<LogonTrigger><Enabled>true</Enabled><UserId>{escape(user)}</UserId></LogonTrigger>"
        principal = f"<UserId>{escape(user)}</UserId><LogonType>InteractiveToken</LogonType>"
    # list2cmdline quotes as Microsoft's C runtime, and so Python, takes a command line apart.
    return _TASK.format(
        about=escape(what.target.about),
        trigger=trigger,
        principal=principal,
        program=escape(program),
        arguments=escape(subprocess.list2cmdline(arguments)),
    )


_TASK = """<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>{about}</Description></RegistrationInfo>
  <Triggers>{trigger}</Triggers>
  <Principals><Principal id="Author">{principal}<RunLevel>LeastPrivilege</RunLevel></Principal></Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
  </Settings>
  <Actions Context="Author"><Exec><Command>{program}</Command><Arguments>{arguments}</Arguments></Exec></Actions>
</Task>
"""


def install(what: Description, user: str) -> list[Step]:
    """Replace the task and start it."""
    name, path = task_name(what.target.unit), task_path(what.target.unit, what.home)
    return [
        Write(path, task(what, user), encoding="utf-16"),
        Run(("schtasks.exe", "/Create", "/F", "/TN", name, "/XML", path)),
        *control("restart", what.target.unit),
    ]


def uninstall(name: str, home: str) -> list[Step]:
    """Stop it and forget it; the data stays."""
    return [
        Run(("schtasks.exe", "/End", "/TN", task_name(name)), must=False),
        Run(("schtasks.exe", "/Delete", "/F", "/TN", task_name(name)), must=False),
        Remove(task_path(name, home)),
    ]


def control(verb: str, name: str) -> list[Step]:
    """`start`, `stop` or `restart`."""
    end = Run(("schtasks.exe", "/End", "/TN", task_name(name)), must=verb == "stop")
    run = Run(("schtasks.exe", "/Run", "/TN", task_name(name)))
    steps: dict[str, list[Step]] = {"start": [run], "stop": [end]}
    return steps.get(verb, [end, run])


def question(name: str) -> tuple[str, ...]:
    """The command that tells the state; it fails for a task that is not there."""
    return ("schtasks.exe", "/Query", "/TN", task_name(name), "/V", "/FO", "CSV", "/NH")


def understood(answer: str | None) -> ServiceState:
    """A line of CSV (HostName, TaskName, Next Run Time, Status, Logon Mode, Last Run Time, Last Result, …); None when it failed."""
    row = next(csv.reader(io.StringIO(answer)), []) if answer else []
    if len(row) < 7:
        return ServiceState("absent")
    code = int(row[6]) if row[6].lstrip("-").isdigit() else None
    if code in (_NEVER_RAN, _RUNNING_NOW):
        code = None
    state = _STATES.get(row[3], "stopped")
    if state == "stopped" and code:
        state = "failed"
    return ServiceState(state, enabled=row[3] != "Disabled", exit_code=code)
