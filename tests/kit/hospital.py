"""A hospital with two wards: real speech, a daemon with its page, and people with different rights."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from invox_watcher.accounts import Role, User, write_users
from invox_watcher.sandbox.ledger import Segment
from invox_watcher.sandbox.recognition import UndecodableError
from invox_watcher.sandbox.samples import speech_samples
from invox_watcher.sandbox.server import Sandbox
from tests.kit.browser import Browser
from tests.kit.clinic import Clinic, free_port, sandbox
from tests.kit.loopback import Peer, Server, serve
from tests.kit.page_clinic import HASH, PASSWORD, answers, at_of
from tests.kit.waiting import wait_for

# What is said in `two_cities.wav` of the sandbox's samples, and when.
CITIES: Sequence[tuple[float, float, str]] = (
    (0.96, 4.8, "It was the best of times, it was the worst of times."),
    (4.8, 6.43, "It was the age of wisdom,"),
    (6.43, 8.57, "it was the age of foolishness,"),
    (8.57, 10.56, "it was the epoch of belief,"),
    (10.56, 13.12, "it was the epoch of incredulity,"),
    (13.21, 14.91, "it was the season of Light,"),
    (14.91, 17.02, "it was the season of Darkness,"),
    (17.31, 20.8, "it was the spring of hope, it was the winter of despair."),
    (20.99, 24.35, "We had everything before us, we had nothing before us,"),
    (24.38, 26.3, "we were all going direct to Heaven,"),
    (26.3, 28.61, "we were all going direct the other way."),
    (28.86, 32.51, "In short, the period was so far like the present period,"),
    (32.51, 41.98, "that some of its noisiest authorities insisted on its being received, for good or for "
     "evil, in the superlative degree of comparison only."),
)  # fmt: skip
SPEECH_SECONDS = 44.4


def segments(said: Sequence[tuple[float, float, str]]) -> tuple[Segment, ...]:
    """What a recognizer returns for that, with two speakers who take turns."""
    return tuple(Segment(start, end, text, n // 3 % 2) for n, (start, end, text) in enumerate(said))


@dataclass
class Recognizer:
    """Says of each recording what it was told to say; of one that it was not told about, all of `CITIES`."""

    said: dict[str, tuple[Segment, ...]] = field(default_factory=dict)  # by the content's SHA-256
    not_understood: set[str] = field(default_factory=set)
    complaint: str = "The audio has too little speech to be transcribed."

    def __call__(self, _path: Path, sha256: str) -> tuple[Segment, ...]:
        if sha256 in self.not_understood:
            raise UndecodableError(self.complaint)
        return self.said.get(sha256, segments(CITIES))


@dataclass
class Receiver:
    """A target: takes what is posted, or answers with the status `refuse`."""

    refuse: int | None = None
    taken: int = 0

    def __call__(self, peer: Peer) -> None:
        while peer.request() is not None:
            if self.refuse is None:
                self.taken += 1
            peer.answer(self.refuse or 204)


@dataclass
class Hospital:
    """Its daemon shows the page while `open`."""

    clinic: Clinic
    api: Sandbox
    recognizer: Recognizer
    letters: Receiver
    at: tuple[str, int]
    _daemon: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of the page, without a slash."""
        return "http://{}:{}".format(*self.at)

    def dictate(
        self,
        name: str,
        *,
        seconds: float = SPEECH_SECONDS,
        said: Sequence[Segment] | None = None,
        is_understood: bool = True,
        author: str = "",
    ) -> None:
        """Put a recording of real speech into the inbox; no two are the same."""  # fmt: skip
        content = speech(seconds, os.urandom(8), author)
        sha256 = hashlib.sha256(content).hexdigest()
        if said is not None:
            self.recognizer.said[sha256] = tuple(said)
        if not is_understood:
            self.recognizer.not_understood.add(sha256)
        put(self.clinic.inbox, name, content)

    def start(self) -> None:
        """Start the daemon, and wait for the page."""
        self._daemon = self.clinic.start()
        wait_for("the page answers", lambda: answers(Browser(self.at)), seconds=60)

    def stop(self) -> None:
        """Stop the daemon as systemd does."""
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGTERM)
        assert self._daemon.wait(30) == 0
        self._daemon = None

    def kill(self) -> None:
        """Kill the daemon."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None

    def page_pid(self) -> int | None:
        """The process of the page."""
        assert self._daemon is not None
        children = Path(f"/proc/{self._daemon.pid}/task/{self._daemon.pid}/children")
        tasks = children.parent.parent.glob("*/children")
        pids = [int(pid) for task in tasks for pid in task.read_text().split()]
        return next((pid for pid in pids if b"invox_watcher.page" in _command(pid)), None)

    @property
    def daemon_pid(self) -> int:
        assert self._daemon is not None
        return self._daemon.pid

    def jobs(self) -> dict[str, dict[str, Any]]:
        """The newest job of each name."""
        listed = json.loads(self.clinic.run("jobs", "--all", "--json").stdout)
        return {job["path"]: job for job in sorted(listed, key=lambda job: str(job["id"]))}

    def wait_until(self, name: str, state: str) -> dict[str, Any]:
        """Wait until the recording of that name is done, failed, …; the job."""
        wait_for(f"{name} is {state}", lambda: self._state(name) == state, seconds=60)
        return self.jobs()[name]

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log about looks and actions."""
        return [entry for entry in self.clinic.audit_log() if "viewer" in entry]

    def _state(self, name: str) -> str:
        return str(self.jobs().get(name, {}).get("state", ""))


