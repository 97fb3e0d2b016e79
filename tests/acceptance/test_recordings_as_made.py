"""Recordings as recorders, phones, browsers and pipes leave them: what plays goes through, what is cut fails.

Each case is one of its kind: other sizes, tags and lengths of the kind are to be read by the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from invox_watcher.audio import Completeness
from tests.kit.audio import assert_harmless, identify_bytes
from tests.kit.odd_recordings import (
    SECONDS,
    amr,
    ape_tag,
    le32,
    make_sources,
    part,
    patched,
    second_half,
    wav_sizes,
    with_chunk,
    xing,
)

WHOLE, UNFINISHED, UNKNOWN = Completeness.WHOLE, Completeness.UNFINISHED, Completeness.UNKNOWN
Sources = Mapping[str, bytes]
Make = Callable[[Sources], bytes]
ID3_EMPTY = b"ID3\3\0\0\0\0\0\0"
ID3_PADDED = b"ID3\4\0\0\0\0\1\0" + bytes(128)
PICTURE = bytes(number % 251 for number in range(0, 2_100_000, 7))
SOUND = 160_000  # bytes in a.wav


class Case(NamedTuple):
    """What is said of a file: `container` None if it can't be sent as it is; `seconds` None if unknown."""

    name: str
    make: Make
    format: str
    container: str | None
    completeness: Completeness
    seconds: float | None = SECONDS
    decodable: bool = False
    unclosed: bool = False


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return make_sources(tmp_path_factory.mktemp("sources"))


def named(name: str) -> Make:
    return lambda sources: sources[name]


def wav(*, sound: int | None = None, riff: int | None = None) -> Make:
    return lambda sources: wav_sizes(sources["a.wav"], sound=sound, riff=riff)


def behind(name: str, tail: bytes) -> Make:
    return lambda sources: sources[name] + tail


def before(name: str, head: bytes) -> Make:
    return lambda sources: head + sources[name]


def joined(*names: str) -> Make:
    return lambda sources: b"".join(sources[name] for name in names)


def cut(name: str, percent: int) -> Make:
    return lambda sources: part(sources[name], percent)


def fact(name: str, samples: int) -> Make:
    return lambda sources: patched(sources[name], sources[name].index(b"fact") + 8, le32(samples))


def filler(chunk: bytes) -> Make:
    return lambda sources: (
        sources["a.wav"][:4]
        + bytes(4)
        + sources["a.wav"][8:36]
        + chunk
        + b"data\0\0\0\0"
        + sources["a.wav"][44:]
    )


