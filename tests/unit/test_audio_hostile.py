"""`audio` against hostile bytes: nothing makes it raise, believe nonsense, or read more than its budget."""

from __future__ import annotations

import io
import math
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invox_watcher.audio._identify import identify
from invox_watcher.audio._info import AudioInfo, Completeness
from tests.kit.audio_samples import make

MAX_BYTES, MAX_READS = 1 << 20, 2000
NAMES = (
    *("pcm.wav", "rf64.wav", "piped.wav", "cbr.mp3", "aac.m4a", "fragmented.m4a"),
    *("s16.flac", "opus.ogg", "flac.ogg", "opus.webm", "sound.wma"),
)


class Metered(io.BytesIO):
    """A file in memory that counts what is read from it."""

    reads = 0
    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.reads += 1
        self.bytes_read += len(data)
        return data


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make(NAMES, tmp_path_factory.mktemp("audio"))


@pytest.fixture
def sample(samples: dict[str, Path]) -> Callable[[str], bytes]:
    return lambda name: samples[name].read_bytes()


def patched(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def assert_harmless(data: bytes) -> AudioInfo:
    file = Metered(data)
    info = identify(file, len(data))
    assert file.reads <= MAX_READS
    assert file.bytes_read <= MAX_BYTES
    assert info.duration_seconds is None or 0 <= info.duration_seconds < 31 * 86400
    assert info.format.isprintable()
    return info


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_recordings_are_harmless(samples: dict[str, Path], data: st.DataObject) -> None:
    recording = bytearray(samples[data.draw(st.sampled_from(sorted(samples)))].read_bytes())
    near_the_start = st.integers(0, min(len(recording), 800) - 1)
    anywhere = st.integers(0, len(recording) - 1)
    for _ in range(data.draw(st.integers(1, 6))):
        offset = data.draw(near_the_start | anywhere)
        new = data.draw(st.binary(min_size=1, max_size=8) | st.sampled_from([bytes(8), b"\xff" * 8]))
        recording[offset : offset + len(new)] = new
    assert_harmless(bytes(recording[: data.draw(st.just(len(recording)) | anywhere)]))


MARKS = [b"RIFF\0\0\0\0WAVE", b"RF64", b"ID3\x04", b"fLaC", b"OggS\0\x02", b"\x1a\x45\xdf\xa3", b"\xff\xfb"]


@settings(max_examples=200, deadline=None)
@given(mark=st.sampled_from([b"", *MARKS, b"\0\0\0\x10ftyp", b"\0\0\0\0moov"]), rest=st.binary(max_size=4000))
def test_random_bytes_are_harmless(mark: bytes, rest: bytes) -> None:
    assert_harmless(mark + rest)


EBML_HEAD = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\xff\xff\xff\x7fWAVE" + b"junk\0\0\0\0" * 200_000,
        b"\0\0\0\x10ftypM4A \0\0\0\0" + b"\0\0\0\x08free" * 200_000,
        b"\0\0\0\x10ftypM4A \0\0\0\0" + b"\0\0\0\0moov" + b"\0\0\0\0trak\0\0\0\0mdia" * 100_000,
        EBML_HEAD + (b"\x16\x54\xae\x6b\x01" + b"\xff" * 7 + b"\xae\x80" * 50) * 5_000,
        b"fLaC\x80\0\0\x22" + bytes(5) + b"\xff" * 29 + b"\xff\xf8\xc9\x08\0" * 200_000,
        (b"OggS\0\x02" + bytes(20) + b"\x01\x08OpusHead") * 50_000,
        b"\xff" * 1_000_000,
        b"\xff\xfb\x90\x64" * 250_000,
        b"ID3\x04\0\0\0\0\0\0" * 100_000,
    ],
    ids=["wav chunks", "mp4 boxes", "mp4 depth", "ebml", "flac", "ogg", "ones", "mp3", "id3"],
)
def test_headers_without_end_cost_little(data: bytes) -> None:
    started = time.process_time()
    assert_harmless(data)
    assert time.process_time() - started < 3  # some 0.3 s; minutes where the effort grows with the square


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sound.wma"])
def test_a_sparse_terabyte_is_answered_at_once(
    name: str, sample: Callable[[str], bytes], tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(sample(name))
    os.truncate(path, 1 << 40)
    started = time.process_time()
    with path.open("rb", buffering=0) as file:
        assert identify(file, 1 << 40).container == path.suffix[1:]
    assert time.process_time() - started < 1


def test_a_header_that_goes_on_beyond_the_budget_is_given_up() -> None:
    entry = b"\xae\x40\xb4" + b"\xec\x80" * 90  # a track of 90 empty elements
    info = assert_harmless(EBML_HEAD + b"\x16\x54\xae\x6b\x01" + b"\xff" * 7 + entry * 100)
    assert (info.format, info.container) == ("endless header", None)


def test_durations_that_cannot_be_are_not_believed(sample: Callable[[str], bytes]) -> None:
    ogg, webm = sample("opus.ogg"), sample("opus.webm")
    assert (
        assert_harmless(patched(ogg, ogg.rindex(b"OggS") + 6, b"\xff" * 7 + b"\x7f")).duration_seconds is None
    )
    duration_at = webm.index(b"\x44\x89\x88") + 3
    for value in (math.nan, math.inf, 1e300, -1.0):
        damaged = patched(webm, duration_at, struct.pack(">d", value))
        assert assert_harmless(damaged).duration_seconds is None


def test_a_file_that_shrinks_while_it_is_looked_at_is_harmless(sample: Callable[[str], bytes]) -> None:
    for name in ("pcm.wav", "aac.m4a", "s16.flac", "opus.ogg", "opus.webm", "cbr.mp3"):
        data = sample(name)
        for held in (0, 3, 40, 300):
            info = identify(io.BytesIO(data[:held]), len(data))
            assert info.completeness is not Completeness.WHOLE


def test_faults_of_the_disk_get_through() -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        identify(Broken(b"RIFF"), 4)
