"""Identifies a recording by its content: format, duration, whether it is complete, and what to do if not.

The readers are our own and read headers only. To tell whether a file is complete, its container must be
walked anyway, which also gives the duration. PyAV would expose 100 MB of C parsers inside the daemon to
hostile input; puremagic and filetype misidentify several of these formats; tinytag and mutagen lack some, and
mutagen is GPL. File names are ignored: an MP3 called `.wav` is an MP3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from invox_watcher.audio._ebml import read_ebml
from invox_watcher.audio._flac import read_flac
from invox_watcher.audio._foreign import read_foreign
from invox_watcher.audio._id3 import audio_start
from invox_watcher.audio._info import HINT_CONVERT, HINT_NOT_AUDIO, AudioInfo, Completeness, not_audio
from invox_watcher.audio._magic import (
    read_ac3,
    read_beginning,
    read_magic,
    read_text,
    read_transport_stream,
    read_zeros,
)
from invox_watcher.audio._mp4 import read_mp4
from invox_watcher.audio._mpeg import read_mpeg
from invox_watcher.audio._ogg import read_ogg
from invox_watcher.audio._reader import BudgetSpentError, Reader
from invox_watcher.audio._riff import read_wave

# From the most reliable signature to the vaguest; each returns None for what it does not recognise.
_READERS = (
    read_wave,
    read_flac,
    read_ogg,
    read_ebml,
    read_mp4,
    read_foreign,
    read_magic,
    read_transport_stream,
    read_ac3,
    read_mpeg,
    read_zeros,
    read_beginning,
    read_text,
)
# Those that do not know of ID3v2 tags themselves.
_CONTAINERS = (read_wave, read_ogg, read_ebml, read_mp4)
_HEAD_BYTES = 4096
_TAIL_BYTES = 512
# Samples are never zero for that long, except in silence made by a computer.
_SAMPLES_TAIL_BYTES = 64

# The vendor's spellings first, then IANA's: see the list of accepted types in the API's description.
_MIME_TYPES = {
    "wav": ("audio/wav", "audio/x-wav"),
    "mp3": ("audio/mp3", "audio/mpeg"),
    "m4a": ("audio/m4a", "audio/mp4", "audio/x-m4a"),
    "flac": ("audio/flac",),
    "ogg": ("audio/ogg",),
    "webm": ("audio/webm",),
}


def identify(file: BinaryIO, size_bytes: int) -> AudioInfo:
    """Identify `file` by its first `size_bytes` bytes.

    Reads at most 1 MiB in at most 2,000 reads, however large the file is; open it with `buffering=0`, or the
    buffer reads more. Raises only OSError, whatever the content. Moves the file's position.
    """
    reader = Reader(file, size_bytes)
    try:
        head = reader.at(0, _HEAD_BYTES)
        if not head:
            return not_audio("empty file", "The file is empty. Record it or copy it again.")
        tag_bytes = audio_start(reader, head)
        if tag_bytes and (info := _behind_tag(reader, tag_bytes)) is not None:
            return info
        for read in _READERS:
            if (info := read(reader, head)) is not None:
                return _doubt_zeros(reader, info)
    except BudgetSpentError:
        return not_audio("endless header", HINT_NOT_AUDIO)
    return not_audio("unknown data", HINT_NOT_AUDIO)


def _behind_tag(reader: Reader, tag_bytes: int) -> AudioInfo | None:
    """A container behind an ID3v2 tag, which belongs to MP3; None if there is none."""
    inside = reader.after(tag_bytes)
    head = inside.at(0, _HEAD_BYTES)
    for read in _CONTAINERS:
        if (info := read(inside, head)) is not None:
            info = _doubt_zeros(inside, info)
            declared = None if info.declared_bytes is None else info.declared_bytes + tag_bytes
            info = replace(info, declared_bytes=declared, sound_start=info.sound_start + tag_bytes)
            if not info.is_audio:
                return info
            if read is read_mp4 and info.container is not None:  # positions in it don't count the tag
                name = f"{info.format} behind an ID3 tag"
                return replace(info, format=name, container=None, hint=HINT_CONVERT, decodable=True)
            return replace(info, decodable=True, remark=info.remark or "an ID3 tag stands before it")
    return None


def mime_type(container: str, accepted: Sequence[str]) -> str | None:
    """The MIME type for an `AudioInfo.container`, out of those `accepted`; None if none fits."""
    return _first_accepted(_MIME_TYPES.get(container, ()), accepted)


def current_mime_type(announced: str, accepted: Sequence[str]) -> str:
    """The type to announce now for what got the type `announced` when others were accepted."""
    same = next((words for words in _MIME_TYPES.values() if announced.strip() in words), ())
    return _first_accepted(same, accepted) or announced


def _first_accepted(words: Sequence[str], accepted: Sequence[str]) -> str | None:
    as_written = {word.strip(): word for word in accepted}
    return next((as_written[word] for word in words if word in as_written), None)


def _doubt_zeros(reader: Reader, info: AudioInfo) -> AudioInfo:
    # A copy into preallocated space has the final header and size from the start; silence looks the same.
    if info.completeness is Completeness.WHOLE and info.declared_bytes is not None:
        length = min(_SAMPLES_TAIL_BYTES if info.container == "wav" else _TAIL_BYTES, info.declared_bytes)
        tail = reader.at(info.declared_bytes - length, length)
        if not any(tail):
            return replace(info, completeness=Completeness.UNKNOWN)
    return info
