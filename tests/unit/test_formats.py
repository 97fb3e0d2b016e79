"""What a decoder can do for a recording, what is made of its facts, and that the daemon imports none."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from invox_watcher.audio import AudioInfo, Completeness
from invox_watcher.errors import Reason, RecordingError
from invox_watcher.formats.decoder import Allowance
from invox_watcher.formats.facts import Facts, Outcome, from_json, to_json
from invox_watcher.inbox.screening import _remedy
from invox_watcher.job import Failure, State
from invox_watcher.processing.steps.prepare import _judge
from invox_watcher.recording import Remedy

FACTS = Facts(Outcome.DECODED, codec="amrnb", seconds=20.0, rate=8000, channels=1)
MIB = 1 << 20


def as_json(**changes: Any) -> bytes:
    return json.dumps(json.loads(to_json(FACTS)) | changes).encode()


def test_facts_survive_their_way() -> None:
    facts = Facts(
        Outcome.DECODED,
        "ds2_qp",
        39.7,
        16000,
        1,
        0.0001,
        None,
        39.696,
        2,
        True,
        {"author": "Smith"},
        {"a": "b"},
    )
    assert from_json(to_json(facts)) == facts


@pytest.mark.parametrize(
    "reported",
    [
        *(b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"Segmentation fault"),
        *(as_json(outcome="fine"), as_json(seconds=-1), as_json(seconds="20"), as_json(seconds=1e300)),
        *(as_json(seconds=float("nan")), as_json(clipped=1.5), as_json(rate=True), as_json(channels=1e9)),
        *(as_json(tags=[1]), as_json(attributes=None), b'{"outcome": "decoded"}'),
    ],
)
def test_reports_that_are_not_plausible_count_for_nothing(reported: bytes) -> None:
    assert from_json(reported) is None


def test_texts_are_single_short_printable_lines() -> None:
    hostile = {"author": "a\r\nb\x1b[31m" + "x" * 5000, "comment": 7, "other": "dropped"}
    facts = from_json(as_json(attributes=hostile, tags={str(n): "t" for n in range(5000)}))
    assert facts is not None
    assert facts.attributes == {"author": ("a b [31m" + "x" * 200)[:200], "comment": "7"}
    assert len(facts.tags) == 50


def test_what_was_printed_before_the_facts_is_skipped() -> None:
    assert from_json(b"a library's last words\n" + to_json(FACTS)) == FACTS


@pytest.mark.parametrize(
    ("size_mib", "cpu_seconds", "output_mib"),
    [(0, 60, 256), (1, 70, 256), (10, 160, 640), (100, 1060, 4096), (4000, 3600, 4096)],
)
def test_a_worker_may_use_what_its_recording_needs(size_mib: int, cpu_seconds: int, output_mib: int) -> None:
    allowance = Allowance.of(size_mib * MIB, 4096 * MIB)
    assert (allowance.cpu_seconds, allowance.output_bytes) == (cpu_seconds, output_mib * MIB)
    assert allowance.wall_seconds > cpu_seconds


NOT_TAKEN = Reason("unsupported_format", "", "")


@pytest.mark.parametrize(
    ("container", "decodable", "refusal", "remedy"),
    [
        ("wav", False, None, Remedy.NONE),
        ("wav", True, None, Remedy.REPAIR),
        ("mp3", False, NOT_TAKEN, Remedy.DECODE),
        (None, True, NOT_TAKEN, Remedy.DECODE),
        (None, False, NOT_TAKEN, Remedy.NONE),
    ],
)
def test_what_a_decoder_can_do(
    container: str | None, decodable: bool, refusal: Reason | None, remedy: Remedy
) -> None:
    info = AudioInfo("", container, None, Completeness.WHOLE, None, True, "", decodable)
    assert _remedy(info, refusal) is remedy


def judged(remedy: Remedy, on_truncated: str = "fail", **facts: Any) -> str:
    code = "truncated" if remedy is Remedy.VERIFY else "unsupported_format"
    refusal = Failure(State.CLAIMED, Reason(code, "", ""), retry_can_help=False, remedy=remedy)
    context: Any = SimpleNamespace(options=SimpleNamespace(on_truncated=on_truncated))
    job: Any = SimpleNamespace(id="1", path="a.amr", format="AMR")
    raw = json.loads(to_json(FACTS)) | facts
    found = from_json(json.dumps(raw).encode())
    assert found is not None
    try:
        return "sent truncated" if _judge(context, job, refusal, found) else "sent"
    except RecordingError as error:
        return error.code


DECODE, VERIFY = Remedy.DECODE, Remedy.VERIFY


@pytest.mark.parametrize(
    ("remedy", "facts", "outcome"),
    [
        (DECODE, {}, "sent"),
        (DECODE, {"errors": 3}, "sent"),
        (DECODE, {"errors": 1, "ends_in_error": True}, "truncated"),
        (DECODE, {"declared_seconds": 20.5}, "sent"),
        (DECODE, {"declared_seconds": 20.0, "ends_in_error": True}, "sent"),  # a tag behind it
        (DECODE, {"declared_seconds": 20.6}, "truncated"),
        (DECODE, {"declared_seconds": 12.0}, "sent"),  # more than declared is not less
        (VERIFY, {}, "truncated"),  # nothing shows that the header is wrong
        (VERIFY, {"declared_seconds": 20.0}, "sent"),
        (VERIFY, {"declared_seconds": 20.0, "ends_in_error": True}, "truncated"),
        (VERIFY, {"declared_seconds": 40.0}, "truncated"),
        (DECODE, {"recorder_seconds": 20.0, "ends_in_error": True}, "sent"),  # padding of a G.723.1 DSS
        (DECODE, {"recorder_seconds": 21.1}, "sent"),
        (DECODE, {"recorder_seconds": 21.5}, "decoded_wrongly"),
        (DECODE, {"recorder_seconds": 18.5}, "decoded_wrongly"),
        (DECODE, {"recorder_seconds": 20.0, "clipped": 0.002}, "decoded_wrongly"),
        (DECODE, {"recorder_seconds": 20.0, "clipped": 0.0009}, "sent"),
        (DECODE, {"codec": "ds2_qp", "clipped": 0.002}, "decoded_wrongly"),
        (DECODE, {"clipped": 0.5}, "sent"),  # loud, but no dictation format
    ],
)
def test_what_is_made_of_the_facts(remedy: Remedy, facts: dict[str, Any], outcome: str) -> None:
    assert judged(remedy, **facts) == outcome


def test_what_was_cut_is_sent_if_wanted() -> None:
    assert judged(DECODE, "send", declared_seconds=40.0) == "sent truncated"
    assert judged(VERIFY, "send") == "sent truncated"
    assert judged(DECODE, "send") == "sent"
    assert judged(DECODE, "send", recorder_seconds=40.0) == "decoded_wrongly"
