"""The daemon's part: starts a locked worker for one recording, limits it, and checks what it reports."""

from __future__ import annotations

import importlib.util
import os
import platform
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import invox_watcher
from invox_watcher.baton import on_any_cpu
from invox_watcher.errors import DecoderError, DiskFullError, RecordingError, StoppedError, StorageError
from invox_watcher.formats.facts import Facts, Outcome, from_json
from invox_watcher.heartbeat import beat

__all__ = ["INSTALL", "Allowance", "Beginning", "Decoder", "Facts", "is_installed"]

INSTALL = (
    "pip install 'PATH[formats]', where PATH is the wheel or the clone that invox-watcher was installed from "
    "(the Debian package has it)"
)
_LIBRARIES = ("av", "pydsscodec")
_MEMORY_BYTES = 768 << 20  # of address space; what is used is about a tenth
_LEAST_CPU_SECONDS, _CPU_SECONDS_PER_MIB, _MOST_CPU_SECONDS = 60, 10, 3600
_WALL_SECONDS_PER_CPU_SECOND = 4  # on a busy machine, with a slow disk
_LEAST_OUTPUT_BYTES, _OUTPUT_PER_INPUT = 256 << 20, 64
_MOST_FACTS_BYTES = 64 << 10
_MOST_PASSWORDS_BYTES = 4096  # what fits into any pipe before it is read
_LOOK_SECONDS = 0.2
_KILLED_BY_LIMITS = (signal.SIGXCPU, signal.SIGXFSZ)
_ENCRYPTED = b"\x03enc"

# An AU file: magic, offset and length of the sound, encoding (16 bits), rate, channels.
_SILENCE = struct.pack(">4s5I", b".snd", 24, 1600, 3, 8000, 1) + bytes(1600)
_SILENCE_SECONDS = 0.1
_UNDECODABLE_HINT = "Play it: is there sound in it? Convert it to WAV, or export it from the device again."


def is_installed() -> bool:
    """Whether the extra `formats` is. Imports nothing."""
    return all(importlib.util.find_spec(name) is not None for name in _LIBRARIES)


@dataclass(frozen=True)
class Beginning:
    """How a recording is to be read whose own beginning misleads: `header`, then what it has from `start`."""

    header: bytes = b""
    start: int = 0


_ITS_OWN = Beginning()


@dataclass(frozen=True)
class Allowance:
    """What a worker may use for a recording of some size, and how long it may take."""

    cpu_seconds: int
    wall_seconds: float
    output_bytes: int

    @classmethod
    def of(cls, size_bytes: int, most_output_bytes: int) -> Allowance:
        """Ample for sound of that size; a file made to take forever ends after a minute of CPU time."""
        cpu = min(_LEAST_CPU_SECONDS + _CPU_SECONDS_PER_MIB * (size_bytes >> 20), _MOST_CPU_SECONDS)
        output = min(max(_LEAST_OUTPUT_BYTES, _OUTPUT_PER_INPUT * size_bytes), most_output_bytes)
        return cls(cpu, cpu * _WALL_SECONDS_PER_CPU_SECOND, output)


