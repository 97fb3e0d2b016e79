"""The demo's folder, its exhibits (recordings and a letter), and a daemon as a real process.

A marker file in the folder lists the content of every exhibit, so that a later demo removes nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from invox_watcher.errors import ExitStatus, FolderError, InvoxError
from invox_watcher.files import ERROR_SUFFIX, MARK_FILE
from invox_watcher.logs import printable
from invox_watcher.sandbox.configuration import client_configuration
from invox_watcher.sandbox.samples import convert, speech_samples
from invox_watcher.sandbox.settings import SandboxSettings

FOLDERS = ("inbox", "processing", "outbox", "done", "failed")
LOG = "daemon.log"
CONFIGURATION = "config.yaml"
STATE = "state"
USERS = "users.yaml"

_MARKER = ".invox-demo.json"
_DROPPING = ".dropping"
_MADE = frozenset({_MARKER, _DROPPING, CONFIGURATION, LOG, STATE, USERS, "sandbox", *FOLDERS})
_STOP_SECONDS = 15

_TWO_CITIES, _BECKETT = 0, 1
_LETTER_TEXT = "Dear colleague,\n\nthank you for referring this patient to us.\n"


class ExtraMissingError(InvoxError):
    """The demo needs the `sandbox` extra."""

    code = "extra_missing"
    exit_status = ExitStatus.UNAVAILABLE


class DaemonEndedError(InvoxError):
    """The demo's daemon exited before all recordings were finished."""

    code = "daemon_ended"


@dataclass(frozen=True)
class Exhibit:
    """One file for the inbox. `path` is relative to it; `copy_of` is the path of one with equal content."""

    path: str
    source: Path
    sha256: str
    is_audio: bool = True
    copy_of: str | None = None


@dataclass(frozen=True)
class _Cut:
    path: str
    sample: int
    start_seconds: float
    seconds: float


# Cut at the reader's pauses, so that sentences stay whole.
_CUTS = (
    _Cut("ward 3/Dr Müller/round.mp3", _TWO_CITIES, 0.0, 13.1),
    _Cut("ward 3/Dr Müller/note.m4a", _TWO_CITIES, 13.1, 7.8),
    _Cut("Ærøskøbing/visit.flac", _TWO_CITIES, 20.9, 7.9),
    _Cut("ward 3/phone call.ogg", _TWO_CITIES, 28.8, 14.0),
    _Cut("beckett.webm", _BECKETT, 0.0, 10.0),
)
_WHOLE, _WHOLE_SAMPLE = "consultation.wav", _TWO_CITIES
_LETTER = "letter.wav"
_COPIED, _COPY = "ward 3/Dr Müller/round.mp3", "copy of round.mp3"


def require_extra() -> None:
    """Raise ExtraMissingError if speech recognition or the decoder is not installed."""
    if not (importlib.util.find_spec("av") and importlib.util.find_spec("moonshine_voice")):
        raise ExtraMissingError(
            "The demo needs the extra `sandbox`, with speech recognition and a decoder.",
            hint="Run `make demo` in a clone of the repository, or install it: pip install 'PATH[sandbox]', "
            "where PATH is the wheel or the clone (the Debian package does not have it).",
        )


# ---- the folder --------------------------------------------------------------------------------------------


def prepare(folder: Path) -> bool:
    """Create `folder`, or empty it if everything in it is from a demo; True if it was not empty.

    Raises FolderError, with nothing removed, if it contains anything else, is in use, or is not writable.
    """
    try:
        filled = folder.exists() and any(folder.iterdir())
        if filled:
            _require_demo(folder)
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_marker(folder, ())
    except OSError as error:
        raise FolderError(
            f"Can't use {shown(folder)}: {error.strerror}.", hint=f"Fix that, {_elsewhere()}"
        ) from None
    return filled


def _require_demo(folder: Path) -> None:
    foreign = _foreign(folder)
    if foreign is not None:
        raise FolderError(
            f"{shown(folder)} contains a file that is not from a demo: {printable(foreign)}",
            hint=f"Move it elsewhere, {_elsewhere()}",
        )
    if _in_use(folder):
        raise FolderError(f"A daemon is running in {shown(folder)}.", hint=f"Stop it first, {_elsewhere()}")


def _elsewhere() -> str:
    return f"or use another folder: {invocation()} demo --folder DIRECTORY"


def _foreign(folder: Path) -> str | None:
    """The first entry below `folder` that no demo created, None if there is none."""
    try:
        exhibits = frozenset(json.loads((folder / _MARKER).read_text())["exhibits"])
    except (OSError, ValueError, KeyError, TypeError):
        return min(os.listdir(folder))
    if strange := set(os.listdir(folder)) - _MADE:
        return min(strange)
    for name in FOLDERS:
        for path in (folder / name).rglob("*"):
            if not _is_from_demo(path, name, exhibits):
                return str(path.relative_to(folder))
    return None


