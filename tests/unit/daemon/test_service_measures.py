"""What /metrics tells of services and of the channels between them."""

from __future__ import annotations

from hali.daemon.measures import _channels, _services
from hali.runtime.channels import Bus, mailbox
from hali.runtime.supervisor import Status


def test_a_service_is_up_only_while_it_is_ready_and_its_restarts_are_counted() -> None:
    up, restarts = _services(
        [Status("A", "ready", True, 2), Status("B", "backoff", False, 1), Status("C", "failed", False)]
    )
    assert (up.name, up.value, up.label) == ("hali_service_up", {"A": 1.0, "B": 0.0, "C": 0.0}, "service")
    assert (restarts.name, restarts.value, restarts.kind) == (
        "hali_service_restarts",
        {"A": 2, "B": 1, "C": 0},
        "counter",
    )


def test_channels_tell_what_waits_in_them_and_what_found_no_room() -> None:
    sender, receiver = mailbox("jobs", 1)
    sender.offer("one")
    bus: Bus[int] = Bus(capacity=1)
    with bus.subscribe():
        bus.publish(1)
        bus.publish(2)
        depth, dropped = _channels({"jobs": sender, "activity": bus})
    assert (depth.name, depth.value) == ("hali_channel_depth", {"jobs": 1, "activity": 1})
    assert (dropped.name, dropped.value) == ("hali_channel_dropped", {"jobs": 0, "activity": 1})
    sender.close()
    receiver.close()