class Decoder:
    """Makes an acceptable recording of one that is not, in a process of its own. Safe for several threads."""

    def __init__(
        self,
        *,
        passwords_file: Path | None = None,
        most_output_bytes: int = 4 << 30,
        allowance: Callable[[int, int], Allowance] = Allowance.of,
        command: Sequence[str] = (sys.executable, "-s", "-P", "-B", "-m", "invox_watcher.formats.worker"),
    ) -> None:
        """`passwords_file` has one password of encrypted DS2 files per line; it is read when one comes."""
        self._passwords_file = passwords_file
        self._most_output_bytes = most_output_bytes
        self._allowance = allowance
        self._command = command

    @property
    def is_installed(self) -> bool:
        """Whether it can be used."""
        return is_installed()

    def decode(
        self,
        source: BinaryIO,
        target: BinaryIO,
        container: Literal["flac", "wav"],
        stop: threading.Event,
        beginning: Beginning = _ITS_OWN,
    ) -> Facts:
        """Decode all of `source`, a file, into `target`, an empty file; beats meanwhile.

        Raises:
            RecordingError: it can't be decoded; codes: undecodable, password_needed, wrong_password,
                decoded_too_large.
            StorageError: it can't be read, or the result not be written.
            DecoderError: the worker could not work.
            StoppedError: `stop` was set.
        """
        size_bytes = os.fstat(source.fileno()).st_size
        allowance = self._allowance(size_bytes, self._most_output_bytes)
        os.lseek(source.fileno(), 0, os.SEEK_SET)
        with self._started(source, target, container, allowance, beginning) as process:
            output = _output_of(process, allowance.wall_seconds, stop)
        return _judged(process.returncode, output)

    def try_out(self) -> None:
        """Decode a moment of silence, in a process that is locked as for any recording.

        Raises:
            InvoxError: that does not work here.
        """
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target:
            source.write(_SILENCE)
            source.flush()
            facts = self.decode(cast("BinaryIO", source), cast("BinaryIO", target), "flac", threading.Event())
        if facts.seconds != _SILENCE_SECONDS:
            raise DecoderError("The decoder gives something else than it should.")

    @contextmanager
    def _started(
        self,
        source: BinaryIO,
        target: BinaryIO,
        container: str,
        allowance: Allowance,
        beginning: Beginning,
    ) -> Iterator[subprocess.Popen[bytes]]:
        passwords = self._passwords_for(source)
        options = {
            "parent": os.getpid(),
            "memory-bytes": _MEMORY_BYTES,
            "cpu-seconds": allowance.cpu_seconds,
            "output-bytes": allowance.output_bytes,
            "header": beginning.header.hex(),
            "start": beginning.start,
            **({} if passwords is None else {"passwords": passwords}),
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        try:
            with on_any_cpu():
                process = subprocess.Popen(  # noqa: S603 - our own module
                    [*self._command, container, *arguments],
                    stdin=source,
                    stdout=target,
                    stderr=subprocess.PIPE,
                    env={"PYTHONPATH": str(Path(invox_watcher.__file__).parent.parent)},
                    cwd="/",
                    pass_fds=() if passwords is None else (passwords,),
                )
        except OSError as error:
            raise DecoderError(f"The decoder's process can't be started: {error.strerror}") from None
        finally:
            if passwords is not None:
                os.close(passwords)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None  # noqa: S101 - a pipe
            process.stderr.close()

    def _passwords_for(self, source: BinaryIO) -> int | None:
        """The reading end of a pipe with the passwords in it, if the recording needs one."""
        if self._passwords_file is None or os.pread(source.fileno(), 4, 0) != _ENCRYPTED:
            return None
        try:
            passwords = self._passwords_file.read_bytes()
        except OSError as error:
            raise DecoderError(
                f"intake.ds2_passwords_file can't be read: {error.strerror}",
                hint=f"May the daemon's user read {self._passwords_file}?",
            ) from None
        if len(passwords) > _MOST_PASSWORDS_BYTES:
            raise DecoderError(
                f"{self._passwords_file} (intake.ds2_passwords_file) is too large.",
                hint=f"It may have {_MOST_PASSWORDS_BYTES} bytes, one password per line.",
            )
        reader, writer = os.pipe()
        os.write(writer, passwords)
        os.close(writer)
        return reader


def _output_of(process: subprocess.Popen[bytes], wall_seconds: float, stop: threading.Event) -> bytes:
    """What it printed until its end, no more of it than facts may be long."""
    assert process.stderr is not None  # noqa: S101 - a pipe
    output, give_up = b"", time.monotonic() + wall_seconds
    while True:
        beat()
        if stop.is_set():
            raise StoppedError("stopped while decoding a recording")
        if time.monotonic() > give_up:
            raise _undecodable(f"decoding it took more than {wall_seconds:g} s")
        if not select.select([process.stderr], [], [], _LOOK_SECONDS)[0]:
            continue
        if not (part := os.read(process.stderr.fileno(), _MOST_FACTS_BYTES)):
            break
        output = (output + part)[: _MOST_FACTS_BYTES + 1]
    try:
        process.wait(max(give_up - time.monotonic(), _LOOK_SECONDS))
    except subprocess.TimeoutExpired:  # it closed its output, but runs
        raise _undecodable("its decoder did not end") from None
    return output


def _judged(status: int, output: bytes) -> Facts:
    """The facts of a run that ended with `status`; else the error that says why there are none."""
    if status == -signal.SIGKILL:
        raise DecoderError("The decoder's process was killed.")
    if -status in _KILLED_BY_LIMITS:
        raise _undecodable("decoding it took too long")
    if status == -signal.SIGSYS:
        raise _undecodable("its decoder tried to do what decoders may not do, and was stopped")
    facts = from_json(output) if status == 0 else None
    if facts is None:
        raise _undecodable("its decoder crashed")
    if facts.outcome is not Outcome.DECODED:
        raise _error_for(facts.outcome)
    return facts


def _error_for(outcome: Outcome) -> RecordingError | StorageError | DecoderError:
    match outcome:
        case Outcome.PASSWORD_NEEDED:
            return RecordingError(
                "The recording is encrypted, and no password is configured.",
                code="password_needed",
                hint="Set intake.ds2_passwords_file to a file with the device's password, then retry it.",
            )
        case Outcome.WRONG_PASSWORD:
            return RecordingError(
                "The recording is encrypted, and none of the configured passwords fits.",
                code="wrong_password",
                hint="Add the device's password to intake.ds2_passwords_file, then retry it.",
            )
        case Outcome.TOO_LARGE:
            return RecordingError(
                "Decoded, the recording is larger than the limit.",
                code="decoded_too_large",
                hint="Split the recording, or raise intake.max_size_mib.",
            )
        case Outcome.DISK_FULL:
            return DiskFullError("writing to processing/: No space left on device")
        case Outcome.IO_ERROR:
            return StorageError("decoding a recording in processing/: Input/output error", code="read_failed")
        case Outcome.NOT_LOCKED:
            return DecoderError(
                f"The decoder's process can't be locked on this machine ({platform.machine()}).",
                hint="Nothing is decoded without the lock. See `invox-watcher check`.",
            )
        case Outcome.OUT_OF_MEMORY:
            return _undecodable("decoding it takes too much memory")
        case _:
            return _undecodable("there is no sound in it that can be decoded")


def _undecodable(why: str) -> RecordingError:
    return RecordingError(
        f"The recording can't be decoded: {why}.", code="undecodable", hint=_UNDECODABLE_HINT
    )
