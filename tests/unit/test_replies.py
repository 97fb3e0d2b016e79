"""Every shape of reply that the vendor's pages show, and what comes of replies that make no sense."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.errors import ApiUnavailableError
from invox_watcher.invox.replies import ReplyStatus, TranscriptionReply, parse_reply
from invox_watcher.transcript import Segment, Transcript
from tests.kit.strategies import JSON

HELLO = {"text": "Hello, Doctor.", "start": 0.5, "end": 2.2}


def completed(*segments: object, **more: object) -> TranscriptionReply:
    return parse_reply({"processingStatus": "COMPLETED", "transcription": list(segments), **more})


def segments_of(reply: TranscriptionReply) -> list[tuple[str, float, float, str | None]]:
    assert reply.transcript is not None
    return [(s.text, s.start, s.end, s.speaker) for s in reply.transcript.segments]


def only_segment(**fields: object) -> Segment:
    transcript = completed(HELLO | fields).transcript
    assert transcript is not None
    (segment,) = transcript.segments
    return segment


STATES = {
    ReplyStatus.COMPLETED: ["completed", "complete", "success", "succeeded", "done", "finished"],
    ReplyStatus.ERROR: [
        "error",
        "failed",
        "failure",
        "rejected",
        "expired",
        "aborted",
        "cancelled",
        "canceled",
    ],
    ReplyStatus.PENDING: ["pending", "processing", "queued", "in_progress", "IN PROGRESS", "submitted"],
}
EACH_STATE = [
    (shaped, status)
    for status, names in STATES.items()
    for name in names
    for shaped in (name, name.upper(), name.title(), f" {name}\n")
]


class TestStates:
    @pytest.mark.parametrize(("sent", "status"), EACH_STATE)
    @pytest.mark.parametrize("key", ["processingStatus", "transcriptionStatus", "status", "state"])
    def test_by_meaning_in_any_case_and_key(self, key: str, sent: str, status: ReplyStatus) -> None:
        reply = parse_reply({key: sent, "transcription": [HELLO]})
        assert reply.status is status
        assert (reply.transcript is not None) == (status is ReplyStatus.COMPLETED)
        assert reply.unknown_status is None

    @pytest.mark.parametrize("empty", [None, "", " \n", True, False, 200, {}])
    def test_an_empty_one_is_no_state(self, empty: object) -> None:
        beside = parse_reply({"processingStatus": empty, "status": "FAILED", "errorMessage": "bad\n audio"})
        assert (beside.status, beside.error_message) == (ReplyStatus.ERROR, "bad audio")
        assert parse_reply({"processingStatus": empty, "transcription": [HELLO]}).transcript is not None
        alone = parse_reply({"processingStatus": empty})
        assert (alone.status, alone.unknown_status) == (ReplyStatus.PENDING, None)

    @pytest.mark.parametrize(
        ("sent", "shown"),
        [("MARINATING", "MARINATING"), (3, "3"), ("x" * 99 + "\n", "x" * 40), (["secret words"], "a list")],
    )
    def test_an_unknown_one_is_pending_even_with_words(self, sent: object, shown: str) -> None:
        reply = parse_reply({"processingStatus": sent, "transcription": [HELLO]})
        assert (reply.status, reply.unknown_status, reply.transcript) == (ReplyStatus.PENDING, shown, None)

    @pytest.mark.parametrize(
        ("one", "other", "words", "status"),
        [
            ("COMPLETED", "PENDING", True, ReplyStatus.COMPLETED),
            ("COMPLETED", "PENDING", False, ReplyStatus.PENDING),
            ("COMPLETED", "FAILED", False, ReplyStatus.ERROR),
            ("PENDING", "ERROR", False, ReplyStatus.ERROR),
            ("MARINATING", "COMPLETED", True, ReplyStatus.COMPLETED),
            ("MARINATING", "PENDING", True, ReplyStatus.PENDING),
        ],
    )
    def test_two_that_conflict(self, one: str, other: str, words: bool, status: ReplyStatus) -> None:
        said = [HELLO] if words else []
        for first, second in ((one, other), (other, one)):
            reply = parse_reply({"processingStatus": first, "status": second, "transcription": said})
            assert (reply.status, reply.unknown_status) == (status, None)

    @pytest.mark.parametrize(
        ("payload", "status"),
        [
            ({"transcription": [HELLO]}, ReplyStatus.COMPLETED),
            ([HELLO], ReplyStatus.COMPLETED),
            ({"vttTranscription": "Hello."}, ReplyStatus.COMPLETED),
            ({"transcription": [HELLO], "errorMessage": "partly"}, ReplyStatus.COMPLETED),
            ({"transcription": [], "errorMessage": "no"}, ReplyStatus.ERROR),
            ({"errorMessage": "no"}, ReplyStatus.ERROR),
            ({"transcription": []}, ReplyStatus.PENDING),
            ({"transcription": [{"text": " "}]}, ReplyStatus.PENDING),
            ({"message": "not yet"}, ReplyStatus.PENDING),
            ({}, ReplyStatus.PENDING),
            ([], ReplyStatus.PENDING),
        ],
    )
    def test_without_any_what_is_there_counts(self, payload: object, status: ReplyStatus) -> None:
        assert parse_reply(payload).status is status

    @pytest.mark.parametrize("items", [[], [HELLO]])
    def test_a_webhook_with_a_list_is_completed(self, items: list[object]) -> None:
        assert parse_reply({"transcription": items}, pushed=True).status is ReplyStatus.COMPLETED
        pending = parse_reply({"transcription": items, "status": "PENDING"}, pushed=True)
        assert pending.status is ReplyStatus.PENDING

    @pytest.mark.parametrize("items", [None, "", {}])
    def test_a_webhook_without_a_list_is_pending(self, items: object) -> None:
        assert parse_reply({"transcription": items}, pushed=True).status is ReplyStatus.PENDING

    @pytest.mark.parametrize("transcription", [[], None, [{"text": " "}]])
    def test_completed_with_an_error_and_no_words_failed(self, transcription: object) -> None:
        reply = completed(transcription=transcription, errorMessage="too\n short" + "x" * 999)
        assert (reply.status, reply.transcript) == (ReplyStatus.ERROR, None)
        assert reply.error_message is not None
        assert reply.error_message.startswith("too short")
        assert len(reply.error_message) == 500

    def test_completed_with_words_and_an_error_has_both(self) -> None:
        reply = completed(HELLO, errorMessage="partly")
        assert (reply.status, reply.error_message) == (ReplyStatus.COMPLETED, "partly")

    @pytest.mark.parametrize("key", ["errorMessage", "message", "error"])
    def test_the_reason_of_a_failure(self, key: str) -> None:
        assert parse_reply({"status": "FAILED", key: "no speech"}).error_message == "no speech"


class TestShapes:
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
        assert (reply.raw, reply.repairs) == (body, ())

    def test_silence(self) -> None:
        transcript = completed().transcript
        assert transcript == Transcript(())
        assert transcript.text == ""

    @pytest.mark.parametrize("shape", ["data", "result", "transcription"])
    def test_wrapped_one_level_down(self, shape: str) -> None:
        inner = {"processingStatus": "COMPLETED", "segments": [HELLO]}
        assert segments_of(parse_reply({shape: inner, "requestId": "r"})) == [
            ("Hello, Doctor.", 0.5, 2.2, None)
        ]
        assert parse_reply({shape: {"processingStatus": "PENDING"}}).status is ReplyStatus.PENDING
        assert parse_reply({shape: {"processingStatus": "PENDING", "segments": [HELLO]}}).transcript is None
        failed = parse_reply({shape: {"status": "FAILED", "errorMessage": "no"}})
        assert (failed.status, failed.error_message) == (ReplyStatus.ERROR, "no")

    @pytest.mark.parametrize("outer", ["success", True, 200, "COMPLETED"])
    def test_a_wrapper_with_a_state_of_its_own(self, outer: object) -> None:
        assert parse_reply({"status": outer, "data": {"status": "PENDING"}}).status is ReplyStatus.PENDING
        assert parse_reply({"status": outer, "data": {"status": "ERROR"}}).status is ReplyStatus.ERROR
        for more in ({"status": "COMPLETED"}, {}):
            reply = parse_reply({"status": outer, "data": {"transcription": [HELLO], **more}})
            assert segments_of(reply) == [("Hello, Doctor.", 0.5, 2.2, None)]

    @pytest.mark.parametrize(
        "words",
        [
            {"transcription": ["Hello,", "Doctor."]},
            {"transcription": "Hello, Doctor."},
            {"transcription": {"text": "Hello, Doctor."}},
            {"transcription": {"segments": [{"text": "Hello, Doctor."}]}},
            {"segments": [{"transcript": "Hello, Doctor."}]},
            {"transcript": "Hello, Doctor."},
            {"text": " Hello, Doctor.\n"},
            {"transcription": [None], "text": "Hello, Doctor."},
            {"transcription": [{}], "segments": [{"content": "Hello, Doctor."}]},
            {"transcription": [], "vttTranscription": "Hello, Doctor."},
            {"transcription": None, "vttTranscription": "WEBVTT\n\n00:00.000 --> 00:01.000\nHello, Doctor."},
            {"transcription": [None], "vttTranscription": "WEBVTT\n\n00:00.0 --> 00:01.0\nHello, Doctor."},
        ],
    )
    def test_words_are_read_wherever_they_are(self, words: dict[str, object]) -> None:
        for payload in (words, {"status": "COMPLETED", **words}):
            transcript = parse_reply(payload).transcript
            assert transcript is not None
            assert transcript.text == "Hello, Doctor."

    def test_one_text_lasts_as_long_as_the_recording(self) -> None:
        reply = parse_reply({"status": "DONE", "transcription": "Hello."}, duration_seconds=61.5)
        assert segments_of(reply) == [("Hello.", 0.0, 61.5, None)]
        assert reply.repairs == ("the transcription is one text without times",)

    def test_the_list_counts_before_the_vtt(self) -> None:
        reply = completed(HELLO, vttTranscription="WEBVTT\n\n00:00.000 --> 00:01.000\nother words")
        assert segments_of(reply) == [("Hello, Doctor.", 0.5, 2.2, None)]

    @pytest.mark.parametrize(
        ("sent", "kind"), [({}, "missing or null"), ({"transcription": None}, "missing or null")]
    )
    def test_completed_without_a_transcription_says_so(self, sent: dict[str, object], kind: str) -> None:
        reply = parse_reply({"status": "COMPLETED", **sent})
        assert reply.transcript == Transcript(())
        assert reply.repairs == (f"the state is COMPLETED, but `transcription` is {kind}",)


LEFT_OUT: list[tuple[object, str]] = [
    (None, "transcription[1] is missing or null: left out"),
    (5, "transcription[1] is a number: left out"),
    ([HELLO], "transcription[1] is a list: left out"),
    ({"text": ["secret words"]}, "transcription[1].text is a list: left out"),
    ({"text": True}, "transcription[1].text is a boolean: left out"),
    ({"words": "secret words"}, "transcription[1] has no text: left out"),
]


class TestSegments:
    @pytest.mark.parametrize(("item", "repair"), LEFT_OUT)
    def test_what_is_left_out_is_said_without_its_words(self, item: object, repair: str) -> None:
        reply = completed(HELLO, item, HELLO)
        assert len(segments_of(reply)) == 2
        assert reply.repairs == (repair,)

    def test_a_number_as_text_is_kept(self) -> None:
        reply = completed({"text": 38.5})
        assert [text for text, *_ in segments_of(reply)] == ["38.5"]
        assert reply.repairs == ("transcription[0].text is a number",)

    def test_segments_without_words_are_left_out(self) -> None:
        reply = completed({"text": " \n"}, {"text": None}, HELLO | {"text": " a "})
        assert (reply.transcript, reply.repairs) == (Transcript((Segment("a", 0.5, 2.2),)), ())

    @pytest.mark.parametrize("key", ["speakerName", "speakerId", "speaker"])
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
        ("fields", "label"),
        [
            ({"speaker": "2", "speakerId": "1", "speakerName": "Doctor"}, "Doctor"),
            ({"speaker": "2", "speakerId": "1"}, "Speaker_01"),
            ({"speakerId": 0, "speakerName": None}, "Speaker_00"),
            ({"speakerId": 0, "speakerName": {"first": "A"}}, "Speaker_00"),
        ],
    )
    def test_a_name_counts_before_an_id(self, fields: dict[str, object], label: str) -> None:
        assert only_segment(**fields).speaker == label

    def test_the_text_has_a_line_for_each_turn(self) -> None:
        turns = [("0", "Hello."), ("0", "How are you?"), ("1", "Well."), (None, "Bye.")]
        transcript = completed(*[HELLO | {"speaker": who, "text": text} for who, text in turns]).transcript
        assert transcript is not None
        assert transcript.text == "Hello. How are you?\nWell.\nBye."


class TestTimes:
    @pytest.mark.parametrize(
        ("sent", "seconds"),
        [
            *[
                (sent, 1.5)
                for sent in (1.5, "1.5", " 1.5 ", "1.5s", "1.5 S", "1,5", "00:01.5", "00:00:01,500")
            ],
            *[(sent, 61.5) for sent in ("61,5", "1:01.5", "00:01:01.500", "0:01:01.5")],
            ("01:00:00", 3600.0),
            ("120:00:00", 0.0),
            (0, 0.0),
            (-0.02, 0.0),
            *[(sent, 0.0) for sent in (None, "", "soon", "1500ms", "PT1S", math.nan, "NaN", math.inf, "inf")],
            *[(sent, 0.0) for sent in (True, [], {}, 10**400, "9" * 400 + ":00:00", 1e9, "1:2:3:4")],
        ],
    )
    @pytest.mark.parametrize("key", ["start", "startTime", "start_time"])
    def test_as_they_are_sent(self, key: str, sent: object, seconds: float) -> None:
        segment = completed({"text": "a", key: sent, "end": 5_000}).transcript
        assert segment is not None
        assert segment.segments[0].start == seconds

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (1, 2, (1.0, 2.0)),
            (3, 2, (3.0, 3.0)),
            (None, 2, (0.0, 2.0)),
            (math.nan, math.inf, (0.0, 0.0)),
            (4, math.nan, (4.0, 4.0)),
            (1, 1e9, (1.0, 1.0)),
        ],
    )
    def test_starts_and_ends_are_in_order(
        self, start: object, end: object, expected: tuple[float, float]
    ) -> None:
        segment = only_segment(start=start, end=end)
        assert (segment.start, segment.end) == expected

    def test_a_missing_start_follows_what_was_said_before(self) -> None:
        reply = completed(HELLO, {"text": "Well."}, {"text": "Yes.", "end": 9})
        assert [times[1:3] for times in segments_of(reply)] == [(0.5, 2.2), (2.2, 2.2), (2.2, 9.0)]

    @pytest.mark.parametrize(
        ("last", "duration_seconds", "scaled"),
        [
            (60_000, 60.0, True),
            (64_900, 60.0, True),  # a little beyond the end
            (65_100, 60.0, False),  # neither unit fits
            (601, 60.0, True),
            (600, 60.0, False),  # ten times the recording, and not more
            (60, 60.0, False),
            (60_000, None, False),
            (60_000, 0.0, False),
        ],
    )
    def test_milliseconds_only_by_the_rule(
        self, last: float, duration_seconds: float | None, scaled: bool
    ) -> None:
        payload = {"transcription": [{"text": "a", "start": 30, "end": last}]}
        reply = parse_reply(payload, duration_seconds=duration_seconds)
        factor = 1000 if scaled else 1
        assert segments_of(reply) == [("a", 30 / factor, last / factor, None)]
        assert reply.repairs == (("times are in milliseconds",) if scaled else ())


VTT = """WEBVTT - by the vendor

