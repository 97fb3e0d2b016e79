"""FAULTS 63: a line that stalls in the middle. Never the words of a part beside the whole recording.

All times are a tenth, or less, of what they are by default. Thirty ways to write a recording, each of them over
a polled share, as another account whose writers the daemon can't see, and as one whose writers it can.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.evidence import sha256, uploaded
from tests.faults.senders import VARIANTS, make_all, send_all, stalled
from tests.kit.clinic import Clinic, running, sandbox, wait_for

NOBODY = 65534
WAITS: dict[str, Any] = {
    "grace_seconds": 0.1,
    "settle_seconds": 0.4,
    "unproven_seconds": 1.2,
    "patience_seconds": 600,
    "polling_seconds": 0.2,
    "rescan_seconds": 1,
}
NO_LEASE = ["setpriv", "--bounding-set=-lease", "--inh-caps=-lease"]
# Longer than a likely recording waits, and than any does.
STALLS = {"9 s": 0.8, "60 s": 5.0}
ROOT = pytest.mark.needs("root", "setpriv")


class WithoutLease(Clinic):
    """A clinic whose daemon may not ask about the writers of other users' files."""

    def command(self, *arguments: str) -> list[str]:
        return [*NO_LEASE, *super().command(*arguments)]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every variant's whole content."""
    assert len({os.path.splitext(name)[0] for name in VARIANTS}) == len(VARIANTS) >= 30
    return make_all(tmp_path_factory.mktemp("senders"))


class Place(NamedTuple):
    """Where the sender writes: how the inbox is watched, whose the files are, and what the daemon may ask."""

    mode: str
    foreign: bool
    clinic: type[Clinic]


PLACES = {
    "share": Place("polling", foreign=True, clinic=WithoutLease),  # nothing says that a file is open
    "account": Place("auto", foreign=True, clinic=WithoutLease),
    "leased account": Place("auto", foreign=True, clinic=Clinic),
    "polled": Place("polling", foreign=False, clinic=Clinic),  # the lease is asked for once it is claimed
}


def is_right(clinic: Clinic, name: str, whole: bytes) -> bool:
    """Whether the whole recording is in done/ with a transcript of all of it, and there is no other."""
    stem = os.path.splitext(name)[0]
    try:
        filed = (clinic.done / name).read_bytes()
        transcript = clinic.transcript(f"{stem}.json")
    except FileNotFoundError:
        return False
    return filed == whole and transcript["source"]["sha256"] == sha256(whole)


def assert_no_part_went_unnoticed(clinic: Clinic, api: Sandbox, contents: Mapping[str, bytes]) -> None:
    """Whatever was sent of a part was discarded, or withdrawn with an error."""
    wholes = {sha256(content) for content in contents.values()}
    parts = [digest for digest in uploaded(api) if digest not in wholes]
    noticed = clinic.events("upload_discarded", "recording_changed")
    assert len(noticed) >= len(parts)
    assert all(event["level"] == "error" for event in clinic.events("recording_changed"))
    assert clinic.files(clinic.failed) == clinic.files(clinic.inbox) == []
    assert len(clinic.files(clinic.outbox)) == 2 * len(contents)
    for path in clinic.outbox.glob("*.json"):
        assert clinic.transcript(path.name)["source"]["sha256"] in wholes


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(
    "place", [pytest.param(name, marks=ROOT if PLACES[name].foreign else ()) for name in PLACES]
)
def test_63_a_stalled_line_never_gives_a_part_for_the_whole(
    tmp_path: Path, contents: dict[str, bytes], place: str, stall: str
) -> None:
    at = PLACES[place]
    with sandbox(tmp_path / "api") as api:
        # Nothing is reused: every recording counts by itself.
        changes: dict[str, Any] = {"watch": WAITS | {"mode": at.mode}, "intake": {"on_duplicate": "process"}}
        clinic = at.clinic(tmp_path / "clinic", api.base_url, **changes)
        with running(clinic):
            send_all(contents, clinic.inbox, stalled(STALLS[stall]), owner=NOBODY if at.foreign else None)
            for name, whole in contents.items():
                wait_for(f"{name} is right", lambda n=name, w=whole: is_right(clinic, n, w), seconds=60)  # type: ignore[misc]
            wait_for("nothing is under way", lambda: not list(clinic.processing.iterdir()))
        assert_no_part_went_unnoticed(clinic, api, contents)
        if at.clinic is Clinic or stall == "9 s":
            assert len(uploaded(api)) == len(contents)  # not one of them was sent too early
            assert clinic.events("upload_discarded", "recording_changed") == []
        else:
            assert clinic.events("recording_changed") != []  # else this test shows nothing
