"""The captions, read by another program."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from invox_watcher.outputs import OutputFormat, render
from invox_watcher.transcript import Segment
from tests.kit.captions import CONVERSATION, LONG, NAMES, delivery, parsed, visible


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_ffmpeg_reads_the_same_captions(tmp_path: Path, format: OutputFormat) -> None:
    spoken = (*CONVERSATION, Segment(LONG + " {unclear} BP <120 and >80", 7.0, 30.0, "Speaker_00"))
    path = tmp_path / f"captions.{format}"
    path.write_bytes(render(delivery(*spoken), format, NAMES))
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "srt", "-"]
    read = subprocess.run(command, capture_output=True, check=True, text=True)
    assert read.stderr == ""
    found = [(c.start_ms, c.end_ms, " ".join(c.lines)) for c in parsed(read.stdout)]
    expected = parsed(render(delivery(*spoken), "srt", NAMES if format == "srt" else {}).decode())
    if format == "srt":
        assert found == [(c.start_ms, c.end_ms, " ".join(c.lines)) for c in expected]
    else:
        # FFmpeg writes braces with a backslash, which is of its own making.
        words = visible("".join(words for _, _, words in found)).replace("\\", "")
        assert words == visible("".join(segment.text for segment in spoken))
