"""FAULTS 26, 27, 32: the disk is full, a call fails or is interrupted, done/ can't be written.

System calls that fail are refused by the kernel's tracer in the real daemon, full disks are small ones.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults import mounts
from tests.faults.clinics import QUICK, Unprivileged, clinic_on, put
from tests.faults.crash_zygote import NEVER, Zygote
from tests.faults.evidence import seconds_since
from tests.faults.promises import assert_kept, hashes
from tests.faults.tracing import Call, Fault, Trace
from tests.kit.clinic import Clinic, running
from tests.kit.daemon_server import problems
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    process = Zygote()
    yield process
    process.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounts.tmpfs(tmp_path / "disk") as folder:
        yield folder


def fill(folder: Path) -> Path:
    """Take the last byte of that file system; return the folder that holds it."""
    filler = folder / "filler"
    filler.mkdir()
    with contextlib.suppress(OSError):
        for number in itertools.count():  # ext4 has room for another small file where a large one can't grow
            with (filler / f"{number}").open("wb", buffering=0) as file:
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * 4096):
                        pass
                os.fsync(file.fileno())
                if file.tell() == 0:
                    break
    return filler


def changes_in(folder: Path, *, seconds: float) -> int:
    """How often a folder changes, as far as its time of change tells."""
    seen = set()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen.add(folder.stat().st_mtime_ns)
        time.sleep(0.001)
    return len(seen) - 1


# ---- 26: the disk is full ----------------------------------------------------------------------------------


@pytest.mark.needs("root")
def test_26_a_full_disk_at_the_claim_leaves_the_recording(
    small_disk: Path, api: Sandbox, tmp_path: Path
) -> None:
    clinic = clinic_on(small_disk, api, tmp_path)
    path = write_wav(clinic.root / "smith.wav", seconds=0.1)
    contents = {hashlib.sha256(path.read_bytes()).hexdigest()}
    with running(clinic):
        filler = fill(small_disk)
        os.rename(clinic.root / "smith.wav", clinic.inbox / "smith.wav")
        wait_for("it says so", lambda: clinic.events("claim_failed") != [])
        wait_for("it is not ready", lambda: problems(clinic) != {})
        assert changes_in(clinic.inbox, seconds=0.5) < 10  # it is tried now and then, not all the time
        assert clinic.files(clinic.outbox) == []
        assert api.stats()["presigns"] == 0
        shutil.rmtree(filler)
        wait_for("it goes on", lambda: clinic.files(clinic.done) == ["smith.wav"])
        wait_for("it is ready", lambda: problems(clinic) == {})
    assert_kept(clinic, api, contents)


@pytest.mark.needs("root", "mkfs.ext4")
@pytest.mark.parametrize("disk", [mounts.tmpfs, mounts.ext4], ids=["tmpfs", "ext4"])
def test_26_a_full_disk_at_the_delivery_pauses_the_intake(
    api: Sandbox, tmp_path: Path, disk: Callable[[Path], contextlib.AbstractContextManager[Path]]
) -> None:
    with disk(tmp_path / "disk") as folder:
        clinic = clinic_on(folder, api, tmp_path, state={"directory": str(tmp_path / "state")})
        contents = set()
        for path, pitch in ((clinic.inbox / "smith.wav", 300), (clinic.root / "later.wav", 400)):
            write_wav(path, seconds=0.1, pitch=pitch)
            contents.add(hashlib.sha256(path.read_bytes()).hexdigest())
        api.fault({"on": "status", "do": "unknown_status", "times": None})
        with running(clinic):
            wait_for("it is uploaded", lambda: clinic.events("uploaded") != [])
            filler = fill(folder)
            api.clear_faults()
            wait_for("the disk refuses", lambda: clinic.events("storage_error") != [])
            os.rename(clinic.root / "later.wav", clinic.inbox / "later.wav")
            assert problems(clinic) != {}
            assert list(problems(clinic)) == ["disk_full"]
            wait_for("a rescan has passed", lambda: seconds_since(clinic.events("storage_error")[0]) > 1.5)
            assert_nothing_half_done(clinic, *contents)
            assert clinic.files(clinic.inbox) == ["later.wav"]  # the intake pauses
            assert clinic.files(clinic.done) == []
            shutil.rmtree(filler)
            wait_for("both are done", lambda: clinic.files(clinic.done) == ["later.wav", "smith.wav"])
            wait_for("it is ready", lambda: problems(clinic) == {})
        assert_kept(clinic, api, contents)
        assert len(clinic.events("storage_error")) == len(clinic.events("storage_recovered")) == 1
        assert "Free up space" in clinic.events("storage_error")[0]["hint"]


@pytest.mark.needs("root")
def test_26_a_full_disk_under_the_journal_takes_no_recording(
    small_disk: Path, api: Sandbox, tmp_path: Path
) -> None:
    clinic = clinic_on(tmp_path / "clinic", api, tmp_path, state={"directory": str(small_disk / "state")})
    with running(clinic):
        filler = fill(small_disk)
        contents = {put(clinic, "smith.wav")}
        wait_for("it says so", lambda: clinic.events("claim_failed") != [])
        # The audit log, which lies beside the journal, is written first.
        wait_for("it is not ready", lambda: list(problems(clinic)) == ["audit_log"])
        wait_for("it is back", lambda: clinic.files(clinic.inbox) == ["smith.wav"])
        assert api.stats()["presigns"] == 0
        shutil.rmtree(filler)
        wait_for("it goes on", lambda: clinic.files(clinic.done) == ["smith.wav"])
        wait_for("it is ready", lambda: problems(clinic) == {})
    assert_kept(clinic, api, contents)


@pytest.mark.needs("root")
def test_26_a_full_disk_under_the_journal_uploads_nothing_twice(
    small_disk: Path, api: Sandbox, tmp_path: Path
) -> None:
    clinic = clinic_on(tmp_path / "clinic", api, tmp_path, state={"directory": str(small_disk / "state")})
    write_wav(clinic.inbox / "smith.wav")
    contents = hashes(clinic)
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        wait_for("it is uploaded", lambda: clinic.events("uploaded") != [])
        filler = fill(small_disk)
        api.clear_faults()
        wait_for("the journal refuses", lambda: clinic.events("storage_error") != [])
        assert clinic.files(clinic.outbox) == clinic.files(clinic.done) == []
        assert list(problems(clinic)) == ["journal"]
        shutil.rmtree(filler)
        wait_for("it goes on", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert_kept(clinic, api, contents)


@pytest.mark.needs("root")
def test_26_a_full_disk_under_the_log_stops_nothing(small_disk: Path, api: Sandbox, tmp_path: Path) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    clinic.log = small_disk / "daemon.log"
    with running(clinic):
        filler = fill(small_disk)
        contents = {put(clinic, f"{number}.wav", pitch=300 + number) for number in range(10)}
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 10)
        assert len(clinic.events("done")) < 10  # lines are lost, as there is no place for them
        shutil.rmtree(filler)
        contents.add(put(clinic, "next.wav", pitch=500))
        wait_for("it is done", lambda: "next.wav" in clinic.files(clinic.done))
    assert_kept(clinic, api, contents)


# ---- 26, 27: at every call ---------------------------------------------------------------------------------

FULL = Fault(
    NEVER,
    errno.ENOSPC,
    {"write", "pwrite64", "open", "openat", "mkdir", "mkdirat", "rename", "renameat", "renameat2", "fsync"}
    | {"ftruncate", "fallocate", "link", "linkat", "fdatasync"},
)
FAILING_SYNC = Fault(NEVER, errno.EIO, {"fsync", "fdatasync"})
INTERRUPTED = Fault(NEVER, errno.EINTR, FULL.calls)


def strike(zygote: Zygote, root: Path, api: Sandbox, fault: Fault, at: int) -> Trace:
    """One recording's way with one call failing; afterwards nothing is half done, and it ends well."""
    clinic = Clinic(root / f"{at}", api.base_url, watch=QUICK)
    clinic.log = root / f"{at}.log"
    write_wav(clinic.inbox / "ward 3" / "smith.wav", pitch=200 + at, seconds=0.1)
    (content,) = contents = hashes(clinic)
    trace = zygote.traced(clinic, Fault(at, fault.error, fault.calls, under=str(root)))
    try:
        assert trace.status in (0, 75, 78), clinic.log.read_text()
        assert_nothing_half_done(clinic, content)
        assert trace.status == 0 or trace.hit
        assert zygote.once(clinic) == 0, clinic.log.read_text()
        assert_kept(clinic, api, contents)
    except AssertionError as error:
        error.add_note(f"{errno.errorcode[fault.error or 0]} at call {at}, {trace.hit}")
        raise
    return trace


