"""`audio` against hostile bytes: nothing makes it raise, believe nonsense, or read more than its budget."""

from __future__ import annotations

import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invox_watcher.audio import identify
from tests.kit.audio import assert_harmless

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


def test_a_header_longer_than_the_budget_is_given_up() -> None:
    entry = b"\xae\x40\xb4" + b"\xec\x80" * 90  # a track of 90 empty elements
    info = assert_harmless(EBML_HEAD + b"\x16\x54\xae\x6b\x01" + b"\xff" * 7 + entry * 100)
    assert (info.format, info.container) == ("endless header", None)


def test_faults_of_the_disk_get_through() -> None:
    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        identify(Broken(b"RIFF"), 4)
