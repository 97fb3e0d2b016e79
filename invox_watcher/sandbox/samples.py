"""Recordings of real speech for the demo and the tests, and a converter that needs no ffmpeg program.

Both need the `sandbox` extra: the recordings lie in the wheel of moonshine-voice, PyAV converts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import av

_CODECS = {
    ".wav": "pcm_s16le",
    ".mp3": "libmp3lame",
    ".m4a": "aac",
    ".flac": "flac",
    ".ogg": "libopus",
    ".webm": "libopus",
}
_RATE = 16_000


def speech_samples() -> list[Path]:
    """People reading aloud: the opening of A Tale of Two Cities (44 s), and six lines by Beckett (10 s).

    The wheel's other recordings are chimes, or voices of which it is not certain that they are people's.
    Raises ModuleNotFoundError if the `sandbox` extra is not installed.
    """
    from moonshine_voice import get_assets_path  # noqa: PLC0415 - optional

    return [Path(get_assets_path()) / name for name in ("two_cities.wav", "beckett.wav")]


def convert(source: Path, target: Path, *, start_seconds: float, seconds: float) -> None:
    """Write that stretch of `source` as 16 kHz mono in the format of `target`'s suffix.

    Suffixes: wav, mp3, m4a, flac, ogg and webm (both Opus). Cuts fall on frames of the source, so within a
    tenth of a second. Raises ValueError for another suffix, and ModuleNotFoundError without the extra.
    """
    import av  # noqa: PLC0415 - optional

    codec = _CODECS.get(target.suffix.lower())
    if codec is None:
        raise ValueError(f"{target.name}: can't write this format; the suffixes are {', '.join(_CODECS)}")
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = cast("av.AudioStream", writer.add_stream(codec, rate=_RATE, layout="mono"))
        position_seconds = 0.0
        for frame in reader.decode(audio=0):
            if position_seconds >= start_seconds + seconds:
                break
            position_seconds += frame.samples / frame.sample_rate
            if position_seconds > start_seconds:
                frame.pts = None  # counted again, so that the stretch starts at zero
                writer.mux(stream.encode(frame))
        writer.mux(stream.encode(None))