def assert_nothing_half_done(clinic: Clinic, *contents: str) -> None:
    """Each recording is in exactly one place and none means failure; what is in the outbox is whole."""
    folders = (clinic.inbox, clinic.processing, clinic.done, clinic.failed)
    places = [folder / name for folder in folders for name in clinic.files(folder)]
    assert sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in places) == sorted(contents)
    assert clinic.files(clinic.failed) == []
    for name in clinic.files(clinic.outbox):
        path = clinic.outbox / name
        assert not path.name.startswith(".")
        text = path.read_text()
        assert json.loads(text)["source"]["sha256"] in contents if path.suffix == ".json" else "-->" in text


def sample(zygote: Zygote, root: Path, api: Sandbox, fault: Fault) -> list[bool]:
    """Have four calls fail, spread over the first three quarters of the way; whether each one did.

    The number of calls varies a little: the last of one run may not be there in the next.
    """
    calls = len(strike(zygote, root, api, fault, 0).calls)
    return [bool(strike(zygote, root, api, fault, 2 + calls // 4 * part).hit) for part in range(4)]


def sweep(zygote: Zygote, root: Path, api: Sandbox, fault: Fault) -> int:
    """Have every call fail, one in each run; how many did."""
    began = time.monotonic()
    ends: Counter[int] = Counter()
    for at in itertools.count(1):
        trace = strike(zygote, root, api, fault, at)
        if trace.hit is None:
            break
        ends[trace.status] += 1
    seconds = time.monotonic() - began
    print(f"{ends.total()} calls failed, the runs ended with {dict(ends)}; {seconds:.0f} s")
    return ends.total()


def test_26_a_full_disk_at_some_calls_leaves_nothing_half_done(
    tmp_path: Path, zygote: Zygote, api: Sandbox
) -> None:
    hits = sample(zygote, tmp_path / "clinics", api, FULL)
    assert len(hits) >= 4
    assert all(hits)


@pytest.mark.slow
@pytest.mark.needs("root")
@pytest.mark.timeout(1800)
def test_26_a_full_disk_at_any_call_leaves_nothing_half_done(
    tmp_path: Path, zygote: Zygote, api: Sandbox
) -> None:
    assert sweep(zygote, tmp_path / "clinics", api, FULL) > 40


@pytest.mark.parametrize("fault", [FAILING_SYNC, INTERRUPTED], ids=["EIO", "EINTR"])
def test_27_some_failed_fsyncs_leave_nothing_half_done(
    tmp_path: Path, zygote: Zygote, api: Sandbox, fault: Fault
) -> None:
    hits = sample(zygote, tmp_path / "clinics", api, fault)
    assert len(hits) >= 4
    assert all(hits)


@pytest.mark.slow
@pytest.mark.needs("root")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("fault", [FAILING_SYNC, INTERRUPTED], ids=["EIO", "EINTR"])
def test_27_any_failed_fsync_leaves_nothing_half_done(
    tmp_path: Path, zygote: Zygote, api: Sandbox, fault: Fault
) -> None:
    assert sweep(zygote, tmp_path / "clinics", api, fault) > 40


@pytest.mark.parametrize("suffix", ["json", "srt"])
def test_27_an_output_whose_fsync_failed_is_rewritten(
    tmp_path: Path, zygote: Zygote, api: Sandbox, suffix: str
) -> None:
    """The kernel may have dropped what it could not write: another fsync of the same file would lie."""
    outbox = Fault(NEVER, errno.EIO, {"write", "fsync", "renameat2"}, under=str(tmp_path / "0" / "outbox"))
    clinic = Clinic(tmp_path / "0", api.base_url, watch=QUICK)
    assert clinic.once() == 0  # the first start alone writes marks
    write_wav(clinic.inbox / "smith.wav", pitch=300)
    calls = zygote.traced(clinic, outbox).calls
    synced = [call.name == "fsync" and call.target.endswith(f".{suffix}.tmp") for call in calls]
    at = synced.index(True)

    write_wav(clinic.inbox / "jones.wav", pitch=400)
    trace = zygote.traced(clinic, Fault(at + 1, outbox.error, outbox.calls, outbox.under))
    assert trace.status == 0
    assert trace.hit is not None
    assert trace.hit.target.endswith(f".{suffix}.tmp")
    after = [
        call for call in trace.calls[at + 1 :] if call.target == trace.hit.target or call.name == "renameat2"
    ]
    anew = [Call("write", trace.hit.target), Call("fsync", trace.hit.target)]
    assert after[:2] == anew  # before it is written again, no file of its set appears
    assert clinic.files(clinic.done) == ["jones.wav", "smith.wav"]
    assert len(clinic.events("step_retry")) == 1


# ---- 32: done/ can't be written ----------------------------------------------------------------------------


@contextlib.contextmanager
def without_permission(done: Path) -> Iterator[Path]:
    done.chmod(0o500)
    yield done
    done.chmod(0o700)


@contextlib.contextmanager
def immutable(done: Path) -> Iterator[Path]:
    subprocess.run(["chattr", "+i", str(done)], check=True)
    try:
        yield done
    finally:
        subprocess.run(["chattr", "-i", str(done)], check=True)


@pytest.mark.parametrize(
    "locked_up",
    [
        without_permission,
        pytest.param(immutable, marks=pytest.mark.needs("root", "chattr")),
        pytest.param(mounts.read_only, marks=pytest.mark.needs("root")),
    ],
)
def test_32_an_unwritable_done_folder_delays_only_the_filing(
    tmp_path: Path, api: Sandbox, locked_up: Callable[[Path], contextlib.AbstractContextManager[Path]]
) -> None:
    few = {"base_seconds": 0.1, "max_seconds": 0.2, "max_attempts": 3}
    clinic = Unprivileged(tmp_path / "clinic", api.base_url, watch=QUICK, retry=few)
    write_wav(clinic.inbox / "ward" / "smith.wav")
    contents = hashes(clinic)
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        wait_for("it is uploaded", lambda: clinic.events("uploaded") != [])
        with locked_up(clinic.done):
            api.clear_faults()
            wait_for("it is delivered", lambda: clinic.events("delivered") != [])
            delivered = inodes_in(clinic.outbox)
            wait_for("it is said", lambda: clinic.events("step_retry", "storage_error") != [])
            time.sleep(1.5)  # more attempts than a recording has
            assert inodes_in(clinic.outbox) == delivered
            assert sorted(delivered) == ["smith.json", "smith.srt"]
            assert [os.path.basename(name) for name in clinic.files(clinic.processing)] == ["smith.wav"]
            assert api.stats()["upload_attempts"] == 1
        wait_for("it is filed", lambda: clinic.files(clinic.done) == ["ward/smith.wav"])
    assert inodes_in(clinic.outbox) == delivered
    assert_kept(clinic, api, contents)


def inodes_in(folder: Path) -> dict[str, int]:
    """Which files lie below `folder`, by name: one that is written again gets another inode."""
    return {path.name: path.stat().st_ino for path in folder.rglob("[!.]*") if path.is_file()}
