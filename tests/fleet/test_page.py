"""The page of one host: it shows what all hosts of the fleet have."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

from invox_watcher.config import load
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal import Journal, Server
from invox_watcher.page.model import Query, Sight
from invox_watcher.page.source import DaemonSource
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now
from tests.kit.clinic import Clinic
from tests.kit.waiting import wait_for


def test_the_page_shows_the_recordings_of_all_hosts(
    tmp_path: Path, server: Server, open_journal: Callable[..., Journal]
) -> None:
    with ExitStack() as opened:
        journals = {host: opened.enter_context(closing(open_journal())) for host in ("north", "south")}
        jobs = {}
        for host, journal in journals.items():
            assert journal.fleet is not None
            fleet = journal.fleet
            fleet.join(host, instance=host, limit_seconds=30)
            file = FileIdentity(1, len(jobs), 3, 4)
            jobs[host] = Job(new_job_id(), State.CLAIMED, f"{host}.wav", file, received_at=utc_now())
            journal.add(jobs[host])
        state = {"directory": str(tmp_path), "url": server.url, "host": "east"}
        clinic = Clinic(tmp_path / "east", "http://127.0.0.1:1", state=state)
        source = opened.enter_context(closing(DaemonSource(load(clinic.config))))
        rows = source.find(Sight(), Query(), after="", limit=9).rows
        assert [row.name for row in rows] == ["south.wav", "north.wav"]
        shown = {host: source.recording(Sight(), job.id) for host, job in jobs.items()}
        assert {host: one.host for host, one in shown.items() if one} == {"north": "north", "south": "south"}
        assert source.health().unknown_because == ""
        reader = source._reader.journal()
        wait_for("the server has counted both", lambda: reader.changes()[1] == len(jobs))
        before = source.changes()
        fleet.beat()
        assert source.changes() == before  # every second: nothing that is shown
        journals["south"].update(jobs["south"], attempts=2)
        wait_for("the page knows of the write", lambda: source.changes() > before)
        before = source.changes()
        journals["south"].move(jobs["south"], State.VANISHED)
        assert source.changes() > before
        assert source._reader.journal() is reader  # what others write is no reason to connect again
