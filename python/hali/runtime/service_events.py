"""What viewers hear of services: an event for each failure and each return, and that the list of services changed."""

from __future__ import annotations

from hali.runtime.activity import Activity
from hali.runtime.supervisor import Status


def tell_services(activity: Activity, before: Status, now: Status) -> None:
    """`now` followed `before` in the life of one service."""
    activity.changed("services")
    name, restarts = now.name, now.restarts
    if now.state == "backoff":
        text = f"{name} failed and is started again: {now.error}"
        activity.tell("service.failed", text, service=name, error=now.error, restarts=restarts)
    elif now.state == "failed":
        activity.tell(
            "service.given_up", f"{name} is given up: {now.error}", service=name, error=now.error, restarts=restarts
        )
    elif now.state == "ready" and before.state == "starting" and restarts:
        activity.tell("service.restored", f"{name} is back.", service=name, restarts=restarts)
