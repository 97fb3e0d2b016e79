"""An inbox of the test's own, in a thread: real files, a real watch, and what it offers is claimed."""

from __future__ import annotations

import io
import json
import os
import threading
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invox_watcher import events, logs
from invox_watcher.errors import InvoxError
from invox_watcher.inbox.inbox import Inbox, InboxStatus
from invox_watcher.inbox.screening import Candidate, ScreeningRules
from invox_watcher.inbox.stability import Waits
from tests.kit.captured_log import LogStream
from tests.kit.waiting import eventually

ACCEPTED = ["audio/wav", "audio/mp3"]


def wav(seconds: float = 0.2) -> bytes:
    """A WAV with sound in it, as the standard library writes it."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\x12\x34" * int(8000 * seconds))
    return buffer.getvalue()


class Intake:
    """Runs an inbox in a thread and claims what it offers by a rename, as the daemon does."""

    def __init__(self, tmp_path: Path, log: LogStream) -> None:
        self.root = tmp_path / "inbox"
        self.claimed_into = tmp_path / "claimed"
        self.offers: list[Candidate] = []
        self.taken: set[str] = set()
        self.claimed: dict[str, Candidate] = {}
        self.batches: list[list[str]] = []
        self.refuse_to_take = False
        self.makes_room = False  # whether the first refusal is out of date at once
        self.room: threading.Semaphore | None = None  # how many more it takes; None: any number
        self.raises: Exception | None = None
        self.error: BaseException | None = None
        self._log = log
        self._stop = threading.Event()
        self.root.mkdir()
        self.claimed_into.mkdir()

    def start(self, **changes: Any) -> None:
        waits: dict[str, Any] = {
            "grace_seconds": 0.05,
            "settle_seconds": 0.2,
            "unproven_seconds": 0.2,
            "patience_seconds": 30,
        }
        rules: dict[str, Any] = {
            "max_size_bytes": 100 * 1024 * 1024,
            "accepted_mime_types": ACCEPTED,
            "waits": Waits(**{name: changes.pop(name, value) for name, value in waits.items()}),
        }
        settings: dict[str, Any] = {
            "mode": "auto",
            "recursive": True,
            "ignore": [],
            "rescan_seconds": 30,
            "polling_seconds": 0.1,
        }
        screening = ScreeningRules(**{name: changes.pop(name, value) for name, value in rules.items()})
        self.inbox = Inbox(self.root, screening, **(settings | changes))
        self._thread = threading.Thread(target=self._run, name="inbox")
        self._thread.start()

    def start_and_scan(self, **changes: Any) -> None:
        """Start, and return once the first scan is over: from then on it is the events that count."""
        self.start(**changes)
        eventually(lambda: self.status.scans >= 1)

    def stop(self) -> None:
        if hasattr(self, "inbox"):
            self._stop.set()
            self.inbox.wake()
            self._thread.join(10)
            assert not self._thread.is_alive()

    @property
    def status(self) -> InboxStatus:
        return self.inbox.status

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def bytes_of(self, path: str) -> bytes:
        return (self.claimed_into / path).read_bytes()

    def logged(self, event: events.Event) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    def _run(self) -> None:
        try:
            self.inbox.run(self, self._stop)
        except BaseException as error:
            self.error = error

    def take(self, candidate: Candidate) -> bool:
        self.offers.append(candidate)
        refused = self.refuse_to_take or (self.room is not None and not self.room.acquire(blocking=False))
        if self.makes_room:
            self.refuse_to_take = self.makes_room = False
            self.inbox.has_room()
        if not refused:
            self.taken.add(candidate.path)
        return not refused

    def claim_taken(self) -> dict[str, OSError | InvoxError]:
        paths = self.taken - self.claimed.keys()
        if isinstance(self.raises, OSError | InvoxError):
            return dict.fromkeys(paths, self.raises)
        if self.raises is not None:
            raise self.raises
        self.batches.append(sorted(paths))
        for path in paths:
            target = self.claimed_into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if (self.root / path).exists():
                os.rename(self.root / path, target)
                self.claimed[path] = next(one for one in self.offers[::-1] if one.path == path)
        return {}


@pytest.fixture
def intake(tmp_path: Path) -> Iterator[Intake]:
    log = LogStream()
    logs.configure(stream=log, level="debug", filenames="plain")
    intake = Intake(tmp_path, log)
    yield intake
    intake.stop()
    logs.configure()
