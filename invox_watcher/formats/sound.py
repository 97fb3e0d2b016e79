"""Decoding by FFmpeg, in the worker: every format but those of `dictation` that it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import av
import av.container
import av.logging

from invox_watcher.formats.encoding import File, Sink
from invox_watcher.formats.facts import text

# Formats whose headers give the sound's length, so that FFmpeg need not estimate it from a bit rate.
_DECLARING = frozenset({"mov", "asf", "aiff", "wv", "ape", "au", "flac"})
# FFmpeg's own decoders of AMR don't know its comfort noise, which is what telephones send in pauses.
_BETTER_DECODERS = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
_LONGEST_SECONDS = 366 * 86400.0
_ID3V1_BYTES, _ZERO_BYTES = 128, 16
# After so many errors in a row nothing more is to be expected.
_MOST_ERRORS_IN_A_ROW = 1000
_ATTRIBUTES = {
    "author": ("artist", "author", "originator", "album_artist", "composer"),
    "device": (
        "device",
        "com.apple.quicktime.model",
        "com.android.manufacturer",
        "make",
        "model",
        "encoded_by",
    ),
    "recorded_at": ("creation_time", "com.apple.quicktime.creationdate", "date", "origination_date"),
    "comment": ("comment", "description", "com.apple.quicktime.comment"),
    "title": ("title",),
}


@dataclass
class Decoded:
    """What the decoding of one recording showed, besides its sound."""

    codec: str = ""
    declared_seconds: float | None = None
    errors: int = 0
    ends_in_error: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def attributes(self) -> dict[str, str]:
        """Who, with what, when, by the tags."""
        tags = {name.lower(): value for name, value in self.tags.items()}
        found = {
            attribute: next((tags[name] for name in names if tags.get(name)), "")
            for attribute, names in _ATTRIBUTES.items()
        }
        return {name: value for name, value in found.items() if value}

    def failed(self, *, at_end: bool = True) -> None:
        """One more packet could not be decoded; `at_end`: if it is the last one, something is missing."""
        self.errors += 1
        self.ends_in_error = at_end


def decode(file: File, sink: Sink) -> Decoded:
    """Write all the sound that can be decoded to `sink`; what has none leaves it empty.

    Raises:
        OSError: the recording can't be read, or the output not written.
    """
    decoded = Decoded()
    try:
        with av.open(file, "r", metadata_errors="replace") as container:
            _decode(container, sink, decoded)
    except (av.FFmpegError, ValueError):  # ValueError: no such stream, or a rate that can't be encoded
        decoded.failed()
    return decoded


def _declared_seconds(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    names, seconds = set(container.format.name.split(",")), None
    if names & _DECLARING and stream.duration and stream.time_base:
        seconds = float(stream.duration * stream.time_base)
    elif "matroska" in names and container.duration:
        seconds = container.duration / av.time_base
    return seconds if seconds is not None and 0 < seconds < _LONGEST_SECONDS else None


def _is_padding(data: bytes) -> bool:
    """Whether it ends as what programs put behind a recording: an ID3v1 tag, or zeros."""
    return data[-_ID3V1_BYTES:].startswith(b"TAG") or not any(data[-_ZERO_BYTES:])


def _codec_for(stream: av.AudioStream) -> av.AudioCodecContext:
    context = stream.codec_context
    if (better := _BETTER_DECODERS.get(context.name)) is not None:
        rate, layout = context.sample_rate, context.layout
        context = cast("av.AudioCodecContext", av.CodecContext.create(better, "r"))
        context.sample_rate, context.layout = rate, layout
    context.thread_count = 1  # the lock allows no threads
    context.thread_type = "NONE"
    return context


def _decode(container: av.container.InputContainer, sink: Sink, decoded: Decoded) -> None:
    stream = cast("av.AudioStream", container.streams.best("audio") or container.streams.audio[0])
    codec = _codec_for(stream)
    decoded.codec = stream.codec_context.name
    decoded.tags = {text(k): text(v) for k, v in {**container.metadata, **stream.metadata}.items()}
    decoded.declared_seconds = _declared_seconds(container, stream)
    in_a_row = 0
    for packet in container.demux(stream):
        try:
            frames = codec.decode(packet)
        except av.FFmpegError as error:
            if isinstance(error, av.EOFError):
                break
            decoded.failed(at_end=not _is_padding(bytes(packet)))
            in_a_row += 1
            if in_a_row > _MOST_ERRORS_IN_A_ROW:
                break
            continue
        if frames:
            decoded.ends_in_error, in_a_row = packet.is_corrupt, 0
            for frame in frames:
                sink.write(frame)
