"""The promises that hold whatever happened, checked as a person would: by the folders and by what it cost."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from invox_watcher.files import MARK_FILE
from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic


def hashes(clinic: Clinic) -> set[str]:
    """The SHA-256 of every recording in the inbox."""
    return set(_contents(clinic.inbox))


def assert_kept(clinic: Clinic, api: Sandbox, contents: set[str], *, failed: int = 0) -> None:
    """Each recording once in done/, with exactly one whole transcript, paid for once; no left-overs."""
    once = dict.fromkeys(contents, 1)
    assert _contents(clinic.done) == once
    sent = set()
    transcripts = [clinic.transcript(name) for name in clinic.files(clinic.outbox) if name.endswith(".json")]
    assert Counter(transcript["source"]["sha256"] for transcript in transcripts) == once
    for transcript in transcripts:
        sent.add(sha256 := transcript.get("prepared", transcript["source"])["sha256"])
        assert sha256[:12] in transcript["text"]
    stems = [name.rpartition(".")[0] for name in clinic.files(clinic.done)]
    outputs = [f"{stem}.{suffix}" for stem in stems for suffix in ("json", "srt")]
    assert clinic.files(clinic.outbox) == sorted(outputs)
    assert len(clinic.files(clinic.failed)) == 2 * failed
    assert clinic.files(clinic.inbox) == []
    assert clinic.under_way() == []
    requests = [request for request in api.stats()["requests"] if request["sha256"] in sent]
    uploaded = Counter(request["sha256"] for request in requests if request["uploads"])
    assert uploaded == dict.fromkeys(sent, 1)
    assert all(request["uploads"] <= 1 for request in requests)


def _contents(folder: Path) -> Counter[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != MARK_FILE)
    return Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
