"""A daemon whose threads are really stopped, or whose disk really hangs, does not feed the watchdog."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, stop
from tests.kit.manager import Manager, managed, manager
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

WATCHDOG_SECONDS = 6


def is_starved(systemd: Manager) -> bool:
    """Whether the watchdog gets nothing for as long as it waits."""
    fed = len(systemd.messages("WATCHDOG"))
    time.sleep(WATCHDOG_SECONDS)
    return len(systemd.messages("WATCHDOG")) == fed


@pytest.mark.needs("root")
def test_76_stalled_threads_are_named_and_stop_the_watchdog(clinic: Clinic) -> None:
    with (
        manager() as systemd,
        managed(clinic, systemd, watchdog_seconds=WATCHDOG_SECONDS) as daemon,
    ):
        systemd.wait_for("WATCHDOG")
        command = [sys.executable, "-m", "tests.faults.freeze", str(daemon.pid)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as freezer:
            try:
                assert freezer.stdout is not None
                assert freezer.stdout.readline() == "frozen\n"
                wait_for("it is noticed", lambda: len(clinic.events("stalled")) == 2, seconds=40)
                assert {event["part"] for event in clinic.events("stalled")} == {"inbox", "journal"}
                assert is_starved(systemd)
            finally:
                freezer.kill()
        wait_for("it gets on", lambda: len(clinic.events("stall_resolved")) == 2)
        systemd.wait_for("WATCHDOG", count=len(systemd.messages("WATCHDOG")) + 1)
        write_wav(clinic.inbox / "smith.wav")
        wait_for("a recording goes through", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0


@pytest.mark.needs("root", "strace")
def test_76_a_hanging_disk_is_named_until_it_recovers(clinic: Clinic, api: Sandbox) -> None:
    with (
        manager() as systemd,
        managed(clinic, systemd, watchdog_seconds=WATCHDOG_SECONDS) as daemon,
    ):
        systemd.wait_for("WATCHDOG")
        hang = ["-e", "trace=fsync", "-e", "inject=fsync:delay_enter=600000000"]
        command = ["strace", "-f", "-p", str(daemon.pid), *hang]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            try:
                assert strace.stderr is not None
                assert "attached" in strace.stderr.readline()
                write_wav(clinic.inbox / "smith.wav")  # its claim is one rename and the folders' fsync
                wait_for("it is noticed", lambda: bool(clinic.events("stalled")), seconds=40)
                event = clinic.events("stalled")[0]
                assert (event["part"], event["where"].partition("/")[0]) == ("inbox", "files")
                assert is_starved(systemd)
            finally:
                daemon.kill()
                strace.kill()
        daemon.wait()
    with managed(clinic, systemd) as daemon:
        wait_for("it goes on", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert stop(daemon) == 0
    assert api.stats()["uploads"] == 1
