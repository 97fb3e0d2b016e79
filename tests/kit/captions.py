"""A delivery to render, and a reader of SRT that is not the code under test."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from invox_watcher.outputs import Delivery, Source
from invox_watcher.transcript import Segment, Transcript

NAMES = {"Speaker_00": "Doctor"}
CONVERSATION = (
    Segment("Hello, how are you?", 0.5, 2.2, "Speaker_00"),
    Segment("Better.", 2.5, 3.5, "Speaker_01"),
    Segment("The swelling is gone.", 3.5, 6.0, "Speaker_01"),
)
LONG = (
    "The patient was admitted on Monday with chest pain radiating to the left arm, "
    "and was given aspirin at once. The electrocardiogram showed no changes, "
    "and the first troponin was normal."
)


def delivery(*segments: Segment, **changes: Any) -> Delivery:
    made = Delivery(
        job_id="20261123t185056-9f2c41d07ab3",
        request_id="r-1",
        source=Source("ward3/smith.wav", 123456, "ab" * 32, "audio/wav", 6.25),
        received_at=datetime(2026, 11, 23, 18, 50, 56, 123456, tzinfo=UTC),
        uploaded_at=datetime(2026, 11, 23, 20, 50, 57, tzinfo=timezone(timedelta(hours=2))),
        completed_at=None,
        delivered_by="polling",
        transcript=Transcript(segments),
        api_reply={"status": "COMPLETED"},
    )
    return replace(made, **changes)


@dataclass(frozen=True)
class Cue:
    start_ms: int
    end_ms: int
    lines: list[str]


def parsed(text: str) -> list[Cue]:
    """A strict reader of SRT, written from the format's description and not from the code under test."""
    if not text:
        return []
    assert text.endswith("\n\n")
    cues = []
    for number, block in enumerate(text[:-2].split("\n\n"), start=1):
        first, times, *lines = block.split("\n")
        assert first == str(number)
        match = re.fullmatch(
            r"(\d\d+):([0-5]\d):([0-5]\d),(\d{3}) --> (\d\d+):([0-5]\d):([0-5]\d),(\d{3})", times
        )
        assert match is not None
        h1, m1, s1, ms1, h2, m2, s2, ms2 = map(int, match.groups())
        start, end = ((h1 * 60 + m1) * 60 + s1) * 1000 + ms1, ((h2 * 60 + m2) * 60 + s2) * 1000 + ms2
        cues.append(Cue(start, end, lines))
    return cues


def visible(text: str) -> str:
    return re.sub(r"\s", "", text)