def _is_from_demo(path: Path, where: str, exhibits: frozenset[str]) -> bool:
    """Whether `path`, in the folder `where`, is an exhibit or what the daemon wrote; folders don't count."""
    if path.is_symlink():
        return False
    if path.is_dir() or path.name == MARK_FILE or where == "outbox":
        return True
    if where == "failed" and path.name.endswith(ERROR_SUFFIX):
        return True
    return path.is_file() and _sha256(path) in exhibits


def _in_use(folder: Path) -> bool:
    try:
        with open(folder / STATE / "lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def write_marker(folder: Path, exhibits: Sequence[Exhibit]) -> None:
    """Mark `folder` as made by a demo, with the content of its exhibits."""
    note = "Created by `invox-watcher demo`, which removes this folder when it is run again."
    content = {"note": note, "exhibits": sorted({exhibit.sha256 for exhibit in exhibits})}
    (folder / _MARKER).write_text(json.dumps(content, indent=2) + "\n")


def write_configuration(
    folder: Path, settings: SandboxSettings, base_url: str, *, webhook: bool, page: Mapping[str, str] | None
) -> None:
    """Write the daemon's configuration: the sandbox's, with more frequent polling, and the section `page`."""
    listen = free_address() if webhook else None
    url = f"http://{listen}/webhook" if webhook else None
    keys = yaml.safe_load(client_configuration(settings, base_url, folder, listen=listen, webhook_url=url))
    # The sandbox is faster than the vendor. If it sends the results, a slow one must not be polled first.
    keys["polling"] = {"first_seconds": 1, "max_seconds": 60 if "webhook" in keys else 3}
    if page is not None:
        keys["page"] = dict(page)
    written = folder / CONFIGURATION
    written.touch(0o600)
    written.write_text(yaml.safe_dump(keys, sort_keys=False, allow_unicode=True))


def free_address() -> str:
    """An address of this machine on which no process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


# ---- the exhibits ------------------------------------------------------------------------------------------


def make_exhibits(workshop: Path) -> list[Exhibit]:
    """Create the files for the inbox in `workshop`, in the order in which to copy them there."""
    samples = speech_samples()
    for cut in _CUTS:
        target = workshop / cut.path
        target.parent.mkdir(parents=True, exist_ok=True)
        convert(samples[cut.sample], target, start_seconds=cut.start_seconds, seconds=cut.seconds)
    shutil.copyfile(samples[_WHOLE_SAMPLE], workshop / _WHOLE)
    (workshop / _LETTER).write_text(_LETTER_TEXT)
    exhibits = [_exhibit(workshop, path) for path in (_WHOLE, *(cut.path for cut in _CUTS))]
    letter = _exhibit(workshop, _LETTER, is_audio=False)
    copied = workshop / _COPIED
    return [*exhibits, letter, Exhibit(_COPY, copied, _sha256(copied), copy_of=_COPIED)]


def _exhibit(workshop: Path, path: str, *, is_audio: bool = True) -> Exhibit:
    return Exhibit(path, workshop / path, _sha256(workshop / path), is_audio)


def drop(folder: Path, exhibit: Exhibit) -> str:
    """Copy one exhibit to the inbox atomically; return its path there."""
    target = folder / "inbox" / exhibit.path
    target.parent.mkdir(parents=True, exist_ok=True)
    # Never a partial file: after an interruption the next demo would take it for one of the user's own.
    shutil.copyfile(exhibit.source, folder / _DROPPING)
    os.replace(folder / _DROPPING, target)
    return exhibit.path


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- the daemon --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_daemon(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon as a separate process, stopped at the end of the block."""
    command = [sys.executable, "-m", "invox_watcher", "run", "--config", str(folder / CONFIGURATION)]
    # In its own process group: Ctrl-C reaches only the demo, which then stops the daemon once, not twice.
    with (
        open(folder / LOG, "wb") as log,
        subprocess.Popen(  # noqa: S603 - this interpreter
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
        ) as daemon,
    ):
        try:
            yield daemon
        finally:
            daemon.terminate()
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    daemon.wait(_STOP_SECONDS)
            finally:
                daemon.kill()  # has no effect once the process has been waited for


def require_running(daemon: subprocess.Popen[bytes], folder: Path) -> None:
    """Raise DaemonEndedError if the daemon has exited."""
    if daemon.poll() is not None:
        raise DaemonEndedError(
            f"The daemon exited unexpectedly, with status {daemon.returncode}.",
            hint=f"See its log: {shown(folder / LOG)}",
        )


# ---- for the eye -------------------------------------------------------------------------------------------


def shown(path: Path) -> str:
    """`path` as to be typed in this terminal: relative if it is below the current folder; safe to print."""
    here = Path.cwd()
    return printable(path.relative_to(here) if path.is_relative_to(here) and path != here else path)


def invocation() -> str:
    """How to call this program from here: by its name if it is on the PATH, else by its path."""
    beside = Path(sys.executable).with_name("invox-watcher")
    if not beside.exists():
        return shlex.join([sys.executable, "-m", "invox_watcher"])
    found = shutil.which("invox-watcher")
    return "invox-watcher" if found and Path(found) == beside else shlex.quote(shown(beside))
