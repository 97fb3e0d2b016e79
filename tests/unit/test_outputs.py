"""The files of the outbox, byte for byte, and the caption rules for any transcript there may be."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.config import json_schema
from invox_watcher.outputs import OutputFormat, render
from invox_watcher.outputs.captions import clean
from invox_watcher.transcript import Segment
from tests.kit.captions import CONVERSATION, LONG, NAMES, Cue, delivery, parsed, visible
from tests.kit.clusters import CLUSTERS


def rendered(format: OutputFormat, *segments: Segment) -> str:
    return render(delivery(*segments), format, NAMES).decode("utf-8")


def clusters(text: str) -> list[str]:
    """What readers take for single characters."""
    return regex.findall(r"\X", text)


def assert_captions_are_sound(cues: list[Cue]) -> None:
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(clusters(line)) <= 42 and line == line.strip() for line in cue.lines)
        assert cue.end_ms - cue.start_ms >= 40
    for earlier, later in pairwise(cues):
        assert earlier.end_ms <= later.start_ms


class TestJson:
    def test_the_whole_file(self) -> None:
        text = rendered("json", CONVERSATION[0])
        assert (
            text
            == """\
{
  "schema": "invox-watcher/transcript/1",
  "job_id": "20261123t185056-9f2c41d07ab3",
  "request_id": "r-1",
  "source": {
    "name": "ward3/smith.wav",
    "size_bytes": 123456,
    "sha256": "abababababababababababababababababababababababababababababababab",
    "mime_type": "audio/wav",
    "duration_seconds": 6.25
  },
  "received_at": "2026-11-23T18:50:56.123Z",
  "uploaded_at": "2026-11-23T18:50:57.000Z",
  "completed_at": null,
  "delivered_by": "polling",
  "text": "Hello, how are you?",
  "segments": [
    {
      "speaker": "Speaker_00",
      "start": 0.5,
      "end": 2.2,
      "text": "Hello, how are you?"
    }
  ],
  "api_reply": {
    "status": "COMPLETED"
  }
}
"""
        )

    def test_a_name_that_is_not_utf8_comes_back_as_the_same_bytes(self) -> None:
        name = b"ward\xe9/m\xc3\xbcller.wav".decode("utf-8", "surrogateescape")
        content = render(delivery(source=replace(delivery().source, name=name)), "json", {})
        assert rb"ward\udce9/m" + "ü".encode() in content
        found = json.loads(content.decode("utf-8"))["source"]["name"]
        assert found.encode("utf-8", "surrogateescape") == b"ward\xe9/m\xc3\xbcller.wav"

    def test_a_reply_with_what_json_lacks(self) -> None:
        reply = {"transcription": [{"start": float("nan"), "end": float("-inf"), "text": "\ud800"}]}
        content = render(delivery(api_reply=reply), "json", {})

        def refuse(constant: str) -> None:
            raise AssertionError(constant)

        found = json.loads(content.decode("utf-8"), parse_constant=refuse)
        assert found["api_reply"] == {"transcription": [{"start": None, "end": None, "text": "\ud800"}]}


class TestSrt:
    def test_a_conversation(self) -> None:
        assert (
            rendered("srt", *CONVERSATION)
            == """\
1
00:00:00,500 --> 00:00:02,200
Doctor: Hello, how are you?

2
00:00:02,500 --> 00:00:03,500
Speaker_01: Better.

3
00:00:03,500 --> 00:00:06,000
Speaker_01: The swelling is gone.

"""
        )

    def test_a_long_segment_breaks_at_clause_ends(self) -> None:
        assert (
            rendered("srt", Segment(LONG, 0.0, 31.0))
            == """\
1
00:00:00,000 --> 00:00:14,000
The patient was admitted on Monday with
chest pain radiating to the left arm,

2
00:00:14,000 --> 00:00:25,000
and was given aspirin at once. The
electrocardiogram showed no changes,

3
00:00:25,000 --> 00:00:31,000
and the first troponin was normal.

