"""Every shape of reply that the vendor's pages show, and what comes of replies that make no sense."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.errors import ApiUnavailableError
from invox_watcher.invox.replies import ReplyStatus, TranscriptionReply, parse_reply
from invox_watcher.transcript import Segment, Transcript

HELLO = {"text": "Hello, Doctor.", "start": 0.5, "end": 2.2}


def completed(*segments: object, **more: object) -> TranscriptionReply:
    return parse_reply({"processingStatus": "COMPLETED", "transcription": list(segments), **more})


def only_segment(**fields: object) -> Segment:
    transcript = completed(HELLO | fields).transcript
    assert transcript is not None
    (segment,) = transcript.segments
    return segment


class TestShapes:
    @pytest.mark.parametrize("key", ["processingStatus", "transcriptionStatus", "status"])
    @pytest.mark.parametrize("status", ReplyStatus)
    def test_the_status_under_any_of_its_names(self, key: str, status: ReplyStatus) -> None:
        reply = parse_reply({key: status.value, "transcription": [HELLO]})
        assert reply.status is status
        assert (reply.transcript is not None) == (status is ReplyStatus.COMPLETED)
        assert reply.unknown_status is None

    def test_a_webhook_body(self) -> None:
        body = {
            "requestId": "r-1",
            "transcription": [{"speakerId": "Speaker_00", **HELLO}],
            "status": "COMPLETED",
            "signature": "c2ln",
            "createdAt": 1721060645,
        }
        reply = parse_reply(body)
        assert reply.transcript == Transcript((Segment("Hello, Doctor.", 0.5, 2.2, "Speaker_00"),))
        assert reply.raw == body

    def test_a_null_status_is_no_status(self) -> None:
        reply = parse_reply(
            {"processingStatus": None, "transcriptionStatus": "ERROR", "errorMessage": "bad\n audio"}
        )
        assert (reply.status, reply.error_message) == (ReplyStatus.ERROR, "bad audio")

    @pytest.mark.parametrize(
        ("sent", "shown"), [("QUEUED", "QUEUED"), (3, "3"), ("x" * 99 + "\n", "x" * 40), ("", "")]
    )
    def test_an_unknown_status_is_pending(self, sent: object, shown: str) -> None:
        reply = parse_reply({"processingStatus": sent, "transcription": [HELLO]})
        assert (reply.status, reply.unknown_status, reply.transcript) == (ReplyStatus.PENDING, shown, None)

    @pytest.mark.parametrize(
        ("payload", "status"),
        [
            ({"transcription": [HELLO]}, ReplyStatus.COMPLETED),
            ({"transcription": [HELLO], "errorMessage": "partly"}, ReplyStatus.COMPLETED),
            ({"transcription": [], "errorMessage": "no"}, ReplyStatus.ERROR),
            ({"errorMessage": "no"}, ReplyStatus.ERROR),
        ],
    )
    def test_without_a_status(self, payload: dict[str, object], status: ReplyStatus) -> None:
        assert parse_reply(payload).status is status

    def test_silence(self) -> None:
        transcript = completed().transcript
        assert transcript == Transcript(())
        assert transcript.text == ""


class TestSegments:
    @pytest.mark.parametrize("key", ["speakerId", "speaker"])
    @pytest.mark.parametrize(
        ("sent", "label"),
        [
            *[(sent, "Speaker_00") for sent in (0, 0.0, "0", " 00 ", "Speaker_00")],
            *[(sent, "Speaker_12") for sent in (12, "12", "Speaker_12")],
            ("Dr.\x1b[31m\nWho", "Dr.[31m Who"),
            (-1, "-1"),
            (1.5, "1.5"),
            *[(sent, None) for sent in (None, "", "\n", True, [], {})],
        ],
    )
    def test_the_speaker(self, key: str, sent: object, label: str | None) -> None:
        assert only_segment(**{key: sent}).speaker == label

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (1, 2, (1.0, 2.0)),
            ("1.5", " 2.25", (1.5, 2.25)),
            (-0.02, 1, (0.0, 1.0)),
            (3, 2, (3.0, 3.0)),
            (None, 2, (0.0, 2.0)),
            (math.nan, math.inf, (0.0, 0.0)),
            (4, math.nan, (4.0, 4.0)),
            (True, "soon", (0.0, 0.0)),
            (10**400, 1, (0.0, 1.0)),
            (1, 1e9, (1.0, 1.0)),
        ],
    )
    def test_times(self, start: object, end: object, expected: tuple[float, float]) -> None:
        segment = only_segment(start=start, end=end)
        assert (segment.start, segment.end) == expected

    def test_a_missing_start_follows_what_was_said_before(self) -> None:
        transcript = completed(HELLO, {"text": "Well."}, {"text": "Yes.", "end": 9}).transcript
        assert transcript is not None
        assert [(s.start, s.end) for s in transcript.segments] == [(0.5, 2.2), (2.2, 2.2), (2.2, 9.0)]

    def test_segments_without_words_are_left_out(self) -> None:
        assert completed({"text": " \n"}, {"text": None}, HELLO | {"text": " a "}).transcript == Transcript(
            (Segment("a", 0.5, 2.2),)
        )

    def test_the_text_has_a_line_for_each_turn(self) -> None:
        turns = [("0", "Hello."), ("0", "How are you?"), ("1", "Well."), (None, "Bye.")]
        transcript = completed(*[HELLO | {"speaker": who, "text": text} for who, text in turns]).transcript
        assert transcript is not None
        assert transcript.text == "Hello. How are you?\nWell.\nBye."


NONSENSE: list[tuple[object, str]] = [
    (["secret words"], "expected an object, got a list"),
    (None, "expected an object, got missing or null"),
    ("secret words", "expected an object, got a string"),
    *[(sent, "it has no status, no words and no error message") for sent in ({}, {"transcription": []})],
    ({"status": "COMPLETED"}, "the status is COMPLETED, but `transcription` is missing or null, not a list"),
    (
        {"status": "COMPLETED", "transcription": "secret words"},
        "the status is COMPLETED, but `transcription` is a string, not a list",
    ),
    (
        {"transcription": {"text": "secret words"}},
        "the status is COMPLETED, but `transcription` is an object, not a list",
    ),
    ({"transcription": [HELLO, "secret words"]}, "`transcription[1]` is a string, not an object"),
    ({"transcription": [{"words": "secret words"}]}, "`transcription[0]` has no `text`"),
    ({"transcription": [{"text": ["secret words"]}]}, "`transcription[0].text` is a list, not a string"),
    ({"transcription": [{"text": 4}]}, "`transcription[0].text` is a number, not a string"),
]


@pytest.mark.parametrize(("payload", "what"), NONSENSE)
def test_a_reply_that_makes_no_sense_says_where_and_no_words(payload: object, what: str) -> None:
    with pytest.raises(ApiUnavailableError) as caught:
        parse_reply(payload)
    assert caught.value.message == f"Invalid reply from the API: {what}."
    assert caught.value.code == "api_protocol"
    assert caught.value.retry_can_help


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["text", "start", "end", "speaker", "speakerId"]
SEGMENT = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5) | JSON
REPLY = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from([*ReplyStatus]) | JSON,
        "transcription": st.lists(SEGMENT, max_size=4) | JSON,
        "errorMessage": JSON,
    },
)


@given(REPLY | JSON)
def test_any_json_is_a_sane_reply_or_our_own_error(payload: object) -> None:
    sent = json.dumps(payload)
    try:
        reply = parse_reply(payload)
    except ApiUnavailableError:
        return
    assert json.dumps(reply.raw) == sent
    assert (reply.transcript is not None) == (reply.status is ReplyStatus.COMPLETED)
    for segment in reply.transcript.segments if reply.transcript else ():
        assert 0 <= segment.start <= segment.end < 360_000
        assert segment.text.strip()
        assert segment.speaker is None or segment.speaker.isprintable()