BRANDS = [
    Case("3gp", named("a.3gp"), "3GP (AAC)", "m4a", WHOLE),
    Case("3g2", named("a.3g2"), "3GP (AAC)", "m4a", WHOLE),
    Case("mov", named("aac.mov"), "QuickTime (AAC)", "m4a", WHOLE),
    Case("alac", named("alac.mov"), "QuickTime (ALAC)", "m4a", WHOLE),
    Case("no brand", lambda s: b"\0\0\0\x1cskip" + s["a.m4a"][8:], "QuickTime (AAC)", "m4a", WHOLE),
    Case("odd brand", lambda s: patched(s["a.m4a"], 8, b"XAVC"), "M4A (AAC)", "m4a", WHOLE),
    Case("pcm", named("pcm.mov"), "QuickTime (PCM)", None, WHOLE, decodable=True),
    Case("ac3", named("ac3.mp4"), "M4A (AC-3)", None, WHOLE, 5.02, decodable=True),
    Case(
        "amr as isom",
        lambda s: s["a.m4a"].replace(b"mp4a", b"samr"),
        "M4A (AMR)",
        None,
        WHOLE,
        decodable=True,
    ),
    # Whatever is put before the first box moves the sound from where the index says it is.
    Case(
        "free box in front",
        before("a.m4a", b"\0\0\0\x10free" + bytes(8)),
        "M4A (AAC) whose index does not fit",
        None,
        WHOLE,
        decodable=True,
    ),
]
NO_SIZE = [
    Case("zero", wav(sound=0), "WAV (PCM)", "wav", UNKNOWN, decodable=True, unclosed=True),
    Case("zeros", wav(sound=0, riff=0), "WAV (PCM)", "wav", UNKNOWN, decodable=True, unclosed=True),
    Case("riff 36", wav(sound=0, riff=36), "WAV (PCM)", "wav", UNKNOWN, decodable=True, unclosed=True),
    Case("riff endless", wav(sound=0, riff=0xFFFFFFFF), "WAV (PCM)", "wav", UNKNOWN, SECONDS, True, True),
    *[
        Case(
            f"filler {name!r}",
            filler(name + le32(size) + bytes(size)),
            "WAV (PCM)",
            "wav",
            UNKNOWN,
            SECONDS,
            True,
            True,
        )
        for name, size in [(b"FLLR", 4044), (b"junk", 28), (b"PAD ", 456)]
    ],
]
PLACEHOLDERS = [
    Case(f"{size:#x}", wav(sound=size, riff=riff), "WAV (PCM)", "wav", UNKNOWN)
    for size, riff in [
        (0x80000000, 0x80000024),  # arecord
        (0x7FFF0000, 0x7FFF0024),  # GStreamer
        (0x7FFFF000, 0x7FFFF024),  # SoX
        *[(0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFF9B, None), (0xFFFFFFDB, 0xFFFFFFFF), (0x7FFFFFD3, 0x7FFFFFFF)],
        *[(2_000_000_000, None), (0x7F000000, 0), (0x40000000, None), (0xF0000000, 0xF0000024)],
    ]
]
SLOPPY = [
    *[
        Case(f"sound {more:+}", wav(sound=SOUND + more), "WAV (PCM)", "wav", UNKNOWN)
        for more in (1, 8, 16, 28, 44, SOUND, 3 * SOUND)
    ],
    *[
        Case(f"riff {riff}", wav(riff=riff), "WAV (PCM)", "wav", UNKNOWN, unclosed=True)
        for riff in (SOUND + 136, 2 * SOUND, 10 * SOUND)
    ],
]
BEHIND_M4A = [
    Case(f"{name}-{tail[:6]!r}", behind(name, tail), "M4A (AAC)", "m4a", WHOLE)
    for name in ("a.m4a", "fast.m4a")
    for tail in (
        b"TAG" + b"Round, ward 3".ljust(125, b"\0"),
        b"TAG".ljust(128, b" "),
        ape_tag(),
        ape_tag()[32:],
        ID3_PADDED,
        b"LYRICSBEGININD00002000000018LYRICS200",
        b"Recorded with a recorder, 2026\r\n",
        b"<?xml version='1.0'?><memo/>",
        bytes(700),
        b"\n",
    )
]
BEHIND_M4A += [
    Case(
        "a box that is cut",
        behind("a.m4a", b"\0\1\0\0free" + bytes(100)),
        "M4A (AAC)",
        "m4a",
        UNKNOWN,
        unclosed=True,
    )
]
MP3_HEADERS = [
    *[
        case
        for name in ("vbr.mp3", "cbr.mp3")
        for case in [
            Case(
                f"{name} zero",
                lambda s, n=name: xing(s[n], frames=0, more_bytes=0),
                "MP3",
                "mp3",
                UNKNOWN,
                5.1,
                False,
                True,
            ),
            *[
                Case(
                    f"{name} {more:+}",
                    lambda s, n=name, m=more: xing(s[n], more_bytes=m),
                    "MP3",
                    "mp3",
                    UNKNOWN,
                    5.08,
                )
                for more in (10, 45, 128, 227)
            ],
        ]
    ],
    Case("late sound", before("bare.mp3", bytes(200_000)), "MP3", "mp3", UNKNOWN, 5.08),
    Case("later than 64 KiB", before("bare.mp3", bytes(70_000)), "MP3", "mp3", UNKNOWN, 5.08),
    Case(
        "picture, small tag", before("bare.mp3", b"ID3\3\0\0\0\0\2\0" + PICTURE), "MP3", "mp3", UNKNOWN, 5.08
    ),
    # Players go by the tag's size, and miss sound, or all of it: not sent as it is.
    *[
        Case(name, before("bare.mp3", head), f"MP3 behind {what}", None, UNKNOWN, 5.08, decodable=True)
        for name, head, what in [
            ("tag covers sound", b"ID3\3\0\0\0\x12\x7f\x7f" + PICTURE, "a damaged tag"),
            ("tag covers the file", b"ID3\3\0\0\0\x7f\x7f\x7f" + PICTURE, "a damaged tag"),
            ("picture of 3 MB", b"ID3\3\0\0\0\0\2\0" + PICTURE * 10, "other data"),
        ]
    ],
    *[
        Case(f"id3 {name}", before(name, tag), label, container, WHOLE, decodable=True)
        for tag in (ID3_EMPTY, ID3_PADDED)
        for name, label, container in [("a.wav", "WAV (PCM)", "wav"), ("a.opus", "Ogg Opus", "ogg")]
    ],
    Case("id3 flac", before("a.flac", ID3_PADDED), "FLAC", "flac", WHOLE),
    Case("id3 m4a", before("a.m4a", ID3_PADDED), "M4A (AAC) behind an ID3 tag", None, WHOLE, decodable=True),
]
ENDS_VOUCHED = [
    Case("tenths", named("tenths.mp4"), "M4A (AAC)", "m4a", WHOLE, 70.8),
    Case("long", named("seconds.mp4"), "M4A (AAC)", "m4a", WHOLE, 748.3),
    Case("1,500 fragments", named("many.mp4"), "M4A (AAC)", "m4a", WHOLE, 151.7),
    Case(
        "1,500 fragments, no index",
        lambda s: s["many.mp4"][: s["many.mp4"].rindex(b"mfra") - 4],
        "M4A (AAC)",
        "m4a",
        UNKNOWN,
        151.7,
    ),
    Case(
        "cut between fragments",
        lambda s: s["many.mp4"][: s["many.mp4"].rindex(b"moof") - 4],
        "M4A (AAC)",
        "m4a",
        UNKNOWN,
        151.6,
    ),
    Case(
        "no index",
        lambda s: s["seconds.mp4"][: s["seconds.mp4"].rindex(b"mfra") - 4],
        "M4A (AAC)",
        "m4a",
        UNKNOWN,
        748.3,
    ),
    Case("live", named("live.webm"), "WebM (Opus)", "webm", UNKNOWN),
    Case("live vorbis", named("vorbis.webm"), "WebM (Vorbis)", "webm", UNKNOWN),
    Case("long live", named("long.webm"), "WebM (Opus)", "webm", UNKNOWN, 700),
    Case("piped", named("piped.flac"), "FLAC", "flac", UNKNOWN),
    Case("piped 24 bit", named("piped24.flac"), "FLAC", "flac", UNKNOWN),
]
LENGTHS = [
    Case("late opus", lambda s: second_half(s["long.opus"]), "Ogg Opus", "ogg", WHOLE, 31),
    Case("late vorbis", lambda s: second_half(s["long_vorbis.ogg"]), "Ogg Vorbis", "ogg", WHOLE, 31),
    Case("late flac", lambda s: second_half(s["long_flac.ogg"]), "Ogg FLAC", "ogg", WHOLE, 30.8),
    Case("two opus", joined("a.opus", "long.opus"), "Ogg Opus", "ogg", WHOLE, 65),
    Case("twice opus", joined("a.opus", "a.opus"), "Ogg Opus", "ogg", WHOLE, 10),
    Case("three", joined("a.opus", "vorbis.ogg", "speex.ogg"), "Ogg Opus", "ogg", WHOLE, 15),
    Case("40 minutes", named("hour.opus"), "Ogg Opus", "ogg", WHOLE, 2400),
    Case("40 minutes and more", joined("hour.opus", "a.opus"), "Ogg Opus", "ogg", WHOLE, None),
    Case("one serial", joined("vorbis.ogg", "vorbis.ogg", "vorbis.ogg"), "Ogg Vorbis", "ogg", WHOLE, 15),
    Case("few tenths twice", joined("few.mp4", "few.mp4"), "M4A (AAC)", "m4a", WHOLE, 13.5),
    Case("no tfdt", lambda s: s["few.mp4"].replace(b"tfdt", b"free"), "M4A (AAC)", "m4a", WHOLE, 6.76),
    Case(
        "long, no tfdt", lambda s: s["seconds.mp4"].replace(b"tfdt", b"free"), "M4A (AAC)", "m4a", WHOLE, None
    ),
    Case("two mp3", joined("vbr.mp3", "cbr.mp3"), "MP3", "mp3", WHOLE, 10.15),
    Case("two tagged mp3", joined("tagged.mp3", "tagged.mp3"), "MP3", "mp3", WHOLE, 10.15),
    Case("bare and not", joined("bare.mp3", "vbr.mp3"), "MP3", "mp3", UNKNOWN, 10.2),
    Case("two rates", joined("bare.mp3", "bare128.mp3"), "MP3", "mp3", UNKNOWN, 11.9),
    Case("long vbr", named("vbr_long.mp3"), "MP3", "mp3", UNKNOWN, None),
    *[
        Case(
            f"{name} fact {samples}",
            fact(name, samples),
            f"WAV ({label})",
            "wav",
            WHOLE,
            seconds,
            decodable=True,
        )
        for name, label, seconds in [
            ("ima.wav", "IMA ADPCM", 5.1),
            ("ms.wav", "Microsoft ADPCM", 5.09),
            ("gsm.wav", "GSM 6.10", 5),
        ]
        for samples in (0, 1, 1_000_000, 0xFFFFFFFF)
    ],
    Case("zeros behind mp3", behind("bare.mp3", bytes(20_000)), "MP3", "mp3", UNKNOWN, 5.08),
    Case("many zeros behind mp3", behind("noisy.mp3", bytes(60_000)), "MP3", "mp3", WHOLE, 5.08),
    Case("frame of 1 byte", lambda s: patched(s["a.wav"], 32, b"\1\0"), "WAV (PCM)", "wav", WHOLE),
]
NAMES = [
    Case("dvf", lambda _: b"MS_VOICE\0\1" + PICTURE, "Sony DVF or MSV", None, UNKNOWN, None),
    Case(
        "qcp", lambda _: b"RIFF\0\1\0\0QLCMfmt " + PICTURE, "QCP (QCELP or EVRC)", None, UNKNOWN, None, True
    ),
    Case("wv", named("a.wv"), "WavPack", None, WHOLE, decodable=True),
    Case("tta", named("a.tta"), "TTA", None, UNKNOWN, decodable=True),
    Case("ac3", named("a.ac3"), "AC-3", None, UNKNOWN, None, decodable=True),
    Case("eac3", named("a.eac3"), "E-AC-3", None, UNKNOWN, None, decodable=True),
    Case("dts", named("a.dts"), "DTS", None, UNKNOWN, None, decodable=True),
    Case("voc", named("a.voc"), "Creative Voice", None, UNKNOWN, None, decodable=True),
    Case("ts", named("a.ts"), "MPEG transport stream", None, UNKNOWN, None, decodable=True),
    Case("m2ts", named("a.m2ts"), "MPEG transport stream", None, UNKNOWN, None, decodable=True),
    Case("adts", named("a.aac"), "AAC (ADTS)", None, UNKNOWN, 5.12, decodable=True),
    Case("aiff", named("a.aiff"), "AIFF", None, WHOLE, decodable=True),
    Case("caf", named("a.caf"), "CAF", None, WHOLE, decodable=True),
    Case("au", named("a.au"), "AU", None, WHOLE, decodable=True),
    Case("w64", named("a.w64"), "Wave64 (PCM)", None, WHOLE, decodable=True),
    Case("wma", named("a.wma"), "WMA", None, UNKNOWN, 5.02, decodable=True),
    Case("amr", lambda _: amr(250), "AMR", None, UNKNOWN, decodable=True),
    Case(
        "dss",
        lambda _: patched(b"\2dss".ljust(1536, b"\0"), 0x3E, b"000205") + bytes(range(1, 129)) * 2000,
        "DSS",
        None,
        UNKNOWN,
        125,
        decodable=True,
    ),
    Case(
        "free format",
        # 200 kbit/s, which no table has: a frame of 653 bytes at 44.1 kHz
        lambda _: b"\xff\xfb\x00\x64".ljust(653, b"\x55") * 60,
        "MP3 (free format)",
        None,
        UNKNOWN,
        None,
    ),
    Case("rifx", lambda s: _rifx(s["a.wav"]), "big-endian WAV (PCM)", None, WHOLE, decodable=True),
    *[
        Case(
            f"unpadded {chunk[:4]!r}",
            lambda s, c=chunk: with_chunk(s["a.wav"], c),
            f"{'BWF' if chunk[:4] == b'bext' else 'WAV'} (PCM) with a chunk that is not padded",
            None,
            WHOLE,
            decodable=True,
        )
        for chunk in (b"LIST\5\0\0\0INFOx", b"bext" + le32(603) + bytes(602) + b"x", b"note\7\0\0\0patient")
    ],
    Case(
        "chunk too long",
        lambda s: patched(
            with_chunk(s["a.wav"], b"LIST" + le32(26) + b"INFOISFT" + bytes(18)), 40, le32(9_000_000)
        ),
        "WAV (PCM) with a damaged header",
        None,
        UNKNOWN,
        decodable=True,
    ),
    Case("padded", lambda s: with_chunk(s["a.wav"], b"LIST\5\0\0\0INFOx\0"), "WAV (PCM)", "wav", WHOLE),
]
EMPTY = [
    Case(
        "header", lambda s: wav_sizes(s["a.wav"], sound=0)[:44], "WAV (PCM)", "wav", WHOLE, 0, unclosed=True
    ),
    Case(
        "header, riff 36",
        lambda s: wav_sizes(s["a.wav"], sound=0, riff=36)[:44],
        "WAV (PCM)",
        "wav",
        WHOLE,
        0,
        unclosed=True,
    ),
    Case(
        "header and note",
        lambda s: wav_sizes(s["a.wav"], sound=0, riff=54)[:44] + b"LIST" + le32(10) + b"INFOISFT\0\0",
        "WAV (PCM)",
        "wav",
        WHOLE,
        0,
    ),
]
HEADERS_THAT_LIE = [
    Case("3 s of 5", wav(sound=96_000, riff=96_036), "WAV (PCM)", "wav", UNKNOWN, None, True, True),
    Case("3 s, riff right", wav(sound=96_000), "WAV (PCM)", "wav", UNKNOWN, None, True, True),
    *[
        Case(
            f"{size} bytes",
            wav(sound=size, riff=riff),
            f"WAV (PCM) whose header covers {size:,} of 160,000 bytes",
            None,
            UNKNOWN,
            None,
            decodable=True,
            unclosed=True,
        )
        for size, riff in [(1000, None), (1000, 1036), (2, None)]
    ],
]
TABLE = {
    "brand": BRANDS,
    "no size": NO_SIZE,
    "placeholder": PLACEHOLDERS,
    "sloppy size": SLOPPY,
    "behind m4a": BEHIND_M4A,
    "mp3 and id3": MP3_HEADERS,
    "end vouched": ENDS_VOUCHED,
    "length": LENGTHS,
    "name": NAMES,
    "empty": EMPTY,
    "header lies": HEADERS_THAT_LIE,
}


