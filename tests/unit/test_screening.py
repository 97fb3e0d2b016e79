"""`judge`: the outcome for a file by its content, its writer and how long it has been unchanged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from invox_watcher.inbox import screening
from invox_watcher.inbox.screening import Judgement, Outcome, ScreeningRules, judge
from invox_watcher.inbox.stability import Evidence, Waits, Writer
from invox_watcher.recording import FileIdentity
from tests.kit.recordings import write_wav

READY, SETTLING, UNFINISHED, OPEN = Outcome.READY, Outcome.SETTLING, Outcome.UNFINISHED, Outcome.OPEN
NOBODY, SOMEBODY, UNKNOWN = Writer.NONE, Writer.OPEN, Writer.UNKNOWN
PROVEN, LIKELY, UNPROVEN = Evidence.PROVEN, Evidence.LIKELY, Evidence.UNPROVEN
WAITS = Waits(grace_seconds=1, settle_seconds=5, unproven_seconds=30, patience_seconds=300)
RULES = ScreeningRules(max_size_bytes=50_000, accepted_mime_types=["audio/wav"], waits=WAITS)
UNSET = b"\xff" * 4
# For how long a file has been unchanged: just long enough for each wait.
SECONDS = {"new": 0.9, "graced": 1.0, "settled": 5.0, "long settled": 30.0, "patient": 300.0}

CONTENT: dict[str, Callable[[bytes], bytes]] = {
    "complete": lambda wav: wav,
    "streamed": lambda wav: wav[:4] + UNSET + wav[8:40] + UNSET + wav[44:],  # its header declares no size
    "unclosed": lambda wav: wav[:40] + bytes(4) + wav[44:],  # as a recorder has it until it has finished
    "header": lambda wav: wav[:40] + bytes(4),  # the button was pressed and let go
    "truncated": lambda wav: wav[:-1000],
    "empty": lambda wav: b"",
    "zeros": lambda wav: bytes(20_000),
    "large": lambda wav: wav.ljust(50_001, b"\0"),
    "as large as may be": lambda wav: wav.ljust(50_000, b"\0"),
    "reserved": lambda wav: (
        wav[:4000] + bytes(len(wav) - 4000)
    ),  # its full size from the start, not yet filled
    "linked": lambda wav: wav,  # under a second name, too
    "letter": lambda wav: b"Dear colleague,\r\n\r\nthank you for sending this patient.",
    "amr": lambda wav: b"#!AMR\n" + b"\x3c".ljust(32, b"\x91") * 100,
    "mp3": lambda wav: b"\xff\xfb\x90\x64".ljust(417, b"\0") * 20,
}


class Case(NamedTuple):
    """`unchanged`: a key of SECONDS; `why`: what is missing, or the refusal's code."""

    content: str
    writer: Writer
    unchanged: str
    outcome: Outcome
    why: str = ""
    evidence: Evidence | None = None


def waits_until(taken: str, content: str, writer: Writer, evidence: Evidence, code: str = "") -> list[Case]:
    """Settling before it has been unchanged for so long, ready from then on."""
    order = list(SECONDS)
    return [
        Case(content, writer, since, SETTLING if early else READY, "" if early else code, evidence)
        for since in order
        for early in [order.index(since) < order.index(taken)]
    ]


