"""What a service manager hears: ready, status, stopping, and a watchdog fed only while everything gets on."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import InvoxError
from invox_watcher.heartbeat import Heartbeat, StallDetector
from invox_watcher.host.systemd import Notifier
from invox_watcher.inbox.inbox import Inbox
from invox_watcher.inbox.screening import Candidate, ScreeningRules
from invox_watcher.inbox.stability import Waits
from invox_watcher.job import Job, State
from invox_watcher.processing.lanes import Clock, LocalLane
from invox_watcher.recording import FileIdentity
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.times import utc_now
from tests.kit.clinic import Clinic, locked_journal, sandbox, stop
from tests.kit.daemon_server import problems
from tests.kit.logged import captured
from tests.kit.manager import managed, manager
from tests.kit.processes import descriptors
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import status_of, wait_for

NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens
WATCHDOG_SECONDS = 6


# ---- ready, status, stopping -------------------------------------------------------------------------------


@pytest.mark.parametrize("in_a_file", [True, False])
def test_ready_once_it_watches_and_stopping_in_the_end(clinic: Clinic, *, in_a_file: bool) -> None:
    with manager(in_a_file=in_a_file) as systemd, managed(clinic, systemd) as daemon:
        systemd.wait_for("READY")
        assert len(clinic.events("watching")) == 1
        assert not systemd.messages("STOPPING")
        assert not systemd.messages("WATCHDOG"), "nobody asked for it"
        assert stop(daemon) == 0
        assert systemd.messages("STOPPING")
        assert len(systemd.messages("READY")) == 1


def test_not_ready_before_the_watch_is_set_up(clinic: Clinic) -> None:
    for number in range(3000):  # each is watched on its own, which takes a moment
        (clinic.inbox / f"ward{number}").mkdir()
    with manager() as systemd, clinic.log.open("ab") as log:
        environ = os.environ | {"NOTIFY_SOCKET": systemd.address}
        daemon = subprocess.Popen(clinic.command("run"), stderr=log, env=environ)
        try:
            wait_for("it is started", lambda: bool(clinic.events("started")))
            systemd.wait_for("READY")
            assert clinic.events("watching")
        finally:
            daemon.kill()
            daemon.wait()


def test_ready_although_the_inbox_is_unavailable(clinic: Clinic) -> None:
    with manager() as systemd, managed(clinic, systemd) as daemon:
        systemd.wait_for("READY")
        clinic.inbox.rename(clinic.root / "away")
        systemd.wait_for_status("Not ready since ")
        (clinic.root / "away").rename(clinic.inbox)
        systemd.wait_for_status("Watching ")
        assert stop(daemon) == 0


def test_the_status_counts_the_work(clinic: Clinic, api: Sandbox) -> None:
    with manager() as systemd, managed(clinic, systemd):
        for number in range(3):
            write_wav(clinic.inbox / f"smith{number}.wav", pitch=300 + 50 * number)
        (clinic.inbox / "letter.wav").write_text("Dear colleague,\nthank you.\n")
        line = systemd.wait_for_status(f"Watching {clinic.inbox}: 0 under way, 3 done, 1 failed since start")
        assert "\n" not in line
        statuses = [message.fields["STATUS"] for message in systemd.messages("STATUS")]
        assert len(statuses) == len(set(statuses)), "said twice"
        assert not [status for status in statuses if "smith" in status or "letter" in status]


def test_the_status_says_since_when_the_api_is_unavailable(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", NOWHERE)
    write_wav(clinic.inbox / "smith.wav")
    with manager() as systemd, managed(clinic, systemd) as daemon:
        line = systemd.wait_for_status("API unavailable since ")
        assert "The connection to 127.0.0.1:9 failed: Connection refused." in line
        assert "Retrying: 1 under way, 0 done, 0 failed since start" in line
        assert "smith" not in line
        clinic.config.write_text(clinic.config.read_text().replace(NOWHERE, api.base_url))
        daemon.send_signal(signal.SIGHUP)
        systemd.wait_for_status(f"Watching {clinic.inbox}: 0 under way, 1 done")


def test_the_counts_outlive_a_reload(clinic: Clinic, api: Sandbox) -> None:
    with manager() as systemd, managed(clinic, systemd) as daemon:
        write_wav(clinic.inbox / "smith.wav")
        systemd.wait_for_status(f"Watching {clinic.inbox}: 0 under way, 1 done")
        daemon.send_signal(signal.SIGHUP)
        systemd.wait_for("READY", count=2)
        write_wav(clinic.inbox / "jones.wav", pitch=700)
        status = systemd.wait_for_status(f"Watching {clinic.inbox}: 0 under way, 2 done")
        assert status.endswith("2 done, 0 failed since start")


def test_hooks_and_other_children_are_not_taken_for_the_service() -> None:
    environ = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(os.getpid()), "A": "B"}
    assert Notifier(environ).watchdog_seconds == 5
    assert environ == {"A": "B"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "/nobody/is/here"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": "@nobody is here"},
    ],
)
def test_a_manager_that_is_not_there_is_no_error(environ: dict[str, str]) -> None:
    before, service = descriptors(), Notifier(dict(environ))
    for tell in (service.ready, lambda: service.status("well"), service.feed, service.stopping):
        assert tell() is None
    assert descriptors() == before


@pytest.mark.parametrize(
    ("microseconds", "pid"), [("", ""), ("0", ""), ("-5", ""), ("5s", ""), ("5000000", "1")]
)
def test_a_watchdog_that_is_not_ours_is_not_fed(microseconds: str, pid: str) -> None:
    with manager() as systemd:
        environ = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": microseconds, "WATCHDOG_PID": pid}
        service = Notifier(environ)
        service.feed()
        service.ready()
        assert systemd.wait_for("READY")
        assert service.watchdog_seconds is None
        assert not systemd.messages("WATCHDOG")


def test_a_status_is_always_one_line() -> None:
    with manager() as systemd:
        Notifier({"NOTIFY_SOCKET": systemd.address}).status("two\nREADY=1")
        assert systemd.wait_for("STATUS")[0].fields == {"STATUS": "two\\nREADY=1"}


# ---- the watchdog ------------------------------------------------------------------------------------------


def test_the_watchdog_is_fed_in_time(clinic: Clinic) -> None:
    with manager() as systemd, managed(clinic, systemd, watchdog_seconds=4):
        fed = [message.at for message in systemd.wait_for("WATCHDOG", count=3)]
        assert max(later - earlier for earlier, later in itertools.pairwise(fed)) < 4
        assert not clinic.events("stalled")


def test_a_journal_that_does_not_answer_is_seen(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, http={"listen": "127.0.0.1:0"})
    with manager() as systemd, managed(clinic, systemd, watchdog_seconds=WATCHDOG_SECONDS):
        systemd.wait_for("WATCHDOG")
        with locked_journal(clinic):
            write_wav(clinic.inbox / "smith.wav")  # its claim waits for the journal
            wait_for("it is noticed", lambda: len(clinic.events("stalled")) >= 2)
            parts = {event["part"]: event for event in clinic.events("stalled")}
            assert parts.keys() == {"journal", "inbox"}
            assert all(event["silent_seconds"] >= WATCHDOG_SECONDS for event in parts.values())
            assert all(event["where"].startswith("journal/") for event in parts.values())
            assert problems(clinic)["stalled"] == "Stalled: inbox, journal."
            systemd.wait_for_status("Not ready since ")
            fed = len(systemd.messages("WATCHDOG"))
            time.sleep(WATCHDOG_SECONDS)
            assert len(systemd.messages("WATCHDOG")) == fed, "systemd would not have killed it"
            assert len(clinic.events("stalled")) == 2, "said again"
        wait_for("it gets on", lambda: len(clinic.events("stall_resolved")) == 2)
        systemd.wait_for("WATCHDOG", count=fed + 1)
        wait_for("the recording is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        assert problems(clinic) == {}


def test_a_hanging_worker_is_detected_among_working_ones(clinic: Clinic, api: Sandbox) -> None:
    fifo = clinic.root / "fifo"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "tests.kit.stuck", str(fifo), "run", "--config", str(clinic.config)]
    with (
        manager() as systemd,
        managed(clinic, systemd, watchdog_seconds=WATCHDOG_SECONDS, command=command) as daemon,
    ):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is noticed", lambda: bool(clinic.events("stalled")), seconds=40)
        (event,) = clinic.events("stalled")
        assert event["part"].startswith("poll-")
        assert event["where"].startswith("processing/steps/publish.py:")
        fed = len(systemd.messages("WATCHDOG"))
        write_wav(clinic.inbox / "jones.wav", pitch=700)
        wait_for("others go on", lambda: len(clinic.events("uploaded")) == 2)
        time.sleep(WATCHDOG_SECONDS)
        assert len(systemd.messages("WATCHDOG")) == fed
        daemon.send_signal(signal.SIGABRT)  # what systemd does then
        status_of(daemon, seconds=10)
    with manager() as systemd, managed(clinic, systemd) as daemon:
        wait_for("both are done", lambda: clinic.files(clinic.done) == ["jones.wav", "smith.wav"])
        assert stop(daemon) == 0
    assert api.stats()["uploads"] == 2


def message_of(detector: StallDetector) -> str:
    reason = detector.closed()
    return reason.message if reason is not None else ""


@dataclass
class Part:
    name: str
    silent_seconds: float = 0.0
    place: str | None = None


def test_a_stall_is_reported_once_and_so_is_its_end(events_seen: list[dict[str, Any]]) -> None:
    detector, inbox, journal = StallDetector(10), Part("inbox"), Part("journal")

    def check() -> bool:
        return detector.check([inbox, journal])

    assert check()
    inbox.silent_seconds = 10
    assert check(), "after a pause of the whole machine everything looks silent, but only once"
    assert [check(), check()] == [False, False]
    assert message_of(detector) == "Stalled: inbox."
    journal.silent_seconds = 11
    assert [check(), check()] == [False, False]
    inbox.silent_seconds = journal.silent_seconds = 0
    assert [check(), check()] == [True, True]
    assert detector.closed() is None
    assert [(event["event"], event["part"]) for event in events_seen] == [
        ("stalled", "inbox"),
        ("stalled", "journal"),
        ("stall_resolved", "inbox"),
        ("stall_resolved", "journal"),
    ]


class Deaf(Clock):
    """A clock by which nobody who waits ever wakes up."""

    def __init__(self) -> None:
        self.waiting, self.over = threading.Event(), threading.Event()

    def wait(self, changed: threading.Condition, seconds: float | None) -> None:
        changed.release()
        self.waiting.set()
        self.over.wait()
        changed.acquire()


def test_a_due_job_that_no_free_worker_takes_is_a_stall() -> None:
    clock = Deaf()
    lane = LocalLane(clock, "looks")
    job = Job("1", State.WAITING, "a.wav", FileIdentity(1, 1, 1, 1), utc_now())
    lane.put(job, 0, held_back=False)
    time.sleep(0.05)
    assert lane.silent_seconds == 0, "nobody is free: it waits for its turn"
    assert lane.take() is job
    worker = threading.Thread(target=lane.take)
    worker.start()
    assert clock.waiting.wait(10)
    assert lane.silent_seconds == 0, "nothing is due"
    lane.put(job, 3600, held_back=False)
    assert lane.silent_seconds == 0, "nothing is due yet"
    lane.put(job, 0, held_back=False)
    time.sleep(0.05)
    assert lane.silent_seconds >= 0.05
    clock.over.set()
    worker.join(10)
    assert not worker.is_alive()


@pytest.fixture
def events_seen() -> Iterator[list[dict[str, Any]]]:
    with captured() as events:
        yield events


# ---- what only takes long ----------------------------------------------------------------------------------


@pytest.mark.needs  # minutes
@pytest.mark.slow
def test_a_long_upload_is_no_stall(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=400_000) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, api={"read_timeout_seconds": 3})
        with manager() as systemd, managed(clinic, systemd, watchdog_seconds=WATCHDOG_SECONDS):
            write_sparse_wav(clinic.inbox / "smith.wav", 8_000_000)
            wait_for("the upload begins", lambda: bool(clinic.events("upload_started")))
            began = time.monotonic()
            wait_for("it is uploaded", lambda: bool(clinic.events("uploaded")), seconds=60)
            assert time.monotonic() - began > 3 + 2 * WATCHDOG_SECONDS, "it proves nothing"
            assert not clinic.events("stalled")
            assert len(systemd.messages("WATCHDOG")) >= 4


@pytest.mark.needs  # minutes
@pytest.mark.slow
def test_an_api_silent_until_the_deadline_is_no_stall(clinic: Clinic, api: Sandbox) -> None:
    clinic = Clinic(clinic.root, api.base_url, api={"read_timeout_seconds": 3 * WATCHDOG_SECONDS})
    api.fault({"on": "presign", "do": "silence"})
    with manager() as systemd, managed(clinic, systemd, watchdog_seconds=WATCHDOG_SECONDS):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done after all", lambda: clinic.files(clinic.done) == ["smith.wav"], seconds=60)
        assert clinic.events("step_retry")[0]["code"] == "timeout"
        assert not clinic.events("stalled")


class Counted(Heartbeat):
    """Notes by the time that its thread has computed: that it had to wait for a processor is no silence."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.beats: list[float] = []

    def beat(self, seconds: float) -> None:
        self.beats.append(time.thread_time())
        super().beat(seconds)


