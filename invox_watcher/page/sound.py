"""The sound of a recording, as a browser plays it: the recording, or WAV that the locked decoder makes of it.

What is made is in files of the state directory that have no name: they are deleted when they are closed, or
when the process ends, however that happens.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from invox_watcher.audio import AudioInfo, Completeness, identify
from invox_watcher.coverage import read_pcm
from invox_watcher.diagnostics.timeline import place_of
from invox_watcher.errors import DecoderError, RecordingError, RecordingVanishedError, StoppedError
from invox_watcher.files import Folders, open_unchanged
from invox_watcher.formats.decoder import Beginning, Decoder
from invox_watcher.job import Job
from invox_watcher.page.loudness import curve_of
from invox_watcher.page.model import Sound

# By what `audio.identify` calls them. Others are not played by Chromium, Firefox and Safari alike.
_PLAYED = {
    "WAV (PCM)": "audio/wav", "BWF (PCM)": "audio/wav",
    "WAV (float)": "audio/wav", "BWF (float)": "audio/wav",
    "MP3": "audio/mpeg", "M4A (AAC)": "audio/mp4", "FLAC": "audio/flac",
    "Ogg Opus": "audio/ogg", "Ogg Vorbis": "audio/ogg", "Ogg FLAC": "audio/ogg",
    "WebM (Opus)": "audio/webm", "WebM (Vorbis)": "audio/webm",
}  # fmt: skip
_NEEDS_ITS_END = "audio/mp4"  # where the index is
_BLOCK_BYTES = 256 << 10
_MOST_MADE_BYTES = 1 << 30  # of one recording, and of all that are kept
_SHARE_OF_FREE_SPACE = 4
_MOST_KEPT = 16
_KEPT_SECONDS = 900.0
_DECODING_SECONDS = 90.0  # a day of speech takes less
_TURN_SECONDS = 20.0
_MOST_CURVES = 500

# The recording that is asked about, as it is by now; None if it is no longer known.
Current = Callable[[], Job | None]


class _File:
    """A file without a name, which is deleted once no one reads it any more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size_bytes = os.fstat(descriptor).st_size
        weakref.finalize(self, os.close, descriptor)


@dataclass
class _Made:
    """What was made of a recording; `file` is None if nothing can be made of it."""

    file: _File | None
    used_at: float


