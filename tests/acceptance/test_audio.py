"""`audio` against real files by ffmpeg: their format and duration, and whether they are complete."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from invox_watcher.audio import Completeness, mime_type
from tests.kit.audio import identify_bytes, identify_file
from tests.kit.recordings import RECIPES, SECONDS, ffprobe_seconds, make

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
    "voice.3gp": ("3GP (AAC)", "m4a", WHOLE),
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
    "opus.mka": ("Matroska (Opus)", "Convert"),
    "sound.mov": ("QuickTime (PCM)", "Convert"),
    "sound.aiff": ("AIFF", "Convert"),
    "sound.caf": ("CAF", "Convert"),
    "sound.au": ("AU", "Convert"),
    "sound.wma": ("WMA", "Convert"),
    "sound.w64": ("Wave64 (PCM)", "Convert"),
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


def test_every_recipe_is_tested() -> None:
    assert {*UPLOADABLE, *NOT_TAKEN, *PICTURES} == set(RECIPES)


@pytest.mark.parametrize("name", UPLOADABLE)
def test_what_the_api_takes(name: str, samples: dict[str, Path]) -> None:
    info = identify_file(samples[name])
    assert (info.format, info.container, info.completeness) == UPLOADABLE[name]
    assert info.is_audio
    assert info.hint == ""
    assert mime_type(info.container or "", THE_VENDORS_TYPES)
    if name not in WITHOUT_DURATION:
        assert info.duration_seconds == pytest.approx(ffprobe_seconds(samples[name]), abs=0.02)


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_sound_that_the_api_does_not_take_comes_with_advice(name: str, samples: dict[str, Path]) -> None:
    info = identify_file(samples[name])
    format, hint = NOT_TAKEN[name]
    assert (info.format, info.container, info.is_audio) == (format, None, True)
    assert hint in info.hint


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str, samples: dict[str, Path]) -> None:
    assert (identify_file(samples[name]).format, identify_file(samples[name]).is_audio) == (
        PICTURES[name],
        False,
    )


# Whether it is all there


DECLARES_ITS_LENGTH = [name for name, (_, _, completeness) in UPLOADABLE.items() if completeness is WHOLE]


@pytest.mark.parametrize("name", DECLARES_ITS_LENGTH)
def test_a_growing_file_is_not_complete_before_its_end(name: str, sample: Callable[[str], bytes]) -> None:
    data = sample(name)
    tag = 128 if name == "tagged.mp3" else 0  # behind the sound, which is whole without it
    end = len(data) - tag
    lengths = {*range(1, 200), *range(1, end, max(1, end // 300)), *range(end - 100, end)}
    early = [length for length in sorted(lengths) if identify_bytes(data[:length]).completeness is WHOLE]
    assert not early
    assert identify_bytes(data[:end]).completeness is WHOLE
    assert identify_bytes(data[: end // 2]).completeness is not WHOLE


@pytest.mark.parametrize("name", [name for name in DECLARES_ITS_LENGTH if name != "fragmented.m4a"])
def test_a_truncated_file_is_distinguished_from_a_complete_one(
    name: str, sample: Callable[[str], bytes]
) -> None:
    data = sample(name)
    for share in (0.3, 0.7, 0.95):
        info = identify_bytes(data[: int(len(data) * share)])
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
    assert identify_bytes(sample(name) + junk).completeness is WHOLE


@pytest.mark.parametrize("name", DECLARES_ITS_LENGTH)
def test_preallocated_space_does_not_make_it_complete(name: str, sample: Callable[[str], bytes]) -> None:
    data = sample(name)
    assert identify_bytes(data[: len(data) // 2].ljust(len(data), b"\0")).completeness is not WHOLE


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    for offset, new in changes:
        data = data[:offset] + new + data[offset + len(new) :]
    return data


UNSET = b"\xff" * 4


@pytest.mark.parametrize(
    ("riff_size", "data_size", "expected"),
    [
        (bytes(4), bytes(4), UNKNOWN),
        ((36).to_bytes(4, "little"), bytes(4), UNKNOWN),
        (UNSET, bytes(4), UNKNOWN),
        (UNSET, UNSET, UNKNOWN),
        ((0x7FFFF024).to_bytes(4, "little"), (0x7FFFF000).to_bytes(4, "little"), UNKNOWN),  # SoX
        (UNSET, None, UNKNOWN),
        (bytes(4), None, UNKNOWN),
        (None, (54401).to_bytes(4, "little"), UNKNOWN),  # one of the two sizes is right
        ((100_000).to_bytes(4, "little"), None, UNKNOWN),
        ((100_000).to_bytes(4, "little"), (99_956).to_bytes(4, "little"), UNFINISHED),
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
    info = identify_bytes(patched(data, *changes))
    assert info.completeness is expected
    assert info.duration_seconds == pytest.approx(SECONDS, abs=0.01)


@pytest.mark.parametrize("off_by", [1, 8])
def test_a_wav_declaring_a_few_bytes_too_many_must_settle(
    off_by: int, sample: Callable[[str], bytes]
) -> None:
    data = sample("pcm.wav")
    assert (
        identify_bytes(patched(data, (4, (len(data) - 8 + off_by).to_bytes(4, "little")))).completeness
        is UNKNOWN
    )


def test_other_chunks_of_a_wav_before_and_behind_the_sound(sample: Callable[[str], bytes]) -> None:
    data = sample("pcm.wav")
    note = b"LIST" + (5).to_bytes(4, "little") + b"INFOx" + b"\0"  # odd, so padded
    sound_at = data.index(b"data")
    for chunks in (
        data[12:sound_at] + note + data[sound_at:],
        data[12:] + note,
    ):
        whole = b"RIFF" + (len(chunks) + 4).to_bytes(4, "little") + b"WAVE" + chunks
        info = identify_bytes(whole)
        assert (info.completeness, info.declared_bytes) == (WHOLE, len(whole))
        assert info.duration_seconds == pytest.approx(SECONDS)
        cut = identify_bytes(whole[:-9])
        if chunks.endswith(note):  # the sound is all there
            assert (cut.completeness, cut.unclosed) == (UNKNOWN, True)
            assert cut.duration_seconds == pytest.approx(SECONDS)
        else:
            assert cut.completeness is UNFINISHED


def test_an_m4a_without_its_index_is_unfinished(sample: Callable[[str], bytes]) -> None:
    data = sample("aac.m4a")
    info = identify_bytes(data[: data.index(b"moov") - 4])
    assert (info.container, info.completeness) == ("m4a", UNFINISHED)


def test_mp4_boxes_with_64_bit_sizes_and_without_one(sample: Callable[[str], bytes]) -> None:
    data = sample("faststart.m4a")
    start = data.index(b"mdat") - 4
    size = len(data) - start
    big_box = (1).to_bytes(4, "big") + b"mdat" + (size + 8).to_bytes(8, "big") + data[start + 8 :]
    assert identify_bytes(data[:start] + big_box).completeness is WHOLE
    assert identify_bytes(data[:start] + big_box[:-1]).completeness is UNFINISHED
    assert identify_bytes(patched(data, (start, bytes(4)))).completeness is UNKNOWN


def test_an_m4a_cut_between_fragments_can_not_be_recognised(sample: Callable[[str], bytes]) -> None:
    data = sample("fragmented.m4a")
    info = identify_bytes(data[: data.rindex(b"moof") - 4])
    assert info.completeness is UNKNOWN
    assert info.duration_seconds == pytest.approx(1.0, abs=0.6)


def test_flac_behind_an_id3_tag_and_before_one(sample: Callable[[str], bytes]) -> None:
    data = b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + sample("s16.flac")
    info = identify_bytes(data)
    assert (info.format, info.completeness) == ("FLAC", WHOLE)
    assert info.duration_seconds == pytest.approx(SECONDS)
    assert identify_bytes(data + b"TAG" + bytes(125)).completeness is WHOLE
    assert identify_bytes(data + b"something else").completeness is UNKNOWN


def test_opus_counts_what_is_heard_not_what_the_decoder_skips(sample: Callable[[str], bytes]) -> None:
    assert identify_bytes(sample("opus.ogg")).duration_seconds == pytest.approx(SECONDS, abs=0.001)


def test_ogg_without_the_mark_of_the_last_page_is_unknown(sample: Callable[[str], bytes]) -> None:
    data = sample("opus.ogg")
    last_page = data.rindex(b"OggS")
    assert identify_bytes(data[:last_page]).completeness is UNKNOWN
    assert identify_bytes(patched(data, (last_page + 5, b"\0"))).completeness is UNKNOWN
    assert identify_bytes(patched(data, (len(data) - 9, b"\xaa\x55"))).completeness is UNKNOWN
    assert identify_bytes(data + b"OggS").completeness is UNFINISHED


# MP3, which has no container


@pytest.mark.parametrize("garbage", [bytes(2000), b"\xff\xfb\x90\x64" * 100, b"RIP of \xff\xf3 " * 900])
def test_garbage_before_the_first_frame_of_an_mp3(garbage: bytes, sample: Callable[[str], bytes]) -> None:
    info = identify_bytes(garbage + sample("bare.mp3"))
    assert info.format == "MP3"
    assert info.duration_seconds == pytest.approx(1.8, abs=0.02)


def test_mp3_in_front_of_an_ape_tag(sample: Callable[[str], bytes]) -> None:
    footer = b"APETAGEX" + (2000).to_bytes(4, "little") + (5032).to_bytes(4, "little") + bytes(16)
    info = identify_bytes(sample("bare.mp3") + b"\x01" * 5000 + footer)
    assert info.duration_seconds == pytest.approx(1.8, abs=0.02)


def test_mp3_with_a_fraunhofer_header(sample: Callable[[str], bytes]) -> None:
    data = sample("bare.mp3")
    frame_bytes = 216  # 48 kbit/s at 16 kHz
    vbri = b"VBRI" + bytes(6) + (len(data) + frame_bytes).to_bytes(4, "big") + (500).to_bytes(4, "big")
    whole = (data[:4] + bytes(32) + vbri).ljust(frame_bytes, b"\0") + data
    info = identify_bytes(whole)
    assert (info.completeness, info.duration_seconds) == (WHOLE, pytest.approx(500 * 576 / 16000))
    assert identify_bytes(whole[:-1]).completeness is UNFINISHED


def test_an_mp3_with_a_header_not_yet_filled_in_may_be_recording(
    sample: Callable[[str], bytes],
) -> None:
    data = sample("cbr.mp3")
    info = identify_bytes(patched(data, (data.index(b"Info") + 8, bytes(8))))
    assert (info.completeness, info.unclosed) == (UNKNOWN, True)
    assert info.duration_seconds == pytest.approx(SECONDS, abs=0.15)


def test_an_id3_tag_alone_is_an_mp3_to_come(sample: Callable[[str], bytes]) -> None:
    data = sample("cbr.mp3")
    tag = data[: data.index(b"\xff\xf3")]
    assert (identify_bytes(tag).container, identify_bytes(tag).completeness) == ("mp3", UNFINISHED)


@pytest.mark.parametrize("name", DECLARES_ITS_LENGTH)
def test_a_file_with_its_full_size_is_not_whole_before_its_end(
    name: str, sample: Callable[[str], bytes]
) -> None:
    """A copy into reserved space: zeros, up to the last bytes."""
    data = sample(name)
    tag = 128 if name == "tagged.mp3" else 0
    for cut in (*(int(len(data) * share) for share in (0.1, 0.5, 0.8)), len(data) - tag - 600):
        assert identify_bytes(data[:cut] + bytes(len(data) - cut)).completeness is not WHOLE


def test_an_mp3_without_a_length_is_whole_with_a_tag_at_its_end(sample: Callable[[str], bytes]) -> None:
    data, tag = sample("bare.mp3"), b"TAG" + bytes(125)
    assert identify_bytes(data).completeness is UNKNOWN
    assert identify_bytes(data + tag).completeness is WHOLE
    assert identify_bytes(data[:-50] + tag).completeness is UNKNOWN  # the last frame is not
    assert identify_bytes(data[:3000] + bytes(len(data) - 3000) + tag).completeness is UNKNOWN


def test_a_wav_whose_last_samples_are_missing_is_not_whole(sample: Callable[[str], bytes]) -> None:
    data = sample("pcm.wav")
    assert identify_bytes(data[:-64] + bytes(64)).completeness is UNKNOWN