@pytest.mark.slow
def test_a_scan_of_very_many_files_is_no_stall(tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / f"{number}.wav").touch()
    rules = ScreeningRules(1 << 30, ["audio/wav"], Waits(60, 60, 60, 60))
    inbox = Inbox(
        tmp_path, rules, mode="polling", recursive=True, ignore=(), rescan_seconds=60, polling_seconds=60
    )
    stop_event, heartbeat = threading.Event(), Counted("inbox")

    class Nobody:
        def take(self, _candidate: Candidate) -> bool:
            raise AssertionError("nothing is settled")

        def claim_taken(self) -> dict[str, OSError | InvoxError]:
            raise AssertionError("nothing was taken")

    def run() -> None:
        with heartbeat.beating():
            inbox.run(Nobody(), stop_event)

    thread = threading.Thread(target=run)
    thread.start()
    while inbox.status.scans == 0:
        time.sleep(0.001)
    stop_event.set()
    inbox.wake()
    thread.join()
    beats = heartbeat.beats
    assert len(beats) > 2 * 20_000, "not each name that is listed, and each file that is looked at"
    took, longest = beats[-1], max(after - before for before, after in itertools.pairwise([0.0, *beats]))
    assert longest < took / 2, f"silent for {longest:.2f} s of {took:.2f} s"
