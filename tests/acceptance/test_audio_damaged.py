"""`audio` against damaged recordings: none makes it raise, believe nonsense, or read more than its budget."""

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

from invox_watcher.audio import Completeness, identify
from tests.kit.audio import assert_harmless
from tests.kit.odd_recordings import patched
from tests.kit.recordings import make

NAMES = (
    *("pcm.wav", "rf64.wav", "piped.wav", "cbr.mp3", "aac.m4a", "fragmented.m4a"),
    *("s16.flac", "opus.ogg", "flac.ogg", "opus.webm", "sound.wma"),
)
OTHERS = (
    *(
        "gsm.wav",
        "adpcm.wav",
        "bwf.wav",
        "bare.mp3",
        "vbr.mp3",
        "tagged.mp3",
        "voice.3gp",
        "sound.mov",
        "piped.flac",
    ),
    *("live.webm", "vorbis.ogg", "speex.ogg", "opus.mka", "aac.aac", "layer2.mp2", "sound.aiff", "sound.caf"),
    *("sound.au", "sound.w64", "sound.ra"),
)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make((*NAMES, *OTHERS), tmp_path_factory.mktemp("audio"))


@pytest.fixture
def sample(samples: dict[str, Path]) -> Callable[[str], bytes]:
    return lambda name: samples[name].read_bytes()


@settings(max_examples=400, deadline=None)
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


def test_durations_that_cannot_be_are_not_believed(sample: Callable[[str], bytes]) -> None:
    ogg, webm = sample("opus.ogg"), sample("opus.webm")
    assert (
        assert_harmless(patched(ogg, ogg.rindex(b"OggS") + 6, b"\xff" * 7 + b"\x7f")).duration_seconds is None
    )
    duration_at = webm.index(b"\x44\x89\x88") + 3
    for value in (math.nan, math.inf, 1e300, -1.0):
        damaged = patched(webm, duration_at, struct.pack(">d", value))
        assert assert_harmless(damaged).duration_seconds is None


def test_a_file_that_shrinks_while_it_is_read_is_harmless(sample: Callable[[str], bytes]) -> None:
    for name in ("pcm.wav", "aac.m4a", "s16.flac", "opus.ogg", "opus.webm", "cbr.mp3"):
        data = sample(name)
        for held in (0, 3, 40, 300):
            info = identify(io.BytesIO(data[:held]), len(data))
            assert info.completeness is not Completeness.WHOLE
