"""Writes journal.sql and outbox/ with the release whose journal had version 2: see ../README.md.

That release's own pipeline takes recordings from its inbox, against its own sandbox, and is stopped in every
state. Run it from a checkout of that release, which has none of the modules that bear other names by now.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from invox_watcher.api import InvoxApi
from invox_watcher.custody import AuditLog
from invox_watcher.pipeline import Pipeline, Rules
from invox_watcher.store import Journal
from invox_watcher.wiring import api_of, client_of, folders_of, prepare_state
from tests.support import Clinic, sandbox, wait_for, write_wav

from invox_watcher.config import load
from invox_watcher.errors import RecordingError, UploadUncertainError
from invox_watcher.job import Failure, Job, Notice, State, new_job_id, utc_now
from invox_watcher.sandbox.server import Sandbox

# The pitch of each recording, by the state in which it is left; the copy waits for the one in `waiting`.
PITCHES = {
    "ward 3/done.wav": 300, "failed.wav": 310, "vanished.wav": 320, "claimed.wav": 330, "identified.wav": 340,
    "uploading.wav": 350, "waiting.wav": 360, "copy.wav": 360, "transcribed.wav": 370, "delivered.wav": 380,
    "failing.wav": 390,
}  # fmt: skip


class LosesAnswers(InvoxApi):
    """Once told to, it uploads and then hears no answer."""

    loses = False

    def upload(self, *arguments: Any, **options: Any) -> None:
        super().upload(*arguments, **options)
        if self.loses:
            raise UploadUncertainError("no answer came")


class Maker:
    """One old installation."""

    def __init__(self, home: Path, api: Sandbox) -> None:
        self.clinic = Clinic(home, api.base_url)
        config = load(self.clinic.config)
        self.folders = folders_of(config)
        for name in ("processing", "outbox", "done", "failed"):
            (home / name).mkdir(exist_ok=True)
        state = prepare_state(config)
        audit = AuditLog(state)
        self.journal = Journal(state, hooks_after={State.DONE}, witness=audit.witness)
        self.api = api_of(config, client_of(config))
        self.api.__class__ = LosesAnswers
        self.pipeline = Pipeline(
            folders=self.folders, journal=self.journal, api=self.api, rules=Rules(), stop=threading.Event()
        )

    def claimed(self, name: str, refusal: Failure | None = None) -> Job:
        """A recording that was taken from the inbox."""
        path = write_wav(self.clinic.inbox / name, seconds=0.1, pitch=PITCHES[name])
        status = os.stat(path)
        job = Job(
            new_job_id(), State.CLAIMED, name, size_bytes=status.st_size, device=status.st_dev,
            inode=status.st_ino, mtime_ns=status.st_mtime_ns, received_at=utc_now(), format="WAV (PCM)",
            mime_type=None if refusal else "audio/wav", duration_seconds=0.1, refusal=refusal,
        )  # fmt: skip
        assert self.pipeline.claim(job, 0.3)
        return job

    def until(self, job: Job, state: State) -> Job:
        """`job`, taken further until it is in that state."""
        while job.state is not state:
            job = self.pipeline.advance(job).job
        return job

    def identified(self, name: str) -> Job:
        return self.until(self.claimed(name), State.IDENTIFIED)

    def make(self) -> None:
        """Leave a recording in every state."""
        self.until(self.identified("ward 3/done.wav"), State.DONE)
        refusal = Failure(
            State.CLAIMED, "not_audio", "It is no audio.", "Listen to it: what is it?", retryable=False
        )
        self.until(self.claimed("failed.wav", refusal), State.FAILED)
        gone = self.identified("vanished.wav")
        (self.clinic.processing / gone.id / gone.path).unlink()
        self.pipeline.vanish(gone)
        self.claimed("claimed.wav")
        self.identified("identified.wav")
        self.api.loses = True
        with contextlib.suppress(UploadUncertainError):
            self.pipeline.advance(self.identified("uploading.wav"))
        self.api.loses = False
        waiting = self.until(self.identified("waiting.wav"), State.WAITING)
        payload = {"requestId": waiting.request_id, "processingStatus": "COMPLETED"}
        content = hashlib.sha256(repr(payload).encode()).hexdigest()
        self.journal.keep(Notice(str(waiting.request_id), payload, "51" * 32, content))
        self.identified("copy.wav")
        self.until(self.identified("transcribed.wav"), State.TRANSCRIBED)
        self.until(self.identified("delivered.wav"), State.DELIVERED)
        error = RecordingError("It was cut off.", code="truncated", hint="Copy it again.")
        self.pipeline.fail(self.identified("failing.wav"), error)


def main() -> None:
    """Make the files beside this one anew."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder, sandbox(Path(folder, "api"), result_delay_seconds=0) as api:
        maker = Maker(Path(folder, "clinic"), api)
        maker.make()
        wait_for("the sandbox is done", lambda: api.stats()["uploads"] == 5)
        maker.journal.close()
        with contextlib.closing(sqlite3.connect(maker.journal.path)) as journal:
            (version,) = journal.execute("PRAGMA user_version").fetchone()
            lines = [*journal.iterdump(), f"PRAGMA user_version = {version};"]
        (here / "journal.sql").write_text("\n".join(lines) + "\n")
        shutil.rmtree(here / "outbox", ignore_errors=True)
        shutil.copytree(maker.clinic.outbox, here / "outbox")


if __name__ == "__main__":
    sys.exit(main())