TABLE = [
    # What a process writes is left alone, however long it pauses.
    *[Case("complete", SOMEBODY, since, OPEN, "open for writing") for since in SECONDS],
    Case("empty", SOMEBODY, "patient", OPEN, "open for writing"),
    Case("large", SOMEBODY, "patient", OPEN, "open for writing"),
    # Whole and closed; one of the two; neither.
    *waits_until("graced", "complete", NOBODY, PROVEN),
    *waits_until("graced", "as large as may be", NOBODY, PROVEN),
    *waits_until("settled", "streamed", NOBODY, LIKELY),
    *waits_until("settled", "reserved", NOBODY, LIKELY),
    *waits_until("settled", "complete", UNKNOWN, LIKELY),
    *waits_until("long settled", "streamed", UNKNOWN, UNPROVEN),
    *waits_until("long settled", "reserved", UNKNOWN, UNPROVEN),
    # A header without a length is believed once no process can complete it any more, or after patience.
    *waits_until("settled", "unclosed", NOBODY, LIKELY),
    Case("unclosed", UNKNOWN, "graced", SETTLING),
    Case("unclosed", UNKNOWN, "long settled", UNFINISHED, "incomplete: its header was not completed"),
    Case("unclosed", UNKNOWN, "patient", READY, "", UNPROVEN),
    *waits_until("settled", "header", NOBODY, PROVEN, "empty"),
    Case("header", UNKNOWN, "long settled", UNFINISHED, "incomplete: its header was not completed"),
    Case("header", UNKNOWN, "patient", READY, "empty", LIKELY),
    # More is to come, until patience ends.
    Case("empty", NOBODY, "new", SETTLING),
    Case("empty", NOBODY, "graced", SETTLING, "empty"),
    Case("empty", NOBODY, "settled", UNFINISHED, "empty"),
    Case("empty", NOBODY, "patient", READY, "empty"),
    Case("empty", UNKNOWN, "new", SETTLING),
    Case("empty", UNKNOWN, "patient", READY, "empty"),
    Case("truncated", NOBODY, "graced", SETTLING, "incomplete"),
    Case("truncated", NOBODY, "settled", UNFINISHED, "incomplete"),
    Case("truncated", NOBODY, "patient", READY, "truncated"),
    Case("truncated", UNKNOWN, "settled", UNFINISHED, "incomplete"),
    Case("truncated", UNKNOWN, "long settled", UNFINISHED, "incomplete"),
    Case("zeros", NOBODY, "settled", UNFINISHED, "incomplete"),
    Case("zeros", NOBODY, "patient", READY, "truncated"),
    # What will never be transcribed is refused once it has settled, what might be unfinished later.
    *[
        Case(content, writer, since, READY if since == "settled" else SETTLING, code * (since == "settled"))
        for content, code in [("large", "too_large"), ("linked", "hard_link")]
        for writer in (NOBODY, UNKNOWN)
        for since in ("graced", "settled")
    ],
    *[
        case
        for content, code in [("letter", "not_audio"), ("amr", "unsupported_format"), ("mp3", "not_accepted")]
        for case in [
            *waits_until("settled", content, NOBODY, LIKELY, code),
            *waits_until("long settled", content, UNKNOWN, UNPROVEN, code),
        ]
    ],
]


