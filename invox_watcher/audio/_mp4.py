"""MP4, M4A, 3GP and QuickTime: the boxes of ISO/IEC 14496-12, by their headers only.

An MP4 with audio only is an M4A, whatever its brand. A recorder writes the index (`moov`) last: a file
without it is still being written, or was truncated. Fragmented files begin with a short `moov`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from invox_watcher.audio._info import (
    HINT_VIDEO,
    AudioInfo,
    Completeness,
    not_audio,
    refused,
    seconds,
    uploadable,
)
from invox_watcher.audio._reader import Reader, big

_MAX_BOXES = 1000
_MAX_CHILDREN = 200
_FIRST_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_PICTURES = {b"heic": "HEIC image", b"heix": "HEIC image", b"mif1": "HEIF image", b"avif": "AVIF image"}
_QUICKTIME = b"qt  "
_CODECS = {
    b"mp4a": "AAC",
    b"alac": "ALAC",
    b".mp3": "MP3",
    b"Opus": "Opus",
    b"fLaC": "FLAC",
    b"samr": "AMR",
    b"sawb": "AMR-WB",
    b"ac-3": "AC-3",
}
_UNKNOWN_DURATIONS = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class _Box:
    type: bytes
    start: int  # of its content
    end: int
    open_ended: bool = False  # a size of 0: up to the end of the file


@dataclass
class _File:
    """The result of walking the top-level boxes."""

    moov: _Box | None = None
    has_mdat: bool = False
    open_ended: bool = False
    last_moof: _Box | None = None
    has_mfra: bool = False
    end: int = 0  # of the last box
    walked: bool = True  # False: too many boxes


@dataclass
class _Movie:
    """The content of `moov`."""

    handlers: set[bytes] = field(default_factory=set)
    codec: str = ""
    duration_seconds: float | None = None
    fragmented: bool = False
    audio_timescale: int = 0
    default_sample_duration: int = 0


def read_mp4(reader: Reader, head: bytes) -> AudioInfo | None:
    """M4A with its codec; MP4 video, 3GP, QuickTime or an image; or None."""
    if not _looks_like_boxes(head):
        return None
    brand = head[8:12] if head[4:8] == b"ftyp" else _QUICKTIME
    if brand in _PICTURES:
        return not_audio(_PICTURES[brand])
    file = _walk(reader)
    movie = _read_movie(reader, file.moov) if file.moov and file.moov.end <= reader.size else _Movie()
    completeness = _completeness(reader, file, movie)
    duration = movie.duration_seconds
    if duration is None and file.last_moof is not None:
        duration = _fragments_end(reader, file.last_moof, movie)
    family = "3GP" if brand[:3] in (b"3gp", b"3g2") else "QuickTime" if brand == _QUICKTIME else "MP4"
    if b"vide" in movie.handlers:
        return refused(f"{family} video", HINT_VIDEO, completeness, duration_seconds=duration)
    if movie.handlers and b"soun" not in movie.handlers:
        return not_audio(f"{family} without sound")
    label = f" ({movie.codec})" if movie.codec else ""
    if family != "MP4":
        return refused(f"{family}{label}", completeness=completeness, duration_seconds=duration)
    return uploadable(
        f"M4A{label}",
        "m4a",
        completeness,
        duration_seconds=duration,
        declared_bytes=None if file.open_ended else file.end,
    )


def _looks_like_boxes(head: bytes) -> bool:
    # The size of a first box fits into three bytes; "The free…" in a text does not look like one.
    return len(head) >= 8 and head[0] == 0 and head[4:8] in _FIRST_BOXES


def _completeness(reader: Reader, file: _File, movie: _Movie) -> Completeness:
    if file.end > reader.size or file.moov is None:
        return Completeness.UNFINISHED
    if movie.fragmented:  # only the index after the last fragment shows whether another one follows
        if file.last_moof is None:
            return Completeness.UNFINISHED
        return Completeness.WHOLE if file.has_mfra else Completeness.UNKNOWN
    if not file.has_mdat:
        return Completeness.UNFINISHED if file.walked else Completeness.UNKNOWN
    return Completeness.WHOLE if file.walked and not file.open_ended else Completeness.UNKNOWN


def _walk(reader: Reader) -> _File:
    file = _File(walked=False)
    for number, box in enumerate(_boxes(reader, 0, reader.size)):
        if number == _MAX_BOXES:
            return file
        file.end = box.end
        file.open_ended = box.open_ended
        if box.type == b"moov":
            file.moov = box
        elif box.type == b"mdat":
            file.has_mdat = True
        elif box.type == b"moof":
            file.last_moof = box
        elif box.type == b"mfra":
            file.has_mfra = True
    file.walked = True
    return file


def _boxes(reader: Reader, start: int, end: int) -> Iterator[_Box]:
    """The boxes between two positions; ends at anything that is not a box, such as trailing zeros."""
    while end - start >= 8:
        header = reader.at(start, 16)
        size, kind, payload = big(header, 0, 4), header[4:8], start + 8
        if not (len(kind) == 4 and kind.isascii() and kind.decode("ascii").isprintable()):
            return
        if size == 1:
            size, payload = big(header, 8, 8), start + 16
        box_end = start + size if size else end
        if box_end < payload:
            return
        yield _Box(kind, payload, box_end, open_ended=size == 0)
        start = box_end


def _children(reader: Reader, parent: _Box) -> Iterator[_Box]:
    for number, box in enumerate(_boxes(reader, parent.start, parent.end)):
        if number == _MAX_CHILDREN:
            return
        yield box


def _read_movie(reader: Reader, moov: _Box) -> _Movie:
    movie = _Movie()
    for box in _children(reader, moov):
        if box.type == b"mvhd":
            timescale, duration = _timing(reader, box)
            if duration not in _UNKNOWN_DURATIONS:
                movie.duration_seconds = seconds(duration, timescale)
        elif box.type == b"trak":
            _read_track(reader, box, movie)
        elif box.type == b"mvex":
            movie.fragmented = True
            for child in _children(reader, box):
                if child.type == b"trex":
                    movie.default_sample_duration = big(reader.at(child.start, 16), 12, 4)
    if movie.fragmented:
        movie.duration_seconds = None  # `mvhd` counts only what is not in fragments
    return movie


def _read_track(reader: Reader, track: _Box, movie: _Movie) -> None:
    handler, timescale, codec = b"", 0, b""
    pending = [track]
    while pending:
        for box in _children(reader, pending.pop()):
            if box.type in (b"mdia", b"minf", b"stbl"):
                pending.append(box)
            elif box.type == b"mdhd":
                timescale, _ = _timing(reader, box)
            elif box.type == b"hdlr" and not handler:
                handler = reader.at(box.start, 12)[8:12]
            elif box.type == b"stsd":
                codec = reader.at(box.start, 16)[12:16]
    movie.handlers.add(handler)
    if handler == b"soun" and not movie.codec:
        movie.codec = _CODECS.get(
            codec, "".join(c for c in codec.decode("ascii", "ignore") if c.isprintable())
        )
        movie.audio_timescale = timescale


def _timing(reader: Reader, box: _Box) -> tuple[int, int]:
    """Units per second and the length in units, of `mvhd` and `mdhd`."""
    data = reader.at(box.start, 32)
    if data[:1] == b"\x01":  # 64-bit times
        return big(data, 20, 4), big(data, 24, 8)
    return big(data, 12, 4), big(data, 16, 4)


def _fragments_end(reader: Reader, moof: _Box, movie: _Movie) -> float | None:
    """Where the last fragment ends: its start and the lengths of its samples."""
    for track in _children(reader, moof):
        if track.type != b"traf":
            continue
        start = samples = 0
        default = movie.default_sample_duration
        for box in _children(reader, track):
            if box.type == b"tfhd":
                default = _default_sample_duration(reader.at(box.start, 32)) or default
            elif box.type == b"tfdt":
                data = reader.at(box.start, 12)
                start = big(data, 4, 8 if data[:1] == b"\x01" else 4)
            elif box.type == b"trun":
                samples += _run_length(reader, box, default)
        return seconds(start + samples, movie.audio_timescale)
    return None


def _default_sample_duration(tfhd: bytes) -> int:
    flags = big(tfhd, 1, 3)
    before = (8 if flags & 1 else 0) + (4 if flags & 2 else 0)
    return big(tfhd, 8 + before, 4) if flags & 8 else 0


def _run_length(reader: Reader, trun: _Box, default: int) -> int:
    data = reader.at(trun.start, min(trun.end - trun.start, 64 << 10))
    flags, count = big(data, 1, 3), big(data, 4, 4)
    if not flags & 0x100:  # no durations of their own
        return count * default
    first = 8 + (4 if flags & 1 else 0) + (4 if flags & 4 else 0)
    step = 4 * (flags >> 8 & 0xF).bit_count()
    return sum(big(data, offset, 4) for offset in range(first, min(first + count * step, len(data)), step))
