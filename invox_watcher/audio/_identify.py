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
from invox_watcher.audio._info import HINT_NOT_AUDIO, AudioInfo, Completeness, not_audio
from invox_watcher.audio._magic import read_beginning, read_magic, read_text, read_zeros
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
    read_magic,
    read_mpeg,
    read_zeros,
    read_beginning,
    read_text,
)
_HEAD_BYTES = 4096
_TAIL_BYTES = 512

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
        for read in _READERS:
            if (info := read(reader, head)) is not None:
                return _doubt_zeros(reader, info)
    except BudgetSpentError:
        return not_audio("endless header", HINT_NOT_AUDIO)
    return not_audio("unknown data", HINT_NOT_AUDIO)


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
        tail = reader.at(max(0, info.declared_bytes - _TAIL_BYTES), min(_TAIL_BYTES, info.declared_bytes))
        if not any(tail):
            return replace(info, completeness=Completeness.UNKNOWN)
    return info