def people() -> Mapping[str, User]:
    """nora: a nurse of ward 3; olga and wilma: everything of ward 3, of ward 4; hanna: the help desk;
    sam: sees ward 3; anna: an administrator.
    """
    ward = {number: frozenset({f"ward{number}"}) for number in (3, 4)}
    listen, act = frozenset({Role.SEE, Role.LISTEN}), frozenset({Role.SEE, Role.ACT})
    found = [
        User("nora", HASH, listen, ward[3]),
        User("olga", HASH, frozenset(Role), ward[3]),
        User("wilma", HASH, frozenset(Role), ward[4]),
        User("hanna", HASH, act, None),
        User("sam", HASH, frozenset({Role.SEE}), ward[3]),
        User("anna", HASH, frozenset(Role), None),
    ]
    return {one.name: one for one in found}


@contextlib.contextmanager
def hospital(
    root: Path, sandbox_settings: Mapping[str, Any] = MappingProxyType({}), **changes: Mapping[str, Any]
) -> Iterator[Hospital]:
    """Its daemon is not started; it is killed at the end if it runs."""
    recognizer, letters = Recognizer(), Receiver()
    root.mkdir(parents=True, exist_ok=True)
    users_file = root / "users.yaml"
    write_users(users_file, people())
    at = f"127.0.0.1:{free_port()}"
    with sandbox(root / "api", recognizer, **sandbox_settings) as api, serve(letters) as letter_box:
        sections: dict[str, Any] = {
            "page": {"listen": at, "users_file": str(users_file)},
            "targets": {"letters": _target(root, letter_box)},
            "http": {"listen": f"127.0.0.1:{free_port()}"},
        }
        clinic = Clinic(root / "clinic", api.base_url, **(sections | changes))
        keys = yaml.safe_load(clinic.config.read_text())
        keys["profiles"] = [
            {"name": "ward3", "match": {"folder": "ward3"}, "set": {"targets": []}},
            {"name": "ward4", "match": {"folder": "ward4"}, "set": {"targets": ["letters"]}},
        ]
        keys["outputs"] = {
            "speaker_names": {"Speaker_00": "Dr. Okafor", "Speaker_01": "Ms. Lindqvist"}
        } | dict(changes.get("outputs", {}))
        clinic.config.write_text(yaml.safe_dump(keys))
        place = at_of(at)
        assert isinstance(place, tuple)
        found = Hospital(clinic, api, recognizer, letters, place)
        try:
            yield found
        finally:
            found.kill()


def speech(seconds: float, mark: bytes = b"", author: str = "") -> bytes:
    """A WAV of real speech; another `mark` makes another recording of it."""
    [cities, _] = speech_samples()
    with wave.open(str(cities)) as source:
        step = max(source.getframerate() // 16_000, 1)
        samples = memoryview(source.readframes(int(seconds * source.getframerate()))).cast("h")[::step]
        rate = source.getframerate() // step
    data = samples.tobytes()
    info = b"INFO" + _chunk(b"ISFT", mark) + (_chunk(b"IART", author.encode()) if author else b"")
    form = b"\1\0\1\0" + rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little") + b"\2\0\x10\0"
    chunks = _chunk(b"fmt ", form) + _chunk(b"LIST", info) + _chunk(b"data", data)
    return b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WAVE" + chunks


def _chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def put(folder: Path, name: str, content: bytes) -> None:
    """Write a file as copiers do: under another name, then renamed. `name` may hold any bytes."""
    path = os.fsencode(folder / name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = os.path.join(os.path.dirname(path), b".part")
    with open(part, "wb") as file:
        file.write(content)
    os.rename(part, path)


def _target(root: Path, server: Server) -> dict[str, Any]:
    secret = root / "secret"
    secret.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    secret.chmod(0o600)
    return {"kind": "http", "url": f"http://127.0.0.1:{server.port}/in", "secret_file": str(secret)}


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


__all__ = ["CITIES", "PASSWORD", "Hospital", "Recognizer", "hospital", "people", "put", "segments", "speech"]