def judged(
    path: Path, case: Case, monkeypatch: pytest.MonkeyPatch, *, rules: ScreeningRules = RULES
) -> Judgement:
    wav = write_wav(path).read_bytes()
    path.write_bytes(CONTENT[case.content](wav))
    if case.content == "linked":
        os.link(path, path.with_suffix(".second"))
    monkeypatch.setattr(screening, "writer_of", lambda _fd: case.writer)
    fd = os.open(path, os.O_RDONLY)
    try:
        return judge(
            "ward/smith.wav",
            fd,
            rules,
            unchanged_seconds=SECONDS[case.unchanged],
            local=True,
        )
    finally:
        os.close(fd)


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.content}-{case.writer}-{case.unchanged}")
def test_each_file_has_its_outcome(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(tmp_path / "a.wav", case, monkeypatch)
    assert found.outcome is case.outcome
    if case.evidence is not None and SECONDS[case.unchanged] >= WAITS.of(LIKELY):
        assert found.evidence is case.evidence
        assert found.why
    if case.outcome is SETTLING:
        assert SECONDS[case.unchanged] < found.wait_seconds
    if case.outcome is READY:
        assert found.candidate is not None
        assert found.candidate.evidence is (found.evidence or UNPROVEN)
        refusal = found.candidate.refusal
        assert (refusal.code if refusal else "") == case.why
        assert refusal is None or (refusal.message.endswith(".") and refusal.hint)
        assert (found.candidate.mime_type is None) is (refusal is not None)
    else:
        assert (found.candidate, found.reason) == (None, case.why)


def test_every_outcome_and_every_writer_is_in_the_table() -> None:
    assert {case.outcome for case in TABLE} == set(Outcome)
    assert {case.writer for case in TABLE} == set(Writer)
    assert {case.content for case in TABLE} == set(CONTENT)
    assert {case.evidence for case in TABLE} == {None, *Evidence}


def test_a_candidate_says_what_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.wav"
    candidate = judged(path, Case("complete", NOBODY, "graced", READY), monkeypatch).candidate
    assert candidate is not None
    assert (candidate.path, candidate.identity) == ("ward/smith.wav", FileIdentity.of(path.stat()))
    assert (candidate.format, candidate.mime_type) == ("WAV (PCM)", "audio/wav")
    assert candidate.duration_seconds == pytest.approx(0.5)


def test_a_candidate_says_what_is_odd_about_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("unclosed", NOBODY, "settled", READY)
    candidate = judged(tmp_path / "a.wav", case, monkeypatch).candidate
    assert candidate is not None
    assert "counts no sound" in candidate.remark
    assert candidate.duration_seconds == pytest.approx(0.5)


@pytest.mark.parametrize("content", ["large", "linked", "empty"])
def test_a_file_refused_unread_has_no_format(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = judged(tmp_path / "a.wav", Case(content, NOBODY, "patient", READY), monkeypatch).candidate
    assert candidate is not None
    assert (candidate.format, candidate.duration_seconds) == ("unknown", None)


def test_an_account_that_takes_mp3_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = ScreeningRules(RULES.max_size_bytes, ["audio/wav", "audio/mpeg"], WAITS)
    case = Case("mp3", NOBODY, "settled", READY)
    candidate = judged(tmp_path / "a.wav", case, monkeypatch, rules=rules).candidate
    assert candidate is not None
    assert (candidate.mime_type, candidate.refusal) == ("audio/mpeg", None)


@pytest.mark.parametrize(("unchanged", "outcome"), [("graced", SETTLING), ("settled", READY)])
def test_a_complete_file_settles_before_it_is_refused(
    unchanged: str, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = ScreeningRules(RULES.max_size_bytes, ["audio/mp3"], WAITS)
    case = Case("complete", NOBODY, unchanged, outcome)
    assert judged(tmp_path / "a.wav", case, monkeypatch, rules=rules).outcome is outcome


def test_on_a_share_the_lease_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screening, "writer_of", lambda _fd: pytest.fail("a lease says nothing there"))
    with write_wav(tmp_path / "a.wav").open("rb") as file:
        answers = [
            judge("a.wav", file.fileno(), RULES, unchanged_seconds=unchanged, local=False).outcome
            for unchanged in (4.9, 5)
        ]
    assert answers == [SETTLING, READY]


def test_space_never_written_to_is_a_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the file was written first, as a network file system's client may do."""
    monkeypatch.setattr(screening, "writer_of", lambda _fd: NOBODY)
    whole = write_wav(tmp_path / "whole.wav", seconds=30).read_bytes()
    with (tmp_path / "holed.wav").open("wb") as file:
        file.write(whole[:100_000])
        file.seek(300_000)
        file.write(whole[300_000:])
    rules = ScreeningRules(1 << 30, ["audio/wav"], WAITS)
    evidence = []
    for name in ("whole.wav", "holed.wav"):
        with (tmp_path / name).open("rb") as file:
            found = judge(name, file.fileno(), rules, unchanged_seconds=30, local=True)
            evidence.append(found.evidence)
    assert evidence == [PROVEN, LIKELY]


def test_a_file_that_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    with (
        write_wav(tmp_path / "a.wav").open("ab") as file,
        pytest.raises(OSError, match="Bad file descriptor"),
    ):
        judge("a.wav", file.fileno(), RULES, unchanged_seconds=300, local=False)
