"""A newcomer's first day: from what `check` and `check --try` print, and nothing else, to a transcript.

The newcomer can ask the vendor for the value of a key, but only for one that a command has named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.clinic import Clinic, sandbox
from tests.kit.recordings import write_wav
from tests.kit.vendor_keys import NEEDED, NEEDED_BY_UPLOADS, clinic_with

KEY = re.compile(r"\b(?:api|upload)\.[a-z_]+(?:\.[a-z_]+)*")
ANSWERS = {**NEEDED, **NEEDED_BY_UPLOADS}
DAYS = [
    ("token-json", "paths-v1"),
    ("version-2026", "api-key-header"),
    ("status-get", "upload-header"),
    ("stage", "token-get", "presign-language"),
    ("token-form-credentials", "token-odd", "status-get-query"),
    ("token-headers", "mime-iana", "paths-v1-forbidden"),
]


def named_by_check(clinic: Clinic) -> Iterator[str]:
    """The keys that its problems name, the likeliest first."""
    for row in json.loads(clinic.run("check", "--json").stdout):
        if row["level"] == "failed" or (row["level"] == "warning" and row["check"].startswith("api.")):
            yield from KEY.findall(f"{row['check']} {row['problem']} {row['hint']}")


def named_by_try(clinic: Clinic, recording: Path) -> list[str]:
    """The keys that its last lines name; none if it works."""
    done = clinic.run("check", "--try", str(recording))
    return [] if done.returncode == 0 else KEY.findall(done.stdout.partition("No transcript: ")[2])


@pytest.mark.parametrize("readings", DAYS, ids=map("+".join, DAYS))
def test_the_output_leads_to_a_working_configuration(readings: tuple[str, ...], tmp_path: Path) -> None:
    told_if_asked = {key: value for name in readings for key, value in ANSWERS[(name,)].items()}
    keys: dict[str, Any] = {}
    recording = write_wav(tmp_path / "smith.wav")
    with sandbox(tmp_path / "api", readings=readings) as api:
        for _step in range(2 * len(told_if_asked) + 1):
            clinic = clinic_with(tmp_path / "clinic", api, keys)
            named = list(named_by_check(clinic)) or named_by_try(clinic, recording)
            if not named:
                break
            asked = [key for key in named if key in told_if_asked and key not in keys]
            assert asked, f"stuck with {keys}: {named}"
            keys[asked[0]] = told_if_asked[asked[0]]
        assert keys == told_if_asked
        done = clinic.run("transcribe", str(recording))
        assert (done.returncode, "This is recording" in done.stdout) == (0, True)
        assert api.stats()["upload_attempts"] <= 4