def _unclosed_rf64(wav: bytes) -> bytes:
    """As a writer to a pipe leaves it: all sizes zero, or in the chunk of the large ones."""
    sizes = b"ds64" + le32(28) + bytes(28)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + wav[12:40] + b"\xff\xff\xff\xff" + wav[44:]


def _rifx(wav: bytes) -> bytes:
    """The same, with all numbers the other way round."""
    numbers = ((4, 4), (16, 4), (20, 2), (22, 2), (24, 4), (28, 4), (32, 2), (34, 2), (40, 4))
    for offset, length in numbers:
        wav = patched(wav, offset, wav[offset : offset + length][::-1])
    return b"RIFX" + wav[4:]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{kind}: {case.name}") for kind, cases in TABLE.items() for case in cases]
)
def test_recordings_as_they_are_made(case: Case, sources: Sources) -> None:
    info = assert_harmless(case.make(sources))
    assert (info.format, info.container, info.completeness) == (
        case.format,
        case.container,
        case.completeness,
    )
    if case.seconds is None:
        assert info.duration_seconds is None
    else:
        assert info.duration_seconds == pytest.approx(case.seconds, abs=max(0.1, case.seconds / 50))
    assert (info.decodable, info.unclosed) == (case.decodable, case.unclosed)
    if case.container is None:
        assert info.hint
        assert "again" not in info.hint or "save it again" in info.hint  # copying helps none of them