NOTE not for display

STYLE
::cue { color: red }

1
00:00.500 --> 00:02.200 align:start
<v Doctor>Good <b>morning</b>,
Mrs. M&uuml;ller &lt;&amp;&gt;</v>

intro
00:01:02,000 --> 00:01:03,000
<v.loud 1>Yes.</v> <v Doctor>And <00:01:02.500><c.red>you</c>?
"""


class TestVtt:
    def parsed(self, vtt: str) -> list[tuple[str, float, float, str | None]]:
        return segments_of(parse_reply({"transcription": [], "vttTranscription": vtt}))

    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    def test_voices_entities_ids_and_notes(self, mark: str, newline: str) -> None:
        assert self.parsed(mark + VTT.replace("\n", newline)) == [
            ("Good morning, Mrs. Müller <&>", 0.5, 2.2, "Doctor"),
            ("Yes.", 62.0, 63.0, "Speaker_01"),
            ("And you?", 62.0, 63.0, "Doctor"),
        ]

    def test_says_where_the_words_are_from(self) -> None:
        assert completed(vttTranscription=VTT).repairs == ("the words are from vttTranscription",)

    @pytest.mark.parametrize(
        "words", ["Hb <7 g/dl, Leuko >10", "a < b > c", "<7 mg> a day", "p<0.05 and <br 5>", "<carbo> 3"]
    )
    def test_angle_brackets_of_a_dictation_are_words(self, words: str) -> None:
        assert [text for text, *_ in self.parsed(f"WEBVTT\n\n00:00.000 --> 00:01.000\n{words}")] == [words]

    @pytest.mark.parametrize("arrow", [" --> ", "-->", "\t-->  "])
    def test_any_space_around_the_arrow(self, arrow: str) -> None:
        assert self.parsed(f"WEBVTT\n\n00:01.000{arrow}00:02.000\nHello.") == [("Hello.", 1.0, 2.0, None)]

    def test_a_mark_before_a_cue_without_a_header(self) -> None:
        assert self.parsed("\ufeff00:01.000 --> 00:02.000\nHello.") == [("Hello.", 1.0, 2.0, None)]

    def test_a_text_that_is_none_is_one_text(self) -> None:
        assert self.parsed("Hello.\n\nDoctor.") == [("Hello.\n\nDoctor.", 0.0, 0.0, None)]

    @pytest.mark.parametrize("empty", ["", "\n", "WEBVTT", "WEBVTT\n\n00:00.000 --> 00:01.000\n \n", 5, None])
    def test_one_without_words_has_none(self, empty: object) -> None:
        assert completed(vttTranscription=empty).transcript == Transcript(())


@pytest.mark.parametrize(
    ("payload", "kind"),
    [(None, "missing or null"), ("secret words", "a string"), (5, "a number"), (True, "a boolean")],
)
def test_a_reply_that_is_no_object_says_so_without_words(payload: object, kind: str) -> None:
    with pytest.raises(ApiUnavailableError) as caught:
        parse_reply(payload)
    assert caught.value.message == f"The API's reply is {kind}; an object was expected."
    assert caught.value.code == "api_protocol"
    assert caught.value.retry_can_help


KEYS = ["text", "start", "end", "speaker", "speakerId", "speakerName", "transcript"]
SEGMENT = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5) | JSON
REPLY = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from([*ReplyStatus]) | JSON,
        "transcription": st.lists(SEGMENT, max_size=4) | JSON,
        "errorMessage": JSON,
        "vttTranscription": st.text() | JSON,
        "data": st.fixed_dictionaries({}, optional={"status": JSON, "text": JSON, "transcription": JSON}),
    },
)


@given(REPLY | JSON)
def test_any_json_is_a_sane_reply_or_our_own_error(payload: object) -> None:
    sent = json.dumps(payload)
    if not isinstance(payload, dict | list):
        with pytest.raises(ApiUnavailableError) as caught:
            parse_reply(payload)
        assert caught.value.code == "api_protocol"
        return
    reply = parse_reply(payload, duration_seconds=60.0)
    assert json.dumps(reply.raw) == sent
    assert (reply.transcript is not None) == (reply.status is ReplyStatus.COMPLETED)
    for segment in reply.transcript.segments if reply.transcript else ():
        assert 0 <= segment.start <= segment.end < 360_000
        assert segment.text.strip()
        assert segment.speaker is None or segment.speaker.isprintable()


WORD = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0x24F, exclude_categories=["C", "Z"]), min_size=1
)


@given(
    st.lists(st.dictionaries(st.sampled_from(KEYS), JSON) | st.none() | st.integers(), max_size=3),
    st.lists(WORD, min_size=1, max_size=4),
    st.sampled_from(STATES[ReplyStatus.COMPLETED]),
    st.data(),
)
def test_no_word_of_a_completed_list_is_lost(
    odd: list[object], words: list[str], state: str, data: st.DataObject
) -> None:
    fields = st.dictionaries(st.sampled_from(KEYS[1:6]), JSON)
    items = data.draw(st.permutations([*odd, *(data.draw(fields) | {"text": word} for word in words)]))
    reply = parse_reply({"status": state, "transcription": items}, duration_seconds=60.0)
    assert reply.transcript is not None
    found = [segment.text for segment in reply.transcript.segments]
    for word in words:
        found.remove(word)  # once for each


@given(REPLY)
def test_repairs_hold_no_words(payload: dict[str, object]) -> None:
    kinds = "(missing or null|a boolean|a number|a string|a list|an object)"
    known = rf"""transcription\[\d+\](\.text)? is {kinds}(: left out)?
transcription\[\d+\] has no text: left out
the state is COMPLETED, but `transcription` is {kinds}
the transcription is one text without times
the words are from vttTranscription
no segment has a time: the times are estimated
times are in milliseconds"""
    for repair in parse_reply(payload, duration_seconds=60.0).repairs:
        assert any(re.fullmatch(pattern, repair) for pattern in known.splitlines())
