"""What is said in a recording: real speech recognition if it is installed, else placeholder sentences.

PyAV decodes whatever FFmpeg knows; Moonshine's tiny English model, in its wheel, does the recognizing.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invox_watcher.sandbox.ledger import Segment
from invox_watcher.sandbox.recognition import Recognize, UndecodableError
from invox_watcher.sandbox.settings import Recognizer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

_INSTALL = "pip install 'PATH[sandbox]', where PATH is the wheel of invox-watcher or a clone of it"
_RATE = 16_000
_LONGEST_SECONDS = 600
# Moonshine's binding converts its input to Python floats at once, blocking other threads: 60 ms for a window,
# two seconds for ten minutes.
_WINDOW_SECONDS = 30
_CUT_SEARCH_SECONDS = 10
_CUT_FRAME_SECONDS = 0.1

# FFmpeg's names of the containers behind the vendor's MIME types, and of the codecs in those that hold many.
_FORMATS: Mapping[str, frozenset[str] | None] = {
    **dict.fromkeys(("wav", "flac", "ogg")),
    "mp3": frozenset({"mp3", "mp3float"}),
    "mov,mp4,m4a,3gp,3g2,mj2": frozenset({"aac", "alac", "mp3", "mp3float", "opus", "libopus", "flac"}),
    "matroska,webm": frozenset({"opus", "libopus", "vorbis"}),
}

_model_lock = threading.Lock()


def recognizer(choice: Recognizer) -> Recognize:
    """The function that recognizes. Raises ModuleNotFoundError for `speech` where the extra is missing."""
    if choice == "none":
        return _from_digest
    if importlib.util.find_spec("av") and importlib.util.find_spec("moonshine_voice"):
        return _recognize
    if choice == "speech":
        raise ModuleNotFoundError(f"speech recognition is not installed; install it with: {_INSTALL}")
    return _not_installed


def refuse(_path: Path, _sha256: str) -> tuple[Segment, ...]:
    """A recognizer that never understands anything. Raises UndecodableError."""
    raise UndecodableError("The audio has too little speech to be transcribed.")


def _from_digest(_path: Path, sha256: str) -> tuple[Segment, ...]:
    mark = sha256[:12]
    return (
        Segment(0.0, 1.5, f"This is recording {mark}.", 0),
        Segment(1.5, 3.25, "Is that what was dictated?", 1),
        Segment(3.5, 5.0, f"No, only the first digits of its checksum: {mark}.", 0),
    )


def _not_installed(_path: Path, _sha256: str) -> tuple[Segment, ...]:
    text = f"No speech recognition is installed in this sandbox, so these words were not said. {_INSTALL}"
    return (Segment(0.0, 5.0, text),)


def _recognize(path: Path, _sha256: str) -> tuple[Segment, ...]:
    # One at a time in the whole process: the model takes all cores anyway.
    with _model_lock:
        return tuple(
            Segment(offset + line.start_time, offset + line.start_time + line.duration, line.text)
            for offset, samples in _windows(path)
            for line in _model().transcribe_without_streaming(samples, _RATE).lines
            if line.text
        )


@functools.cache
def _model() -> Any:
    from moonshine_voice import ModelArch, get_model_path  # noqa: PLC0415 - optional, half a second to import
    from moonshine_voice.transcriber import Transcriber  # noqa: PLC0415

    return Transcriber(get_model_path("tiny-en"), ModelArch.TINY, options={"return_audio_data": "false"})


def _windows(path: Path) -> Iterator[tuple[float, Samples]]:
    """The recording's first ten minutes as (offset in seconds, samples), cut where it is quiet."""
    import numpy as np  # noqa: PLC0415 - optional

    offset = 0
    pending: list[Samples] = []
    for samples in _decoded(path):
        pending.append(samples)
        if sum(map(len, pending)) >= _WINDOW_SECONDS * _RATE:
            joined = np.concatenate(pending)
            cut = _quiet_place(joined)
            yield offset / _RATE, joined[:cut]
            offset += cut
            pending = [joined[cut:]]
        if offset >= _LONGEST_SECONDS * _RATE:
            return
    if pending:
        yield offset / _RATE, np.concatenate(pending)
    elif not offset:
        raise UndecodableError("The recording holds no audio.")


def _quiet_place(samples: Samples) -> int:
    """The index of the middle of the quietest tenth of a second near the end."""
    frame = int(_CUT_FRAME_SECONDS * _RATE)
    count = int(_CUT_SEARCH_SECONDS / _CUT_FRAME_SECONDS)
    frames = samples[-frame * count :].reshape(count, frame)
    quietest = int((frames**2).sum(axis=1).argmin())
    return len(samples) - frame * (count - quietest) + frame // 2


def _decoded(path: Path) -> Iterator[Samples]:
    """The recording's samples, 16 kHz mono, a frame at a time: all that can be decoded if it is damaged."""
    import av  # noqa: PLC0415 - optional

    resampler = av.AudioResampler(format="flt", layout="mono", rate=_RATE)
    try:
        with av.open(str(path)) as container:
            _check_format(container)
            for frame in _frames(container):
                yield from (part.to_ndarray()[0] for part in resampler.resample(frame))
            yield from (part.to_ndarray()[0] for part in resampler.resample(None))
    except av.FFmpegError:
        raise UndecodableError("The recording is not audio in a format that can be decoded.") from None


def _check_format(container: Any) -> None:
    """Raises UndecodableError for what is none of the vendor's formats, whatever type it was sent as."""
    if not container.streams.audio:
        raise UndecodableError("The recording has no audio track.")
    codecs = _FORMATS.get(container.format.name, frozenset())
    if codecs is not None and container.streams.audio[0].codec.name not in codecs:
        raise UndecodableError("The format of the recording is not supported.")


def _frames(container: Any) -> Iterator[Any]:
    """The frames of the packets that can be decoded, until no more packets can be read."""
    import av  # noqa: PLC0415 - optional

    packets = container.demux(audio=0)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            return
        if packet is None:
            return
        with contextlib.suppress(av.FFmpegError):
            yield from packet.decode()
