"""FAULTS 58: decoders that are killed, a full disk while one writes, and damaged recordings."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.errors import InvoxError
from invox_watcher.formats.decoder import Decoder
from invox_watcher.sandbox.server import Sandbox
from tests.faults import mounts
from tests.faults.clinics import clinic_on
from tests.faults.evidence import seconds_since
from tests.faults.promises import assert_kept, hashes
from tests.kit.clinic import Clinic, running
from tests.kit.mutants import REASONS, mutants, originals
from tests.kit.recordings import write_au
from tests.kit.waiting import wait_for

_PREPARED = ".invox-watcher-prepared"


def workers() -> Iterator[int]:
    """The ids of all decoders' processes."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"invox_watcher.formats.worker" in (folder / "cmdline").read_bytes():
                yield int(folder.name)


def kill_workers_of(daemon: int) -> bool:
    """Kill the decoders that the daemon with this process id has now."""
    for pid in workers():
        if _parent(pid) == daemon:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return True


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def test_58_killed_decoders_cost_no_second_upload(clinic: Clinic, api: Sandbox) -> None:
    write_au(clinic.inbox / "smith.au", seconds=1)
    contents = hashes(clinic)
    with running(clinic) as daemon:
        wait_for(
            "steps are taken again",
            lambda: kill_workers_of(daemon.pid) and len(clinic.events("step_retry")) >= 4,
        )
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.au"])
    assert {event["code"] for event in clinic.events("step_retry")} == {"decoder"}
    assert_kept(clinic, api, contents)


def test_58_a_decoder_that_is_always_killed_is_given_up(tmp_path: Path, api: Sandbox) -> None:
    retry = {"max_attempts": 3, "base_seconds": 0.1, "max_seconds": 0.2}
    clinic = Clinic(tmp_path / "clinic", api.base_url, retry=retry)
    write_au(clinic.inbox / "smith.au", seconds=1)
    with running(clinic) as daemon:
        wait_for("it is given up", lambda: kill_workers_of(daemon.pid) and clinic.files(clinic.failed) != [])
    assert len(clinic.events("step_retry")) >= 2
    reason = json.loads((clinic.failed / "smith.au.error.json").read_text())
    assert (reason["code"], reason["retry_can_help"]) == ("decoder", True)
    assert clinic.under_way() == []


@pytest.mark.needs("root")
def test_58_a_full_disk_while_decoding_pauses_the_intake(api: Sandbox, tmp_path: Path) -> None:
    """There is room for the recording, and not for what is made of it."""
    with mounts.tmpfs(tmp_path / "disk", size="1500k") as folder:
        clinic = clinic_on(folder, api, tmp_path, state={"directory": str(tmp_path / "state")})
        noise = random.Random(1).randbytes(1_000_000)
        (clinic.inbox / "smith.au").write_bytes(
            struct.pack(">4s5I", b".snd", 24, len(noise), 3, 16000, 1) + noise
        )
        contents = hashes(clinic)
        with running(clinic):
            wait_for("the disk refuses", lambda: clinic.events("storage_error") != [])
            assert clinic.events("storage_error")[0]["code"] == "disk_full"
            wait_for(
                "it has been tried again", lambda: seconds_since(clinic.events("storage_error")[0]) > 1.5
            )
            assert clinic.files(clinic.failed) == clinic.files(clinic.done) == []
            assert not list(clinic.processing.glob(f"*/{_PREPARED}.flac"))
            subprocess.run(["mount", "-o", "remount,size=8m", str(folder)], check=True)
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.au"])
        assert_kept(clinic, api, contents)


# ---- damaged recordings ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.needs("ffmpeg")
@pytest.mark.timeout(1800)
def test_58_a_thousand_mutants_end_with_facts_or_a_reason(tmp_path: Path) -> None:
    decoder = Decoder()
    (tmp_path / "made").mkdir()
    ends: Counter[str] = Counter()
    details: Counter[str] = Counter()
    slowest = 0.0
    source, target = tmp_path / "mutant", tmp_path / "out"
    for name, content in mutants(originals(tmp_path / "made"), 1000, random.Random(2026)):
        source.write_bytes(content)
        began = time.monotonic()
        try:
            with source.open("rb") as recording, target.open("wb") as output:
                facts = decoder.decode(recording, output, "flac", threading.Event())
        except InvoxError as error:
            ends[error.code] += 1
            details[error.message] += 1
        else:
            ends["decoded"] += 1
            assert target.read_bytes()[:4] == b"fLaC", name
            assert facts.seconds > 0
        slowest = max(slowest, time.monotonic() - began)
    print(dict(ends), dict(details), f"the slowest took {slowest:.1f} s")
    assert set(ends) <= REASONS | {"decoded"}
    assert sum(ends.values()) == 1000
    assert ends["decoded"] > 500


@pytest.mark.slow
@pytest.mark.needs("ffmpeg")
@pytest.mark.timeout(900)
def test_58_damaged_recordings_end_in_done_or_failed(clinic: Clinic, api: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    count = 300
    for name, content in mutants(originals(tmp_path / "made"), count, random.Random(11)):
        if content:
            (clinic.inbox / name).write_bytes(content)
    with running(clinic):
        wait_for(
            "all are filed",
            lambda: len(clinic.files(clinic.done)) + len(clinic.files(clinic.failed)) // 2 == count,
            seconds=600,
        )
    assert clinic.files(clinic.inbox) == []
    assert clinic.under_way() == []
    reasons = Counter(
        json.loads((clinic.failed / name).read_text())["code"]
        for name in clinic.files(clinic.failed)
        if name.endswith(".error.json")
    )
    print(len(clinic.files(clinic.done)), "done;", dict(reasons))
    assert set(reasons) <= REASONS
    assert not clinic.events("step_crashed", "stalled", "internal_error", "thread_died")
    assert all(request["uploads"] <= 1 for request in api.stats()["requests"])