class Sounds:
    """The sound of recordings. Safe for several threads; one recording is decoded at a time."""

    def __init__(self, folders: Folders, state: Path, decoder: Callable[[int], Decoder] | None) -> None:
        """`decoder` gives one whose output has at most that many bytes; None if there is none.

        What it makes is in the folder `state`.
        """
        self._folders = folders
        self._state = state
        self._decoder = decoder
        self._one = threading.Lock()
        self._lock = threading.Lock()  # guards what follows
        self._made: dict[str, _Made] = {}
        self._curves: dict[str, tuple[float, ...] | None] = {}

    def sound(self, current: Current) -> Sound | None:
        """What a browser can play; None if there is none.

        Raises:
            StorageError: it can't be read, or there is no space for what is made of it.
            DecoderError: others are being decoded; try later.
        """
        try:
            with self._opened(current) as (job, file):
                info = _identified(file)
                mime_type = _played_as(info)
                if mime_type is not None:
                    size_bytes = os.fstat(file.fileno()).st_size
                    return Sound(mime_type, size_bytes, partial(self._blocks_of_recording, current))
                made = self._decoded(job, file, info)
        except RecordingVanishedError:
            return None
        return None if made is None else Sound("audio/wav", made.size_bytes, partial(_blocks_of_file, made))

    def loudness(self, current: Current) -> Sequence[float] | None:
        """How loud it is in equal parts, 1 being the loudest of them; None if that can't be found out."""
        try:
            with self._opened(current) as (job, file):
                with self._lock:
                    if job.id in self._curves:
                        return self._curves[job.id]
                curve = self._curve(job, file)
        except RecordingVanishedError:
            return None
        with self._lock:
            self._curves[job.id] = curve
            while len(self._curves) > _MOST_CURVES:
                del self._curves[next(iter(self._curves))]
        return curve

    def close(self) -> None:
        """Delete what was made."""
        with self._lock:
            self._made.clear()

    # ---- the recording itself ----------------------------------------------------------------------------

    @contextmanager
    def _opened(self, current: Current) -> Iterator[tuple[Job, BinaryIO]]:
        with ExitStack() as stack:
            yield self._enter(stack, current)

    def _enter(self, stack: ExitStack, current: Current) -> tuple[Job, BinaryIO]:
        """The recording, wherever it is now. Raises RecordingVanishedError."""
        for is_last in (False, True):  # it may be moved between the question and the opening
            job = current()
            place = None if job is None else place_of(job, self._folders)
            if job is None or place is None:
                break
            try:
                return job, stack.enter_context(open_unchanged(*place, job.identity))
            except RecordingVanishedError:
                if is_last:
                    raise
        raise RecordingVanishedError("The recording was removed.")

    def _blocks_of_recording(self, current: Current, start: int, end: int) -> Iterator[bytes]:
        with self._opened(current) as (_job, file):
            yield from _blocks(file.fileno(), start, end)

    # ---- what is made of it ------------------------------------------------------------------------------

    def _decoded(self, job: Job, file: BinaryIO, info: AudioInfo) -> _File | None:
        """The recording as WAV, kept for a while; None if it can't be decoded."""
        if self._decoder is None or not info.is_audio:
            return None
        if (made := self._kept(job.id)) is not None:
            return made.file
        with self._turn():
            if (made := self._kept(job.id)) is not None:
                return made.file
            decoded = self._decode(file, info)
            self._keep(job.id, decoded)
        return decoded

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._one.acquire(timeout=_TURN_SECONDS):
            raise DecoderError(
                "Other recordings are being prepared for playing.",
                code="decoder_busy",
                hint="Try again in a minute.",
            )
        try:
            yield
        finally:
            self._one.release()

    def _decode(self, file: BinaryIO, info: AudioInfo) -> _File | None:
        free_bytes = shutil.disk_usage(self._state).free
        assert self._decoder is not None  # noqa: S101 - the caller has asked
        decoder = self._decoder(min(_MOST_MADE_BYTES, free_bytes // _SHARE_OF_FREE_SPACE))
        stop = threading.Event()
        limit = threading.Timer(_DECODING_SECONDS, stop.set)
        limit.daemon = True
        limit.start()
        try:
            with tempfile.TemporaryFile(dir=self._state, buffering=0) as target:
                beginning = Beginning(info.sound_header, info.sound_start)
                decoder.decode(file, cast("BinaryIO", target), "wav", stop, beginning)
                return _File(os.dup(target.fileno()))
        except (RecordingError, StoppedError, DecoderError):
            return None
        finally:
            limit.cancel()

    def _kept(self, job_id: str) -> _Made | None:
        with self._lock:
            if (made := self._made.pop(job_id, None)) is not None:
                made.used_at = time.monotonic()
                self._made[job_id] = made  # the last one now
            return made

    def _keep(self, job_id: str, file: _File | None) -> None:
        with self._lock:
            self._made[job_id] = _Made(file, time.monotonic())
            while len(self._made) > 1 and self._are_too_many():
                del self._made[next(iter(self._made))]
        self._discard_later()

    def _are_too_many(self) -> bool:
        sizes = [made.file.size_bytes for made in self._made.values() if made.file is not None]
        return len(self._made) > _MOST_KEPT or sum(sizes) > _MOST_MADE_BYTES

    def _discard_later(self) -> None:
        timer = threading.Timer(_KEPT_SECONDS, self._discard_old)
        timer.daemon = True
        timer.start()

    def _discard_old(self) -> None:
        """Delete what was not used for a while."""
        with self._lock:
            before = time.monotonic() - _KEPT_SECONDS
            self._made = {name: made for name, made in self._made.items() if made.used_at > before}
            some_left = bool(self._made)
        if some_left:
            self._discard_later()

    # ---- how loud it is ----------------------------------------------------------------------------------

    def _curve(self, job: Job, file: BinaryIO) -> tuple[float, ...] | None:
        if (pcm := read_pcm(file.fileno())) is not None:
            return curve_of(pcm)
        info = _identified(file)
        if _played_as(info) is None:
            made = self._decoded(job, file, info)
        elif self._decoder is None:
            made = None
        else:
            with self._turn():
                made = self._decode(file, info)
        pcm = None if made is None else read_pcm(made.descriptor)
        return None if pcm is None else curve_of(pcm)


def _identified(file: BinaryIO) -> AudioInfo:
    return identify(file, os.fstat(file.fileno()).st_size)


def _played_as(info: AudioInfo) -> str | None:
    """The MIME type under which browsers play it as it is; None if they don't."""
    mime_type = _PLAYED.get(info.format)
    if info.sound_header or info.sound_start:
        return None
    if mime_type == _NEEDS_ITS_END and info.completeness is Completeness.UNFINISHED:
        return None
    return mime_type


def _blocks_of_file(made: _File, start: int, end: int) -> Iterator[bytes]:
    yield from _blocks(made.descriptor, start, end)


def _blocks(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    while start < end and (block := os.pread(descriptor, min(_BLOCK_BYTES, end - start), start)):
        yield block
        start += len(block)
