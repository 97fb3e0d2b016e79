"""FAULTS 63, 64: a line that stalls in the middle, and senders that touch a recording after they closed it.

Never the words of a part beside the whole recording. All times are a tenth, or less, of what they are by
default. Thirty ways to write a recording, each of them over a polled share, as another account whose writers
the daemon can't see, and as one whose writers it can.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.clinics import WithoutLease
from tests.faults.daemons import Daemons, Death, Fate
from tests.faults.evidence import jobs, sha256, uploaded
from tests.faults.person import SlowWriting, mp3
from tests.faults.senders import VARIANTS, make_all, send_all, stalled
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

NOBODY = 65534
WAITS: dict[str, Any] = {
    "grace_seconds": 0.1,
    "settle_seconds": 0.4,
    "unproven_seconds": 1.2,
    "patience_seconds": 600,
    "polling_seconds": 0.2,
    "rescan_seconds": 1,
}
# Longer than a likely recording waits, and than any does.
STALLS = {"9 s": 0.8, "60 s": 5.0}
ROOT = pytest.mark.needs("root", "setpriv")


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
@pytest.mark.needs  # minutes
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
            wait_for("nothing is under way", lambda: not clinic.under_way())
        assert_no_part_went_unnoticed(clinic, api, contents)
        if at.clinic is Clinic or stall == "9 s":
            assert len(uploaded(api)) == len(contents)  # not one of them was sent too early
            assert clinic.events("upload_discarded", "recording_changed") == []
        else:
            assert clinic.events("recording_changed") != []  # else this test shows nothing


# ---- a part that was taken ---------------------------------------------------------------------------------


def half_of(mp3: bytes) -> int:
    """Where a frame begins in the middle: a part that ends there shows nothing of being one."""
    return mp3.index(mp3[:3], len(mp3) // 2)


class Part:
    """Half of an MP3 on a share; its sender can continue later, on the descriptor that it already has."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.whole, self._half = content, half_of(content)
        self._file = path.open("wb", buffering=0)
        os.fchown(self._file.fileno(), NOBODY, NOBODY)
        self._file.write(content[: self._half])

    def finish(self) -> None:
        """The line is back."""
        self._file.write(self.whole[self._half :])
        self._file.close()


def share_clinic(folder: Path, api: Sandbox) -> Clinic:
    """One whose inbox is polled, and where nothing says who writes."""
    return WithoutLease(folder, api.base_url, watch=WAITS | {"mode": "polling"})


@ROOT
def test_63_a_part_waiting_for_its_result_is_discarded(
    tmp_path: Path, api: Sandbox, contents: dict[str, bytes]
) -> None:
    clinic = share_clinic(tmp_path / "clinic", api)
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        part = Part(clinic.inbox / "cbr.mp3", contents["cbr.mp3"])
        wait_for("the part is sent", lambda: clinic.events("uploaded") != [])
        part.finish()
        api.clear_faults()
        wait_for("it is right", lambda: is_right(clinic, "cbr.mp3", part.whole))
    assert len(clinic.events("upload_discarded")) == 1
    assert [job["state"] for job in jobs(clinic)] == ["done"]
    assert_no_part_went_unnoticed(clinic, api, {"cbr.mp3": part.whole})


@ROOT
@pytest.mark.parametrize("again", ["once", "restart"])
def test_63_a_part_filed_by_an_earlier_run_is_found_by_the_next(
    tmp_path: Path, api: Sandbox, contents: dict[str, bytes], again: str
) -> None:
    """`run --once` from a timer, or a restart, between the filing of the part and the rest of it."""
    clinic = share_clinic(tmp_path / "clinic", api)
    part = Part(clinic.inbox / "cbr.mp3", contents["cbr.mp3"])
    assert run_once(clinic) == 0
    assert clinic.files(clinic.done) == ["cbr.mp3"]
    part.finish()
    if again == "once":
        assert [run_once(clinic) for _ in range(2)] == [0, 0]
    else:
        with running(clinic):
            wait_for("it is right", lambda: is_right(clinic, "cbr.mp3", part.whole))
    assert run_once(clinic) == 0  # which looks at it again, and finds it in order
    assert is_right(clinic, "cbr.mp3", part.whole)
    [changed] = clinic.events("recording_changed")
    assert (changed["level"], changed["state"]) == ("error", "done")
    assert_no_part_went_unnoticed(clinic, api, {"cbr.mp3": part.whole})


