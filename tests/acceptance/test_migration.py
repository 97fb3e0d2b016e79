"""An update from the release whose journal had version 2, with recordings in every state under way."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from invox_watcher.job import ACTIVE
from invox_watcher.sandbox.server import Sandbox
from tests.acceptance.test_hooks import hook
from tests.kit.clinic import Clinic, running
from tests.kit.old_journal import PITCHES, VECTOR, dump, old_journal
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

# What the daemon of the old release had in hand; `copy` follows `waiting`.
UNDER_WAY = [
    *("claimed", "identified", "uploading", "waiting", "copy", "transcribed", "delivered"),
    "failing",
]


def request_of(api: Sandbox, recording: Path) -> str:
    """The request id under which the sandbox has this recording, uploaded as a client does."""

    def post(path: str, body: str, **headers: str) -> Any:
        request = urllib.request.Request(api.base_url + path, body.encode(), headers)
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    token = post(
        "/oauth/token", "grant_type=client_credentials",
        Authorization="Basic c2FuZGJveC1hcHA6c2FuZGJveC1rZXk=",  # sandbox-app:sandbox-key
        **{"Content-Type": "application/x-www-form-urlencoded"},
    )["accessToken"]  # fmt: skip
    granted = post(
        "/api/v1/generate-presigned-url", '{"mimeType": "audio/wav"}', Authorization=f"Bearer {token}"
    )
    url = urlsplit(granted["presignedUrl"])
    connection = http.client.HTTPConnection(url.netloc)
    with contextlib.closing(connection):
        connection.request(
            "PUT", f"{url.path}?{url.query}", recording.read_bytes(), {"Content-Type": "audio/wav"}
        )
        assert connection.getresponse().status == 200
    return str(granted["requestId"])


@pytest.fixture
def updated(tmp_path: Path, api: Sandbox) -> Clinic:
    """A clinic as the old release left it, stopped, with its uploads in the sandbox."""
    command = hook(tmp_path / "hook", 'printf "%s\\n" "$INVOX_WATCHER_TRANSCRIPTS" >> ran')
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": command})
    shutil.copytree(VECTOR / "outbox", clinic.outbox)
    state = clinic.root / "state"
    state.mkdir()
    with contextlib.closing(sqlite3.connect(old_journal(state))) as journal:
        for job_id, name, job_state in journal.execute("SELECT id, path, state FROM jobs").fetchall():
            folder = {"done": clinic.done, "failed": clinic.failed}.get(job_state, clinic.processing / job_id)
            path = folder / name.decode()
            if job_state != "vanished":
                write_wav(path, seconds=0.1, pitch=PITCHES[name.decode()])
            if job_state in ("uploading", "waiting"):
                new = request_of(api, path)
                journal.execute(
                    "UPDATE notices SET request_id = ? WHERE request_id = "
                    "(SELECT request_id FROM jobs WHERE id = ?)", (new, job_id),
                )  # fmt: skip
                journal.execute("UPDATE jobs SET request_id = ? WHERE id = ?", (new, job_id))
        journal.commit()
    return clinic


def test_56_all_recordings_under_way_are_finished_after_an_update(
    updated: Clinic, api: Sandbox, tmp_path: Path
) -> None:
    copy = updated.root / "state" / "journal.sqlite.v2"
    before = dump(updated.root / "state" / "journal.sqlite")
    finished = [f"{name}.wav" for name in UNDER_WAY if name != "failing"]
    assert {f"{state}.wav" for state in ACTIVE} == {*finished, "failing.wav"} - {"copy.wav"}
    with running(updated):
        wait_for("all are done", lambda: len(updated.files(updated.done)) == len(finished) + 1)
        wait_for("one has failed", lambda: "failing.wav" in updated.files(updated.failed))
        ran = tmp_path / "hook" / "ran"
        wait_for("all hooks ran", lambda: len(updated.events("delivery_sent")) == len(finished) + 1)
        assert dump(copy) == before
        [event] = updated.events("journal_migrated")
        assert (event["version"], event["copy"]) == (2, str(copy))
        write_wav(updated.inbox / "new.wav", seconds=0.1, pitch=700)
        wait_for("a new one is done", lambda: "new.wav" in updated.files(updated.done))
        wait_for("the copy is gone", lambda: not copy.exists())
    assert updated.files(updated.processing) == []
    assert sorted(finished) == sorted(set(updated.files(updated.done)) - {"new.wav", "ward 3/done.wav"})
    for name in finished:
        sha256 = hashlib.sha256((updated.done / name).read_bytes()).hexdigest()
        transcript = updated.transcript(name.replace(".wav", ".json"))
        assert transcript["source"]["sha256"] == sha256
        assert sha256[:12] in transcript["text"]
        assert sha256[:12] in (updated.outbox / name.replace(".wav", ".srt")).read_text()
    # The two that were uploaded before, here by the test, and those that never had been; and the new one.
    uploads = [request["sha256"] for request in api.stats()["requests"] if request["uploads"]]
    assert len(uploads) == len(set(uploads)) == api.stats()["uploads"] == 5
    assert [
        event["recording"] for event in updated.events("step_crashed", "vanished", "internal_error")
    ] == []
    transcripts = [str(updated.outbox / "ward 3" / f"done.{suffix}") for suffix in ("json", "srt")]
    assert ran.read_text().startswith("\n".join(transcripts) + "\n")


def test_56_audit_lines_go_on_after_an_update(updated: Clinic) -> None:
    assert updated.once() == 1
    by_name: dict[str, list[str]] = {}
    names = {job["id"]: job["path"] for job in json.loads(updated.run("jobs", "--all", "--json").stdout)}
    for entry in updated.audit_log():
        by_name.setdefault(names[entry["job"]], []).append(entry["what"])
    assert by_name == {
        "claimed.wav": ["uploaded", "delivered", "filed"],
        "identified.wav": ["uploaded", "delivered", "filed"],
        "uploading.wav": ["uploaded", "delivered", "filed"],
        "waiting.wav": ["delivered", "filed"],
        "copy.wav": ["delivered", "filed"],
        "transcribed.wav": ["delivered", "filed"],
        "delivered.wav": ["filed"],
        "failing.wav": ["filed"],
    }
    [uploading] = [job for job, name in names.items() if name == "uploading.wav"]
    [delivered] = [
        entry for entry in updated.audit_log() if entry["what"] == "delivered" and entry["job"] == uploading
    ]
    assert sorted(delivered["outputs"]) == ["uploading.json", "uploading.srt"]


def test_56_check_says_that_the_journal_will_be_converted(updated: Clinic) -> None:
    before = dump(updated.root / "state" / "journal.sqlite")
    checked = updated.run("check")
    assert "warning  journal: " in checked.stdout
    assert "converts it when it starts" in checked.stdout
    assert updated.run("jobs").returncode == 75
    assert dump(updated.root / "state" / "journal.sqlite") == before
    assert updated.once() == 1
    assert "ok       journal: intact; 0 under way" in updated.run("check").stdout


def test_56_a_retried_recording_names_its_predecessor(clinic: Clinic) -> None:
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    assert clinic.once() == 1
    [first] = json.loads(clinic.run("jobs", "--all", "--json").stdout)
    assert clinic.run("retry", "--code", "not_audio").returncode == 0
    assert clinic.once() == 1
    jobs = json.loads(clinic.run("jobs", "--all", "--json").stdout)
    [second] = [job for job in jobs if job["id"] != first["id"]]
    assert (first["predecessor_id"], second["predecessor_id"]) == (None, first["id"])
    shown = clinic.run("show", second["id"]).stdout
    assert f"predecessor_id    {first['id']} (failed)\n" in shown


# Converts the journal in forks that are killed after more and more steps of SQLite's machine; says how many
# were, and ends with what the next start then makes of the journal and of its copy.
KILLED_ANYWHERE = """
import os, signal, sys
from pathlib import Path
from invox_watcher.journal import Journal, sqlite
from tests.kit.old_journal import dump, old_journal

