"""SIGKILL between every two steps, and at random moments: after the restart the promises hold."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.support import Clinic, sandbox, stop, wait_for, write_wav

_NEVER = -1


class Zygote:
    """Forks daemons that kill themselves; see crash_zygote."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, clinic: Clinic, kill_at: int) -> int:
        """`run --once`, killed at that moment; minus the signal or the exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"config": str(clinic.config), "kill_at": kill_at, "log": str(clinic.log)}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return os.waitstatus_to_exitcode(int(self._process.stdout.readline()))

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    running = Zygote()
    yield running
    running.close()


def assert_kept(clinic: Clinic, api: Sandbox, contents: set[str], *, failed: int = 0) -> None:
    """Each recording once in done/, with exactly one whole transcript, paid for once; no left-overs."""
    transcripts = [clinic.transcript(name) for name in clinic.files(clinic.outbox) if name.endswith(".json")]
    assert Counter(transcript["source"]["sha256"] for transcript in transcripts) == dict.fromkeys(contents, 1)
    for transcript in transcripts:
        assert transcript["source"]["sha256"][:12] in transcript["text"]
    stems = sorted(name.rpartition(".")[0] for name in clinic.files(clinic.done))
    assert len(stems) == len(contents)
    assert clinic.files(clinic.outbox) == sorted(
        f"{stem}.{suffix}" for stem in stems for suffix in ("json", "srt")
    )
    assert len(clinic.files(clinic.failed)) == 2 * failed
    assert clinic.files(clinic.inbox) == []
    assert list(clinic.processing.iterdir()) == []
    uploads = Counter(request["sha256"] for request in api.stats()["requests"] if request["uploads"])
    assert {content: uploads[content] for content in contents} == dict.fromkeys(contents, 1)
    assert all(request["uploads"] <= 1 for request in api.stats()["requests"])


def hashes(clinic: Clinic) -> set[str]:
    """The SHA-256 of every recording, wherever it lies."""
    lines = subprocess.run(
        ["sha256sum", *(str(path) for path in clinic.inbox.rglob("*.wav"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    return {line.split()[0] for line in lines}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_sigkill_between_every_two_steps(tmp_path: Path, zygote: Zygote) -> None:
    killed = 0
    with sandbox(tmp_path / "api") as api:
        for kill_at in range(1, 1000):
            clinic = Clinic(tmp_path / f"{kill_at}", api.base_url, watch={"settle_seconds": 0.05})
            write_wav(clinic.inbox / "ward 3" / "smith.wav", pitch=200 + kill_at, seconds=0.1)
            contents = hashes(clinic)
            status = zygote.run(clinic, kill_at)
            if status == 0:
                break
            assert status == -signal.SIGKILL
            killed += 1
            assert zygote.run(clinic, _NEVER) == 0, clinic.log.read_text()
            assert_kept(clinic, api, contents)
    print(f"{killed} moments killed at")
    assert killed > 60  # as many moments as the way had when this was written, or more


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_sigkill_between_every_two_steps_of_a_failure(tmp_path: Path, zygote: Zygote) -> None:
    killed = 0
    with sandbox(tmp_path / "api") as api:
        for kill_at in range(1, 1000):
            clinic = Clinic(tmp_path / f"{kill_at}", api.base_url, watch={"settle_seconds": 0.05})
            (clinic.inbox / "letter.wav").write_text("not audio\n")
            status = zygote.run(clinic, kill_at)
            if status == 1:
                break
            assert status == -signal.SIGKILL
            killed += 1
            assert zygote.run(clinic, _NEVER) in (0, 1)
            assert clinic.files(clinic.failed) == ["letter.wav", "letter.wav.error.json"]
            assert clinic.files(clinic.inbox) == clinic.files(clinic.processing) == []
        assert api.stats()["presigns"] == 0
    print(f"{killed} moments killed at")
    assert killed > 20


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sigkill_at_random_moments_with_forty_recordings(tmp_path: Path) -> None:
    chance = random.Random(2026)
    with sandbox(tmp_path / "api") as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        for number in range(40):
            write_wav(clinic.inbox / f"ward {number % 4}" / f"{number}.wav", pitch=200 + number)
        contents = hashes(clinic)
        kills = 0
        while len(clinic.files(clinic.done)) < 40 and kills < 60:
            daemon = clinic.start()
            time.sleep(chance.uniform(0, 0.4))
            daemon.kill()
            daemon.wait()
            kills += 1
        daemon = clinic.start()
        wait_for("all forty are done", lambda: len(clinic.files(clinic.done)) == 40)
        wait_for("nothing is under way", lambda: not list(clinic.processing.iterdir()))
        assert stop(daemon) == 0
        assert kills > 2
        assert_kept(clinic, api, contents)