@pytest.mark.parametrize(
    "moment",
    [pytest.param(moment, marks=() if moment in (4, 5) else pytest.mark.needs) for moment in range(1, 13)],
)
def test_63_a_part_whose_publishing_was_killed_leaves_no_words(
    tmp_path: Path, api: Sandbox, moment: int
) -> None:
    """Killed between the files of its transcript; then the sender goes on."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=WAITS | {"settle_seconds": 0.1})
    path = clinic.inbox / "smith.mp3"
    writing = SlowWriting(path, path, mp3(1), held=False, reserved=False)
    writing.write(5000)
    daemons = Daemons()
    daemons.run(clinic, "run", "--once", fate=Fate(Death("rename_new", moment)))
    writing.write(len(writing.content))
    # One may only close the job that was killed, the next find that what is filed has changed.
    assert [daemons.run(clinic, "run", "--once") for _ in range(3)] == [0, 0, 0]
    daemons.close()
    assert is_right(clinic, "smith.mp3", writing.content)
    assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]


def run_once(clinic: Clinic) -> int:
    """`run --once` by the clinic's own command line."""
    with clinic.log.open("ab") as log:
        return subprocess.run(clinic.command("run", "--once"), stderr=log, check=False, timeout=60).returncode


@ROOT
def test_63_a_part_sent_again_under_its_name_is_a_new_recording(
    tmp_path: Path, api: Sandbox, contents: dict[str, bytes]
) -> None:
    """The sender's connection broke: the part stays one, and the next attempt writes a file of its own."""
    clinic = share_clinic(tmp_path / "clinic", api)
    whole = contents["cbr.mp3"]
    with running(clinic):
        (clinic.inbox / "cbr.mp3").write_bytes(whole[: half_of(whole)])
        wait_for("the part is taken", lambda: clinic.files(clinic.done) == ["cbr.mp3"])
        (clinic.inbox / "cbr.mp3").write_bytes(whole)
        wait_for("the whole is taken", lambda: clinic.files(clinic.done) == ["cbr-2.mp3", "cbr.mp3"])
    for name, content in (("cbr.mp3", whole[: half_of(whole)]), ("cbr-2.mp3", whole)):
        assert is_right(clinic, name, content)


# ---- after the close ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("calls", ["rename, chmod, utime", "utime, chmod, rename", "chown by name"])
def test_64_a_sender_that_touches_after_the_close_meets_no_error(
    tmp_path: Path, api: Sandbox, calls: str
) -> None:
    """Ten recordings over a line of 60 ms: each call comes a moment after the one before."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch={"grace_seconds": 3, "settle_seconds": 60,
                                                             "patience_seconds": 600})  # fmt: skip
    with running(clinic):
        for number in range(10):
            path = write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number)
            for call in calls.split(", "):
                time.sleep(0.06)
                path = touch(path, call)  # fails if the recording is gone by then
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 10)
    assert clinic.events("upload_discarded", "recording_changed") == []
    assert len(uploaded(api)) == 10


def touch(path: Path, call: str) -> Path:
    """One call of a sender, by name; the name that the recording has then."""
    if call == "rename":
        return path.rename(path.with_stem(f"{path.stem} sent"))
    if call == "chmod":
        path.chmod(0o640)
    elif call == "utime":
        os.utime(path, (1e9, 1e9))
    else:
        os.chown(path, os.getuid(), os.getgid())
    return path


def test_64_a_recorder_that_pauses_gives_one_recording(tmp_path: Path, api: Sandbox) -> None:
    """Close, open again, append, mend the header: whole each time, to anyone who looks."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch={"grace_seconds": 1.8})
    parts = [write_wav(tmp_path / f"{n}.wav", seconds=0.5 * n).read_bytes() for n in (1, 2, 3)]
    path = clinic.inbox / "talk.wav"
    with running(clinic):
        for content in parts:
            with path.open("ab", buffering=0) as file:
                file.write(content[path.stat().st_size :])
            with path.open("r+b", buffering=0) as file:
                file.write(content[:44])
            time.sleep(1)  # two of these are longer than the grace, which starts again each time
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["talk.wav"])
    assert is_right(clinic, "talk.wav", parts[-1])
    assert len(clinic.events("claimed")) == len(uploaded(api)) == 1


def test_64_a_recorder_that_opens_it_again_is_waited_for(tmp_path: Path, api: Sandbox) -> None:
    """It has the file open when that is claimed: the lease says so before a byte is sent."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=WAITS | {"mode": "polling"})
    whole = write_wav(tmp_path / "talk.wav", seconds=2).read_bytes()
    path = clinic.inbox / "talk.wav"
    first = write_wav(path, seconds=1).read_bytes()
    with path.open("r+b", buffering=0) as file, running(clinic):
        wait_for("it is found open", lambda: clinic.events("recording_open") != [])
        assert clinic.events("upload_started") == []
        file.seek(len(first))
        file.write(whole[len(first) :])
        file.seek(0)
        file.write(whole[:44])
        file.close()
        wait_for("it is right", lambda: is_right(clinic, "talk.wav", whole))
    assert uploaded(api) == [sha256(whole)]
