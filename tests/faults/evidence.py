"""What a person looks at when a fault is over: files with their bytes, reasons, jobs, the bill."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from typing import Any

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic


def sha256(content: bytes) -> str:
    """The content's hash, by which the API knows it."""
    return hashlib.sha256(content).hexdigest()


def uploaded(api: Sandbox) -> list[str]:
    """The hashes of all that the API was ever given whole, each as often as it came."""
    requests = api.stats()["requests"]
    return sorted(request["sha256"] for request in requests for _ in range(request["uploads"]))


def jobs(clinic: Clinic, *options: str) -> list[dict[str, Any]]:
    """What `invox-watcher jobs --json` prints, without options for all jobs there ever were."""
    listed: list[dict[str, Any]] = json.loads(clinic.run("jobs", "--json", *(options or ("--all",))).stdout)
    return listed


def reason_for(clinic: Clinic, name: str) -> dict[str, Any]:
    """The error file beside a recording in failed/."""
    reason: dict[str, Any] = json.loads((clinic.failed / f"{name}.error.json").read_text("utf-8"))
    return reason


def assert_all_quiet(clinic: Clinic) -> None:
    """Nothing is under way, nothing waits."""
    assert clinic.files(clinic.inbox) == []
    assert clinic.under_way() == []


def assert_own_transcript(clinic: Clinic, name: str, content: bytes) -> None:
    """The recording lies in done/ with these bytes, and its transcript is of these bytes."""
    assert (clinic.done / name).read_bytes() == content
    transcript = clinic.transcript(os.path.splitext(name)[0] + ".json")
    assert transcript["source"]["sha256"] == sha256(content)
    assert sha256(content)[:12] in transcript["text"]


def assert_done(clinic: Clinic, *names: str) -> None:
    """These recordings are in done/ with their transcripts, and nothing lies anywhere else."""
    assert clinic.files(clinic.done) == sorted(names)
    stems = [name.removesuffix(".wav") for name in names]
    outputs = sorted(f"{stem}.{suffix}" for stem in stems for suffix in ("json", "srt"))
    assert clinic.files(clinic.outbox) == outputs
    assert clinic.files(clinic.failed) == clinic.files(clinic.inbox) == []
    assert clinic.under_way() == []


def retry_codes(clinic: Clinic) -> list[str]:
    return [event["code"] for event in clinic.events("step_retry")]


def seconds_since(event: dict[str, Any]) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(event["at"])).total_seconds()
