"""`audio` against real files by ffmpeg: what they are, how long they are, and whether they are whole."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from invox_watcher.audio._identify import identify, mime_type
from invox_watcher.audio._info import AudioInfo, Completeness
from tests.kit.audio_samples import RECIPES, SECONDS, ffprobe_seconds, make

WHOLE, UNFINISHED, UNKNOWN = Completeness.WHOLE, Completeness.UNFINISHED, Completeness.UNKNOWN
THE_VENDORS_TYPES = (
    *("audio/x-wav", "audio/wav", "audio/mp3", "audio/m4a"),
    *("audio/flac", "audio/ogg", "audio/webm"),
)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(RECIPES, tmp_path_factory.mktemp("audio"))


@pytest.fixture
def sample(samples: dict[str, Path]) -> Callable[[str], bytes]:
    return lambda name: samples[name].read_bytes()


def look_at(path: Path) -> AudioInfo:
    with path.open("rb", buffering=0) as file:
        return identify(file, path.stat().st_size)


def look(data: bytes) -> AudioInfo:
    return identify(io.BytesIO(data), len(data))


# What it is


UPLOADABLE = {
    "pcm.wav": ("WAV (PCM)", "wav", WHOLE),
    "float.wav": ("WAV (float)", "wav", WHOLE),
    "alaw.wav": ("WAV (A-law)", "wav", WHOLE),
    "mulaw.wav": ("WAV (µ-law)", "wav", WHOLE),
    "gsm.wav": ("WAV (GSM 6.10)", "wav", WHOLE),
    "adpcm.wav": ("WAV (IMA ADPCM)", "wav", UNKNOWN),  # its last block is filled up with zeros
    "extensible.wav": ("WAV (PCM)", "wav", WHOLE),
    "odd.wav": ("WAV (PCM)", "wav", WHOLE),
    "bwf.wav": ("BWF (PCM)", "wav", WHOLE),
    "rf64.wav": ("RF64 (PCM)", "wav", WHOLE),
    "piped.wav": ("WAV (PCM)", "wav", UNKNOWN),
    "vbr.mp3": ("MP3", "mp3", WHOLE),
    "cbr.mp3": ("MP3", "mp3", WHOLE),
    "bare.mp3": ("MP3", "mp3", UNKNOWN),
    "stereo44.mp3": ("MP3", "mp3", WHOLE),
    "tagged.mp3": ("MP3", "mp3", WHOLE),
    "piped.mp3": ("MP3", "mp3", UNKNOWN),
    "aac.m4a": ("M4A (AAC)", "m4a", WHOLE),
    "faststart.m4a": ("M4A (AAC)", "m4a", WHOLE),
    "fragmented.m4a": ("M4A (AAC)", "m4a", WHOLE),
    "alac.m4a": ("M4A (ALAC)", "m4a", WHOLE),
    "sound_only.mp4": ("M4A (AAC)", "m4a", WHOLE),
    "s16.flac": ("FLAC", "flac", WHOLE),
    "stereo24.flac": ("FLAC", "flac", WHOLE),
    "piped.flac": ("FLAC", "flac", UNKNOWN),
    "opus.ogg": ("Ogg Opus", "ogg", WHOLE),
    "vorbis.ogg": ("Ogg Vorbis", "ogg", WHOLE),
    "flac.ogg": ("Ogg FLAC", "ogg", WHOLE),
    "speex.ogg": ("Ogg Speex", "ogg", WHOLE),
    "opus.webm": ("WebM (Opus)", "webm", WHOLE),
    "vorbis.webm": ("WebM (Vorbis)", "webm", WHOLE),
    "live.webm": ("WebM (Opus)", "webm", UNKNOWN),
}
NOT_TAKEN = {
    "aac.aac": ("AAC (ADTS)", "Convert"),
    "layer2.mp2": ("MP2", "Convert"),
    "voice.3gp": ("3GP (AAC)", "Convert"),
    "opus.mka": ("Matroska (Opus)", "Convert"),
    "sound.mov": ("QuickTime (sowt)", "Convert"),
    "sound.aiff": ("AIFF", "Convert"),
    "sound.caf": ("CAF", "Convert"),
    "sound.au": ("AU", "Convert"),
    "sound.wma": ("WMA", "Convert"),
    "sound.w64": ("Wave64", "Convert"),
    "sound.ra": ("RealMedia", "Convert"),
    "film.mp4": ("MP4 video", "audio track"),
    "film.mov": ("QuickTime video", "audio track"),
    "film.webm": ("WebM video", "audio track"),
    "film.mkv": ("Matroska video", "audio track"),
    "film.ogv": ("Ogg video", "audio track"),
    "film.avi": ("AVI video", "audio track"),
    "film.wmv": ("WMV video", "audio track"),
}
PICTURES = {"photo.jpg": "JPEG image", "photo.png": "PNG image"}
WITHOUT_DURATION = {"piped.flac", "live.webm"}  # by ffprobe


def test_every_recipe_is_looked_at() -> None:
    assert {*UPLOADABLE, *NOT_TAKEN, *PICTURES} == set(RECIPES)


@pytest.mark.parametrize("name", UPLOADABLE)
def test_what_the_api_takes(name: str, samples: dict[str, Path]) -> None:
    info = look_at(samples[name])
    assert (info.format, info.container, info.completeness) == UPLOADABLE[name]
    assert info.is_audio
    assert info.hint == ""
    assert mime_type(info.container or "", THE_VENDORS_TYPES)
    if name not in WITHOUT_DURATION:
        assert info.duration_seconds == pytest.approx(ffprobe_seconds(samples[name]), abs=0.02)


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_sound_that_the_api_does_not_take_comes_with_advice(name: str, samples: dict[str, Path]) -> None:
    info = look_at(samples[name])
    format, hint = NOT_TAKEN[name]
    assert (info.format, info.container, info.is_audio) == (format, None, True)
    assert hint in info.hint


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str, samples: dict[str, Path]) -> None:
    assert (look_at(samples[name]).format, look_at(samples[name]).is_audio) == (PICTURES[name], False)


@pytest.mark.parametrize(
    ("start", "format"),
    [
        (b"\x02dss", "DSS"),
        (b"\x03dss", "DSS"),
        (b"\x06dss", "DSS"),
        (b"\x03ds2", "DS2"),
        (b"\x01ds2", "DS2"),
        (b"\x07ds2", "DS2"),
        (b"\x03enc", "DS2 (encrypted)"),
    ],
)
def test_dictation_formats_are_to_be_exported_from_the_device(start: bytes, format: str) -> None:
    info = look(start + bytes(1532) + b"\x0f\x03" * 256)
    assert (info.format, info.container, info.is_audio) == (format, None, True)
    assert "Export it from the dictation device" in info.hint


@pytest.mark.parametrize(
    ("start", "format"), [(b"#!AMR\n", "AMR"), (b"#!AMR-WB\n", "AMR-WB"), (b".ra\xfd\0\x04", "RealAudio")]
)
def test_formats_that_ffmpeg_cannot_write(start: bytes, format: str) -> None:
    info = look(start + b"\x3c\x91\x17" * 100)
    assert (info.format, info.container, info.is_audio) == (format, None, True)


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj", "PDF document"),
        (b"Dear colleague,\r\n\r\nthank you for sending\tthis patient.", "plain text"),
        ("Sehr geehrte Frau Kollegin, Grüße".encode("latin-1"), "plain text"),
        ("\ufeffGrüße".encode(), "plain text"),
        ("\ufeffGrüße aus der Station drei".encode("utf-16-le"), "plain text"),
        ("\ufeffGrüße aus der Station drei".encode("utf-16-be"), "plain text"),
        (b"The free text of a letter, with a box's name at the place of a box.", "plain text"),
        (b"\n<!DOCTYPE html><title>Login</title>", "HTML page"),
        (b"<HTML><body>", "HTML page"),
        (b"MZ\x90\0\x03" + bytes(60), "Windows program"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(60), "Office document"),
        (bytes(128) + b"DICM\x02\0\0\0", "DICOM image"),
        (bytes(range(1, 256)) * 8, "unknown data"),
        (b"", "empty file"),
    ],
)
def test_what_is_no_sound_at_all(data: bytes, format: str) -> None:
    info = look(data)
    assert (info.format, info.container, info.is_audio) == (format, None, False)
    assert info.completeness is UNKNOWN
    assert info.hint


def test_a_program_and_an_office_document(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "letter.docx.wav", "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>")
    assert look_at(tmp_path / "letter.docx.wav").format == "ZIP archive or Office document"
    assert look_at(Path(os.path.realpath(sys.executable))).format == "Linux program"


@pytest.mark.parametrize("data", [b"RIF", b"R", b"fLa", b"Ogg", b"\0\0\0\x20ft", b"ID", b"\x1a\x45", b"#!A"])
def test_the_first_bytes_of_a_recording_are_waited_for(data: bytes) -> None:
    assert (look(data).format, look(data).completeness) == ("beginning of a recording", UNFINISHED)


def test_a_short_note_is_not_waited_for() -> None:
    assert (look(b"OK").format, look(b"OK").completeness) == ("plain text", UNKNOWN)


# Whether it is all there


DECLARES_ITS_LENGTH = [name for name, (_, _, completeness) in UPLOADABLE.items() if completeness is WHOLE]


@pytest.mark.parametrize("name", DECLARES_ITS_LENGTH)
def test_a_file_that_grows_slowly_is_not_whole_before_its_end(
    name: str, sample: Callable[[str], bytes]
) -> None:
    data = sample(name)
    tag = 128 if name == "tagged.mp3" else 0  # behind the sound, which is whole without it
    end = len(data) - tag
    lengths = {*range(1, 200), *range(1, end, max(1, end // 300)), *range(end - 100, end)}
    early = [length for length in sorted(lengths) if look(data[:length]).completeness is WHOLE]
    assert not early
    assert look(data[:end]).completeness is WHOLE
    assert look(data[: end // 2]).completeness is not WHOLE


@pytest.mark.parametrize("name", [name for name in DECLARES_ITS_LENGTH if name != "fragmented.m4a"])
def test_a_file_that_stays_cut_off_is_told_from_a_whole_one(
    name: str, sample: Callable[[str], bytes]
) -> None:
    data = sample(name)
    for share in (0.3, 0.7, 0.95):
        info = look(data[: int(len(data) * share)])
        assert info.completeness is UNFINISHED
        assert info.container == UPLOADABLE[name][1]
        assert "incomplete" in info.hint
        if info.declared_bytes is not None:
            assert int(len(data) * share) < info.declared_bytes <= len(data)


@pytest.mark.parametrize("name", ["pcm.wav", "rf64.wav", "aac.m4a", "s16.flac", "opus.webm", "cbr.mp3"])
@pytest.mark.parametrize("junk", [bytes(1000), b"\0"])
def test_padding_behind_the_declared_end_does_no_harm(
    name: str, junk: bytes, sample: Callable[[str], bytes]
) -> None:
    assert look(sample(name) + junk).completeness is WHOLE


@pytest.mark.parametrize("name", DECLARES_ITS_LENGTH)
def test_space_reserved_for_the_rest_does_not_make_it_whole(
    name: str, sample: Callable[[str], bytes]
) -> None:
    data = sample(name)
    assert look(data[: len(data) // 2].ljust(len(data), b"\0")).completeness is not WHOLE


def test_zeros_are_a_recording_to_come() -> None:
    info = look(bytes(100_000))
    assert (info.format, info.completeness) == ("only zeros so far", UNFINISHED)


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    for offset, new in changes:
        data = data[:offset] + new + data[offset + len(new) :]
    return data


UNSET = b"\xff" * 4


@pytest.mark.parametrize(
    ("riff_size", "data_size", "expected"),
    [
        (bytes(4), bytes(4), UNFINISHED),
        ((36).to_bytes(4, "little"), bytes(4), UNFINISHED),
        (UNSET, bytes(4), UNFINISHED),
        (UNSET, UNSET, UNKNOWN),
        ((0x7FFFF024).to_bytes(4, "little"), (0x7FFFF000).to_bytes(4, "little"), UNKNOWN),  # SoX
        (UNSET, None, UNKNOWN),
        (bytes(4), None, UNKNOWN),
        (None, (54401).to_bytes(4, "little"), UNFINISHED),
        ((100_000).to_bytes(4, "little"), None, UNFINISHED),
        (None, None, WHOLE),
    ],
)
def test_wav_headers_that_are_not_what_they_should_be(
    riff_size: bytes | None,
    data_size: bytes | None,
    expected: Completeness,
    sample: Callable[[str], bytes],
) -> None:
    data = sample("pcm.wav")
    data_at = data.index(b"data") + 4
    changes = [(4, riff_size or data[4:8]), (data_at, data_size or data[data_at : data_at + 4])]
    info = look(patched(data, *changes))
    assert info.completeness is expected
    assert info.duration_seconds == pytest.approx(SECONDS, abs=0.01)


@pytest.mark.parametrize("off_by", [1, 8])
def test_a_wav_that_counts_a_few_bytes_too_many_is_left_to_the_quiet_path(
    off_by: int, sample: Callable[[str], bytes]
) -> None:
    data = sample("pcm.wav")
    assert look(patched(data, (4, (len(data) - 8 + off_by).to_bytes(4, "little")))).completeness is UNKNOWN


def test_other_chunks_of_a_wav_before_and_behind_the_sound(sample: Callable[[str], bytes]) -> None:
    data = sample("pcm.wav")
    note = b"LIST" + (5).to_bytes(4, "little") + b"INFOx" + b"\0"  # odd, so padded
    sound_at = data.index(b"data")
    for chunks in (
        data[12:sound_at] + note + data[sound_at:],
        data[12:] + note,
    ):
        whole = b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WAVE" + chunks
        info = look(whole)
        assert (info.completeness, info.declared_bytes) == (WHOLE, len(whole))
        assert info.duration_seconds == pytest.approx(SECONDS)
        assert look(whole[:-9]).completeness is UNFINISHED


def test_an_m4a_without_its_index_is_unfinished(sample: Callable[[str], bytes]) -> None:
    data = sample("aac.m4a")
    info = look(data[: data.index(b"moov") - 4])
    assert (info.container, info.completeness) == ("m4a", UNFINISHED)


def test_mp4_boxes_with_64_bit_sizes_and_without_one(sample: Callable[[str], bytes]) -> None:
    data = sample("faststart.m4a")
    start = data.index(b"mdat") - 4
    size = len(data) - start
    big_box = (1).to_bytes(4, "big") + b"mdat" + (size + 8).to_bytes(8, "big") + data[start + 8 :]
    assert look(data[:start] + big_box).completeness is WHOLE
    assert look(data[:start] + big_box[:-1]).completeness is UNFINISHED
    assert look(patched(data, (start, bytes(4)))).completeness is UNKNOWN


def test_a_fragmented_m4a_cut_between_fragments_cannot_be_told(sample: Callable[[str], bytes]) -> None:
    data = sample("fragmented.m4a")
    info = look(data[: data.rindex(b"moof") - 4])
    assert info.completeness is UNKNOWN
    assert info.duration_seconds == pytest.approx(1.0, abs=0.6)


def test_flac_behind_an_id3_tag_and_before_one(sample: Callable[[str], bytes]) -> None:
    data = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + sample("s16.flac")
    info = look(data)
    assert (info.format, info.completeness) == ("FLAC", WHOLE)
    assert info.duration_seconds == pytest.approx(SECONDS)
    assert look(data + b"TAG" + bytes(125)).completeness is WHOLE
    assert look(data + b"something else").completeness is UNKNOWN


def test_opus_counts_what_is_heard_not_what_the_decoder_skips(sample: Callable[[str], bytes]) -> None:
    assert look(sample("opus.ogg")).duration_seconds == pytest.approx(SECONDS, abs=0.001)


def test_ogg_without_the_mark_of_the_last_page_is_unknown(sample: Callable[[str], bytes]) -> None:
    data = sample("opus.ogg")
    last_page = data.rindex(b"OggS")
    assert look(data[:last_page]).completeness is UNKNOWN
    assert look(patched(data, (last_page + 5, b"\0"))).completeness is UNKNOWN
    assert look(patched(data, (len(data) - 9, b"\xaa\x55"))).completeness is UNKNOWN
    assert look(data + b"OggS").completeness is UNFINISHED


# MP3, which has no container


@pytest.mark.parametrize("garbage", [bytes(2000), b"\xff\xfb\x90\x64" * 100, b"RIP of \xff\xf3 " * 900])
def test_garbage_before_the_first_frame_of_an_mp3(garbage: bytes, sample: Callable[[str], bytes]) -> None:
    info = look(garbage + sample("bare.mp3"))
    assert info.format == "MP3"
    assert info.duration_seconds == pytest.approx(1.8, abs=0.02)


def test_frames_that_do_not_agree_with_each_other_are_no_mp3() -> None:
    at_44100, at_48000 = b"\xff\xfb\x90\x64".ljust(417, b"\0"), b"\xff\xfb\x94\x64".ljust(384, b"\0")
    assert look(b"\x01" + (at_44100 + at_48000) * 20).format == "unknown data"
    assert look(b"\x01" + at_44100 * 20).format == "MP3"


def test_mp3_in_front_of_an_ape_tag(sample: Callable[[str], bytes]) -> None:
    footer = b"APETAGEX" + (2000).to_bytes(4, "little") + (5032).to_bytes(4, "little") + bytes(16)
    info = look(sample("bare.mp3") + b"\x01" * 5000 + footer)
    assert info.duration_seconds == pytest.approx(1.8, abs=0.02)


def test_mp3_with_a_fraunhofer_header(sample: Callable[[str], bytes]) -> None:
    data = sample("bare.mp3")
    frame_bytes = 216  # 48 kbit/s at 16 kHz
    vbri = b"VBRI" + bytes(6) + (len(data) + frame_bytes).to_bytes(4, "big") + (500).to_bytes(4, "big")
    whole = (data[:4] + bytes(32) + vbri).ljust(frame_bytes, b"\0") + data
    info = look(whole)
    assert (info.completeness, info.duration_seconds) == (WHOLE, pytest.approx(500 * 576 / 16000))
    assert look(whole[:-1]).completeness is UNFINISHED


def test_an_mp3_whose_encoder_has_not_filled_in_its_header_is_unfinished(
    sample: Callable[[str], bytes],
) -> None:
    data = sample("cbr.mp3")
    assert look(patched(data, (data.index(b"Info") + 8, bytes(8)))).completeness is UNFINISHED


def test_an_id3_tag_alone_is_an_mp3_to_come(sample: Callable[[str], bytes]) -> None:
    data = sample("cbr.mp3")
    tag = data[: data.index(b"\xff\xf3")]
    assert (look(tag).container, look(tag).completeness) == ("mp3", UNFINISHED)


# The API's words


@pytest.mark.parametrize(
    ("container", "accepted", "expected"),
    [
        ("wav", THE_VENDORS_TYPES, "audio/wav"),
        ("wav", ["audio/x-wav"], "audio/x-wav"),
        ("mp3", THE_VENDORS_TYPES, "audio/mp3"),
        ("mp3", ["audio/mpeg"], "audio/mpeg"),
        ("m4a", THE_VENDORS_TYPES, "audio/m4a"),
        ("m4a", ["audio/x-m4a", "audio/mp4"], "audio/mp4"),
        ("flac", THE_VENDORS_TYPES, "audio/flac"),
        ("ogg", THE_VENDORS_TYPES, "audio/ogg"),
        ("webm", THE_VENDORS_TYPES, "audio/webm"),
        ("webm", ["audio/wav"], None),
        ("amr", THE_VENDORS_TYPES, None),
    ],
)
def test_the_type_is_one_that_the_account_accepts(
    container: str, accepted: list[str], expected: str | None
) -> None:
    assert mime_type(container, accepted) == expected