CUT = [
    *[("tenths.mp4", percent) for percent in (5, 30, 50, 80, 99)],
    *[("many.mp4", percent) for percent in (60, 77, 90, 99)],
    *[("seconds.mp4", percent) for percent in (20, 60, 80, 97)],
    *[("few.mp4", percent) for percent in (33, 61, 87)],
    *[("live.webm", percent) for percent in (21, 47, 60, 94)],
    *[("long.webm", percent) for percent in (3, 60, 77, 99)],
    *[("vorbis.webm", percent) for percent in (45, 61, 92)],
    *[("piped.flac", percent) for percent in (31, 60, 93)],
    *[("piped24.flac", percent) for percent in (31, 60, 93)],
    *[("bare.mp3", percent) for percent in (31, 60, 93)],
    *[(name, 60) for name in ("a.wav", "a.m4a", "fast.m4a", "aac.mov", "cbr.mp3", "vbr.mp3", "a.flac")],
    *[(name, 60) for name in ("a.opus", "a.webm", "long.opus", "hour.opus")],
    # What a decoder could read goes no further either.
    *[(name, 60) for name in ("a.aac", "a.aiff", "a.caf", "a.au", "a.w64", "a.wma", "a.wv", "pcm.mov")],
]


@pytest.mark.parametrize(("name", "percent"), CUT)
def test_what_was_cut_is_never_taken_for_complete(name: str, percent: int, sources: Sources) -> None:
    info = assert_harmless(part(sources[name], percent))
    assert info.completeness is UNFINISHED


