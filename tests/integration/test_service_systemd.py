"""`hali service` on a real systemd: the hardened unit runs the whole daemon, and systemd brings it back or lets it be, as it should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine import Machine, machine
from tests.nodes import until

HOME = "/var/lib/hali"
CONFIG = f"{HOME}/config.toml"
KEY = "hali-key-of-the-administrator"
USER = {"XDG_RUNTIME_DIR": "/run/user/0", "HOME": "/run/person"}


@pytest.fixture(scope="module")
def booted() -> Iterator[Machine]:
    with machine() as found:
        yield found


def show(booted: Machine, name: str) -> str:
    return booted.run("systemctl", "show", "--value", "-p", name, "halid").stdout.strip()


def state(booted: Machine) -> str:
    done = booted.run("systemctl", "show", "--value", "-p", "ActiveState", "-p", "SubState", "halid")
    return " ".join(done.stdout.split())


def get(booted: Machine, path: str, *headers: str) -> str:
    """HTTP status of a GET to the daemon's API."""
    url = booted.hali("daemon", "status", HALI_HOME=HOME)["http"] + path
    options = [word for header in headers for word in ("-H", header)]
    return booted.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *options, url).stdout


def test_a_system_service_lives_from_install_to_uninstall(booted: Machine) -> None:
    done = booted.hali("service", "install", "--system")
    assert (done["state"], done["enabled"], done["home"]) == ("running", True, HOME)
    seen = booted.hali("daemon", "status", HALI_HOME=HOME)
    assert seen["pid"] == int(show(booted, "MainPID"))
    assert {service["state"] for service in seen["services"]} == {"ready"}
    assert show(booted, "StatusText").endswith("services ready")  # told by the daemon itself

    again = booted.hali("service", "install", "--system")
    assert (again["state"], again["steps"][0]["text"]) == ("running", done["steps"][0]["text"])

    for verb in ("stop", "restart"):  # systemd would bring it back, or find the home taken
        error = booted.hali("daemon", verb, code=7, HALI_HOME=HOME)["error"]
        assert "`hali service stop`" in error["hint"]

    booted.run("kill", "-9", str(again["pid"]))
    until(lambda: show(booted, "NRestarts") == "1" and state(booted) == "active running", "it is back")
    back = booted.hali("service", "status", "--system")
    assert (back["running"], back["restarts"]) == (True, 1) and back["pid"] != again["pid"]

    assert booted.hali("service", "stop", "--system")["state"] == "stopped"
    assert booted.hali("service", "status", "--system", code=4)["enabled"] is True
    assert booted.hali("service", "start", "--system")["state"] == "running"

    gone = booted.hali("service", "uninstall", "--system")
    assert (gone["state"], gone["pid"]) == ("absent", None)
    assert booted.run("test", "-e", gone["file"]).returncode == 1
    assert booted.run("test", "-s", f"{HOME}/identity.key").returncode == 0, "its data stays"
    assert booted.hali("service", "uninstall", "--system")["state"] == "absent"
    assert booted.hali("service", "status", "--system", code=4)["installed"] is False


def test_settings_that_cannot_be_are_not_tried_again_and_once_mended_it_runs(booted: Machine) -> None:
    try:
        booted.hali("service", "install", "--system")
        # Root writes, and the service, which is somebody else, reads.
        booted.hali("config", "set", "api.require_key", "true", HALI_HOME=HOME)
        assert booted.hali("service", "restart", "--system")["state"] == "running"
        assert get(booted, "/v1/models") == "401"

        booted.run("bash", "-c", f"echo 'daemon_port = \"no\"' > {CONFIG}")
        refused = booted.hali("service", "restart", "--system", code=1)["error"]
        assert "`hali service logs --system`" in refused["hint"]
        found = booted.hali("service", "status", "--system", code=4)
        assert (found["state"], found["exit_code"], found["pid"]) == ("failed", 78, None)
        log = booted.run("bash", "-c", f"grep daemon.failed {HOME}/logs/hali.log").stdout.splitlines()
        assert [json.loads(line)["code"] for line in log] == ["config"]  # one try, and the log says why
        booted.run("rm", CONFIG)
        assert booted.hali("service", "restart", "--system")["state"] == "running"
    finally:
        booted.hali("service", "uninstall", "--system")


@pytest.mark.model
def test_under_its_restrictions_an_engine_answers_and_secrets_reach_the_daemon_alone(
    booted: Machine, smollm2: Path
) -> None:
    secret = f"rm -f {HOME}/api.key; mkdir -p /etc/hali && mount -t tmpfs tmpfs /etc/hali && (umask 077; echo {KEY} > /etc/hali/api_key)"
    assert booted.run("bash", "-c", secret).returncode == 0
    model = f"/opt/{smollm2.name}"
    booted.run("bash", "-c", f"cat > {model} && chmod 644 {model}", stdin=smollm2)
    try:
        done = booted.hali("service", "install", "--system", "--", "--api-require-key")
        assert "LoadCredential=api_key:/etc/hali/api_key" in done["steps"][0]["text"]
        assert get(booted, "/v1/models") == "401"
        assert get(booted, "/v1/models", f"Authorization: Bearer {KEY}") == "200"
        assert KEY not in booted.run("systemctl", "show", "halid").stdout
        assert KEY not in booted.run("bash", "-c", f"cat {done['file']} /proc/{done['pid']}/environ").stdout
        assert booted.run("test", "-e", f"{HOME}/api.key").returncode == 1, "none was made up"

        added = booted.hali("add", "--copy", model, HALI_HOME=HOME)
        loaded = booted.hali("load", added["model_id"], HALI_HOME=HOME)
        speed = booted.hali(
            "bench", added["model_id"], "--prompt", "8", "--generate", "4", "--repeat", "1", HALI_HOME=HOME
        )
        assert loaded and speed
        log = booted.run("grep", "engine.started", f"{HOME}/logs/hali.log").stdout
        assert json.loads(log.splitlines()[-1])["confinement"]["network"] == "none"  # engines can still leave it
    finally:
        booted.hali("service", "uninstall", "--system")
        booted.run("bash", "-c", "umount /etc/hali; rmdir /etc/hali")


def test_a_users_service_runs_with_that_users_data_and_tells_of_linger(booted: Machine) -> None:
    assert booted.run("systemctl", "start", "user-manager").returncode == 0, booted.told()
    try:
        done = booted.hali("service", "install", **USER)
        assert (done["scope"], done["state"], done["home"]) == ("user", "running", "/run/person/.hali")
        assert booted.hali("daemon", "status", **USER)["home"] == "/run/person/.hali"
        assert done["linger"] is None  # there is no logind on this machine
        assert booted.hali("service", "uninstall", **USER)["state"] == "absent"
    finally:
        booted.run("systemctl", "stop", "user-manager")