"""
        )

    def test_without_a_clause_end_the_parts_are_even(self) -> None:
        cues = parsed(rendered("srt", Segment("word " * 20, 0.0, 10.0)))
        assert [(c.start_ms, c.end_ms, " ".join(c.lines)) for c in cues] == [
            (0, 5000, " ".join(["word"] * 10)),
            (5000, 10000, " ".join(["word"] * 10)),
        ]

    def test_what_would_break_the_format_does_not(self) -> None:
        text = "a\n\n2\n00:00:01,000 --> 00:00:02,000\r\nb\x00c\x85d\u2028e \ud800 \u200b {x} <120 & >80"
        (cue,) = parsed(rendered("srt", Segment(text, 0.0, 9.0)))
        assert cue.lines == ["a 2 00:00:01,000 → 00:00:02,000 b c d e", "� (x) ‹120 & ›80"]

    def test_a_word_that_fits_no_line(self) -> None:
        (cue,) = parsed(rendered("srt", Segment("x" * 43, 0.0, 9.0)))
        assert cue.lines == ["x" * 42, "x"]

    def test_a_speaker_that_fits_no_line(self) -> None:
        (cue,) = parsed(rendered("srt", Segment("Hello.", 0.0, 9.0, "The second of the two surgeons")))
        assert cue.lines == ["The second of the two…: Hello."]

    @pytest.mark.parametrize(
        ("times", "expected"),
        [
            ([(0, 4), (3, 5)], [(0, 3000), (3000, 5000)]),
            ([(3, 5), (0, 4)], [(0, 3000), (3000, 5000)]),
            ([(1, 1), (9, 9)], [(1000, 1833), (9000, 9833)]),
            ([(1, 1), (1.2, 3)], [(1000, 1200), (1200, 3000)]),
            ([(1, 2), (1, 3), (1, 4)], [(1000, 1040), (1040, 1080), (1080, 4000)]),
            ([(359999.5, 359999.9)], [(359999500, 360000333)]),
        ],
    )
    def test_times(self, times: list[tuple[float, float]], expected: list[tuple[int, int]]) -> None:
        cues = parsed(rendered("srt", *[Segment("Yes.", start, end) for start, end in times]))
        assert [(cue.start_ms, cue.end_ms) for cue in cues] == expected

    def test_an_hour_in_one_segment_is_quick_and_sound(self) -> None:
        cues = parsed(rendered("srt", Segment(LONG * 400, 0.0, 3600.0, "Speaker_00")))
        assert_captions_are_sound(cues)
        assert all(cue.lines[0].startswith("Doctor: ") for cue in cues)


class TestVtt:
    def test_a_conversation_with_what_must_be_escaped(self) -> None:
        segments = (
            *CONVERSATION[:1],
            Segment("RR <120 & >80 --> fine", 2.5, 4.0, "A<b>\n&c"),
            Segment("So.", 5, 6),
        )
        assert (
            rendered("vtt", *segments)
            == """\
WEBVTT

00:00:00.500 --> 00:00:02.200
<v Doctor>Hello, how are you?</v>

00:00:02.500 --> 00:00:04.000
<v A&lt;b&gt; &amp;c>RR &lt;120 &amp; &gt;80 --&gt; fine</v>