@pytest.mark.parametrize("name", ["live.webm", "piped.flac", "few.mp4", "bare.mp3"])
def test_most_cuts_of_a_stream_without_a_length_are_seen(name: str, sources: Sources) -> None:
    """Only a cut at the very end of a block can't be."""
    data = sources[name]
    positions = range(len(data) // 3, len(data), 97)
    seen = sum(identify_bytes(data[:end]).completeness is UNFINISHED for end in positions)
    assert seen / len(positions) > 0.9
    assert all(identify_bytes(data[:end]).completeness is not WHOLE for end in positions)


def test_a_decoder_gets_the_sound_without_what_misleads_it(sources: Sources) -> None:
    plain = sources["a.wav"]
    for data in (
        wav_sizes(plain, sound=1000),
        wav_sizes(plain, sound=96_000),
        with_chunk(plain, b"note\7\0\0\0patient"),
    ):
        info = identify_bytes(data)
        mended = info.sound_header + data[info.sound_start :]
        assert identify_bytes(mended).duration_seconds == pytest.approx(SECONDS)
        assert identify_bytes(mended).completeness is WHOLE
    for head, name in [(ID3_PADDED, "a.wav"), (ID3_PADDED, "a.m4a"), (b"\0\0\0\x10free" + bytes(8), "a.m4a")]:
        assert identify_bytes(head + sources[name]).sound_start == len(head)
    for head in (b"ID3\3\0\0\0\x7f\x7f\x7f" + PICTURE, b"ID3\3\0\0\0\0\2\0" + PICTURE * 10):
        assert identify_bytes(head + sources["bare.mp3"]).sound_start == len(head)


def test_what_is_odd_about_a_recording_is_said(sources: Sources) -> None:
    plain = sources["a.wav"]
    remarks = {
        "counts no sound": wav_sizes(plain, sound=0),
        "64,000 bytes lie outside": wav_sizes(plain, sound=96_000),
        "28 bytes of sound too many": wav_sizes(plain, sound=SOUND + 28),
        "more behind the sound": wav_sizes(plain, riff=10 * SOUND),
        "an ID3 tag": ID3_PADDED + plain,
        "128 bytes too many": xing(sources["cbr.mp3"], more_bytes=128),
    }
    for says, data in remarks.items():
        assert says in identify_bytes(data).remark
    assert identify_bytes(plain).remark == ""
