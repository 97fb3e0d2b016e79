"""MP4, M4A, 3GP and QuickTime: the boxes of ISO/IEC 14496-12, by their headers only.

What counts is the codec of the audio track, whatever the brand says: 3GP and QuickTime with AAC are read by
all that read an M4A, and AMR is none of the API's formats under any brand. A recorder writes the index
(`moov`) last: a file without it is still being written, or was truncated. Fragmented files begin with a short
one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from invox_watcher.audio._boxes import Box, TopLevel, children, top_level
from invox_watcher.audio._fragments import fragments_seconds
from invox_watcher.audio._info import (
    HINT_CONVERT,
    HINT_PROTECTED,
    HINT_VIDEO,
    AudioInfo,
    Completeness,
    not_audio,
    refused,
    seconds,
    uploadable,
)
from invox_watcher.audio._reader import Reader, big

_FIRST_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"})
_PICTURES = {b"heic": "HEIC image", b"heix": "HEIC image", b"mif1": "HEIF image", b"avif": "AVIF image"}
_CODECS = {
    b"mp4a": "AAC",
    b"alac": "ALAC",
    b".mp3": "MP3",
    b"Opus": "Opus",
    b"fLaC": "FLAC",
    b"samr": "AMR",
    b"sawb": "AMR-WB",
    b"ac-3": "AC-3",
    b"ec-3": "E-AC-3",
    b"apac": "APAC",
    **dict.fromkeys((b"sowt", b"twos", b"lpcm", b"in24", b"in32", b"fl32", b"raw ", b"NONE", b"ipcm"), "PCM"),
    b"ulaw": "µ-law",
    b"alaw": "A-law",
    b"ima4": "IMA ADPCM",
    b"agsm": "GSM 6.10",
}
_TAKEN = frozenset({b"mp4a", b"alac", b".mp3", b"Opus", b"fLaC", b""})
_PROTECTED = frozenset({b"enca", b"drms", b"encv", b"aavd"})
_UNKNOWN_DURATIONS = (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class _Track:
    id: int
    handler: bytes
    codec: bytes
    timescale: int
    length: int  # in the movie's units; 0 if unknown
    first_chunk: int | None  # the position of its first samples in the file


@dataclass
class _Movie:
    """The content of `moov`."""

    tracks: list[_Track] = field(default_factory=list)
    timescale: int = 0
    length: int = 0
    fragmented: bool = False
    default_sample_durations: dict[int, int] = field(default_factory=dict)  # by track

    @property
    def audio(self) -> _Track | None:
        """The track that is heard: the first, if there are several."""
        return next((track for track in self.tracks if track.handler == b"soun"), None)

    @property
    def duration_seconds(self) -> float | None:
        """The length of the track that is heard; None if there are others, much longer or shorter."""
        lengths = [track.length for track in self.tracks if track.handler == b"soun" and track.length]
        length = lengths[0] if lengths else self.length
        if self.fragmented or not length:  # the movie's length is without its fragments
            return None
        differ = any(abs(other - length) > self.timescale for other in lengths)
        return None if differ else seconds(length, self.timescale)


def read_mp4(reader: Reader, head: bytes) -> AudioInfo | None:
    """M4A, 3GP or QuickTime with its codec; video or an image; or None."""
    if not _looks_like_boxes(head):
        return None
    found = top_level(reader)
    brand = reader.at(found.ftyp.start, 4) if found.ftyp else b"qt  "
    if brand in _PICTURES:
        return not_audio(_PICTURES[brand])
    movie = _read_movie(reader, found.moov) if found.moov and found.moov.end <= reader.size else _Movie()
    completeness = _completeness(reader, found, movie)
    duration = movie.duration_seconds
    audio = movie.audio
    if movie.fragmented and audio:
        defaults = movie.default_sample_durations
        duration = fragments_seconds(reader, found, audio.id, audio.timescale, defaults.get(audio.id, 0))
    info = _info(brand, movie, completeness, duration)
    if audio and found.walked and not movie.fragmented and _is_displaced(found, audio):
        return replace(
            info,
            format=f"{info.format} whose index does not fit",
            container=None,
            hint=HINT_CONVERT,
            decodable=True,
            sound_start=found.ftyp.start - 8 if found.ftyp else 0,
        )
    holds_sound = bool(found.moov) and (found.has_mdat or bool(found.moofs))
    doubtful = completeness is Completeness.UNFINISHED or not found.ends_vouched
    return replace(
        info,
        declared_bytes=None if found.open_ended or not info.is_audio else found.end,
        decodable=info.decodable or (info.container is not None and holds_sound and doubtful),
        unclosed=found.cut_behind_sound,
        remark="the end of a box behind the sound is missing" if found.cut_behind_sound else "",
    )


def _is_displaced(found: TopLevel, audio: _Track) -> bool:
    """Whether the index points outside of the sound, because something was put before it."""
    if audio.first_chunk is None or found.mdats is None:
        return False
    return not found.mdats[0] <= audio.first_chunk < found.mdats[1]


def _info(brand: bytes, movie: _Movie, completeness: Completeness, duration: float | None) -> AudioInfo:
    family = "3GP" if brand[:3] in (b"3gp", b"3g2") else "QuickTime" if brand == b"qt  " else "MP4"
    handlers, audio = {track.handler for track in movie.tracks}, movie.audio
    if b"vide" in handlers:
        heard = audio is not None and audio.codec not in _PROTECTED
        return refused(
            f"{family} video", HINT_VIDEO, completeness, duration_seconds=duration, decodable=heard
        )
    if movie.tracks and audio is None:
        return not_audio(f"{family} without sound")
    codec = audio.codec if audio else b""
    name = _CODECS.get(codec, "".join(c for c in codec.decode("ascii", "ignore") if c.isprintable()))
    label = f"{'M4A' if family == 'MP4' else family}{f' ({name})' if name else ''}"
    if codec in _PROTECTED:
        return refused(f"{label}, protected against copying", HINT_PROTECTED, completeness)
    if codec not in _TAKEN:
        return refused(label, HINT_CONVERT, completeness, duration_seconds=duration, decodable=True)
    return uploadable(label, "m4a", completeness, duration_seconds=duration)


def _looks_like_boxes(head: bytes) -> bool:
    # The size of a first box fits into three bytes, but for `mdat`; "The free…" in a text is not one.
    kind = head[4:8]
    small = head[:1] == b"\0" or (kind == b"mdat" and head[:1] < b"\x20")
    return len(head) >= 8 and kind in _FIRST_BOXES and small


def _completeness(reader: Reader, found: TopLevel, movie: _Movie) -> Completeness:
    if found.end > reader.size or found.moov is None:
        return Completeness.UNFINISHED
    if movie.fragmented:  # only the index after the last fragment shows whether another one follows
        if not found.moofs:
            return Completeness.UNFINISHED
        return _end_of_fragments(reader, found)
    if not found.has_mdat:
        return Completeness.UNFINISHED if found.walked else Completeness.UNKNOWN
    ends = found.walked and not found.open_ended and not found.cut_behind_sound
    return Completeness.WHOLE if ends else Completeness.UNKNOWN


def _end_of_fragments(reader: Reader, found: TopLevel) -> Completeness:
    if not found.ends_vouched:
        return Completeness.UNKNOWN
    if found.has_mfra:
        return Completeness.WHOLE
    nothing_behind_moof = found.end == found.moofs[-1].end
    begun = 0 < reader.size - found.end < 8 and any(reader.at(found.end, 8))
    return Completeness.UNFINISHED if nothing_behind_moof or begun else Completeness.UNKNOWN


def _read_movie(reader: Reader, moov: Box) -> _Movie:
    movie = _Movie()
    for box in children(reader, moov):
        if box.type == b"mvhd":
            timescale, duration = _timing(reader, box)
            if duration not in _UNKNOWN_DURATIONS:
                movie.timescale, movie.length = timescale, duration
        elif box.type == b"trak":
            movie.tracks.append(_read_track(reader, box))
        elif box.type == b"mvex":
            movie.fragmented = True
            for child in children(reader, box):
                if child.type == b"trex":
                    data = reader.at(child.start, 16)
                    movie.default_sample_durations[big(data, 4, 4)] = big(data, 12, 4)
    return movie


def _read_track(reader: Reader, track: Box) -> _Track:
    number, length, handler, timescale, codec, first_chunk = 0, 0, b"", 0, b"", None
    pending = [track]
    while pending:
        for box in children(reader, pending.pop()):
            if box.type in (b"mdia", b"minf", b"stbl"):
                pending.append(box)
            elif box.type == b"tkhd":
                data = reader.at(box.start, 36)
                long = data[:1] == b"\x01"
                number = big(data, 20 if long else 12, 4)
                length = big(data, 28, 8) if long else big(data, 20, 4)
            elif box.type == b"mdhd":
                timescale, _ = _timing(reader, box)
            elif box.type == b"hdlr" and not handler:
                handler = reader.at(box.start, 12)[8:12]
            elif box.type == b"stsd":
                codec = reader.at(box.start, 16)[12:16]
            elif box.type in (b"stco", b"co64"):
                data = reader.at(box.start, 16)
                if big(data, 4, 4):
                    first_chunk = big(data, 8, 4 if box.type == b"stco" else 8)
    known = length not in _UNKNOWN_DURATIONS
    return _Track(number, handler, codec, timescale, length if known else 0, first_chunk)


def _timing(reader: Reader, box: Box) -> tuple[int, int]:
    """Units per second and the length in units, of `mvhd` and `mdhd`."""
    data = reader.at(box.start, 32)
    if data[:1] == b"\x01":  # 64-bit times
        return big(data, 20, 4), big(data, 24, 8)
    return big(data, 12, 4), big(data, 16, 4)