00:00:05.000 --> 00:00:06.000
So.
"""
        )


class TestTxt:
    def test_a_paragraph_for_each_turn(self) -> None:
        unknown = Segment("First line.\n  Second\tline.", 7, 8)
        assert rendered("txt", *CONVERSATION, unknown) == (
            "Doctor: Hello, how are you?\n\n"
            "Speaker_01: Better. The swelling is gone.\n\n"
            "First line.\nSecond line.\n"
        )


@pytest.mark.parametrize(("format", "content"), [("srt", b""), ("vtt", b"WEBVTT\n"), ("txt", b"")])
@pytest.mark.parametrize("segments", [(), (Segment("\x00 \u200b", 0.0, 1.0, "Speaker_00"),)])
def test_silence(format: OutputFormat, content: bytes, segments: tuple[Segment, ...]) -> None:
    assert render(delivery(*segments), format, NAMES) == content


def test_the_configuration_offers_exactly_these_formats() -> None:
    offered = json_schema()["$defs"]["OutputsSection"]["properties"]["formats"]["items"]["enum"]
    assert tuple(offered) == get_args(OutputFormat)
    assert len({render(delivery(*CONVERSATION), format, {}) for format in offered}) == len(offered)


TEXT = st.text(st.characters() | st.sampled_from(list(" .,-><{}\n\r\ud800\u200b")), max_size=200)
WORDS = ["yes", "no,", "well.", "electroencephalographically", "-->"]
SPEECH = st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    start = draw(st.floats(0, 359_999))
    length = draw(st.floats(0, 60))
    speaker = draw(st.none() | st.sampled_from(["Speaker_00", "Speaker_01"]) | st.text(max_size=60))
    return Segment(draw(TEXT | SPEECH), start, start + length, speaker)


@given(st.lists(segments(), max_size=6))
def test_any_transcript_gives_sound_captions(spoken: list[Segment]) -> None:
    srt = rendered("srt", *spoken)
    assert_captions_are_sound(parsed(srt))
    blocks = rendered("vtt", *spoken).removeprefix("WEBVTT\n").rstrip("\n")
    for block in filter(None, re.split(r"\n\n|^\n", blocks)):
        times, *lines = block.split("\n")
        assert times.count(" --> ") == 1
        assert 1 <= len(lines) <= 2
        assert "-->" not in "".join(lines)
        assert not re.search(r"&(?!amp;|lt;|gt;)", "".join(lines))


@given(SPEECH, st.floats(0, 9999), st.floats(0, 9999))
def test_no_word_is_lost(words: str, start: float, length: float) -> None:
    cues = parsed(rendered("srt", Segment(words, start, start + length)))
    assert visible("".join(line for cue in cues for line in cue.lines)) == visible(words).replace("-->", "→")
    assert visible(rendered("txt", Segment(words, start, start + length))) == visible(words)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_line_is_cut_between_clusters(cluster: str) -> None:
    (cue,) = parsed(rendered("srt", Segment(cluster * 50, 0.0, 9.0)))
    assert cue.lines == [cluster * 42, cluster * 8]


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_a_label_is_cut_between_clusters(cluster: str) -> None:
    (cue,) = parsed(rendered("srt", Segment("Yes.", 0.0, 9.0, cluster * 30)))
    assert cue.lines == [f"{cluster * 21}…: Yes."]


@given(st.lists(st.sampled_from((*CLUSTERS, " ")), max_size=200))
def test_the_lines_give_the_words_back_by_clusters(parts: list[str]) -> None:
    words = [part for part in parts if part != " "]
    for format in ("srt", "vtt"):
        blocks = rendered(format, Segment("".join(parts), 0.0, 60.0)).split("\n\n")
        lines = [line for block in blocks for line in block.partition(" --> ")[2].split("\n")[1:] if line]
        rest = list(words)
        for line in lines:  # each begins and ends where a cluster does
            count = 0
            while "".join(rest[:count]) != line.replace(" ", ""):
                count += 1
                assert count <= len(rest)
            del rest[:count]
        assert rest == []


@given(st.text(st.characters(codec="utf-8", exclude_characters="<>{}&"), max_size=200))
def test_no_cut_of_any_text_falls_into_a_cluster(text: str) -> None:
    cues = parsed(rendered("srt", Segment(text, 0.0, 60.0)))
    found = [cluster for cue in cues for line in cue.lines for cluster in clusters(line) if cluster != " "]
    assert found == [cluster for cluster in clusters(clean(text).replace("-->", "→")) if cluster != " "]


def test_an_endless_word_of_accents_is_quick() -> None:
    began = time.monotonic()
    cues = parsed(rendered("srt", Segment("e\u0301" * 20_000, 0.0, 3600.0, "Speaker_00")))
    assert time.monotonic() - began < 5
    assert_captions_are_sound(cues)


@given(st.lists(segments(), max_size=3))
def test_the_same_delivery_gives_the_same_bytes(spoken: list[Segment]) -> None:
    for format in get_args(OutputFormat):
        assert render(delivery(*spoken), format, NAMES) == render(delivery(*spoken), format, dict(NAMES))