connect, directory, taken = sqlite.connect, Path(sys.argv[1]), 0

def convert(last=None):
    def step():
        global taken
        taken += 1
        if taken == last:
            os.kill(os.getpid(), signal.SIGKILL)
    def counting(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.execute("PRAGMA cache_size = 4")  # so that unfinished work is in the file, too
        connection.set_progress_handler(step, 1)
        return connection
    for file in directory.iterdir():
        file.unlink()
    old_journal(directory)
    sqlite.connect = counting
    Journal(directory).close()
    sqlite.connect = connect

def found():
    return [dump(directory / name) for name in ("journal.sqlite", "journal.sqlite.v2")]

convert()
expected, total, killed, rolled_back = found(), taken, 0, 0
for number in range(1, 41):
    taken = 0
    if (child := os.fork()) == 0:
        convert(total * number // 41)
        os._exit(0)
    killed += os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    rolled_back += (directory / "journal.sqlite-journal").exists()
    Journal(directory).close()
    assert found() == expected, number
print(killed, rolled_back)
"""


def test_56_a_conversion_that_is_killed_is_done_by_the_next_start(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_ANYWHERE, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    killed, rolled_back = map(int, ran.stdout.split()[-2:])
    assert killed == 40
    assert rolled_back > 10  # it was not always before or after what matters
