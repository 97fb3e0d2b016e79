"""Network shares: sshfs, bindfs and Samba, written to from the far side, going away and coming back.

What the far side sees is looked at there, where no mount and no cache lies in between.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.shares import Samba, Share, SshShare, bindfs, samba, sshfs
from tests.kit.clinic import Clinic, running
from tests.kit.daemon_server import problems
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

WATCH = {"settle_seconds": 0.5, "rescan_seconds": 1, "polling_seconds": 0.5, "patience_seconds": 30}
# So few attempts, and so soon, that a share that is away would cost every recording all of them.
FEW_ATTEMPTS = {"base_seconds": 0.05, "max_seconds": 0.2, "max_attempts": 2}
FUSE = {"bindfs": bindfs, "sshfs": sshfs}
SSHFS = pytest.mark.needs("root", "sshfs", "sshd", "ssh-keygen")
BINDFS = pytest.mark.needs("root", "bindfs")
SAMBA = pytest.mark.needs("root", "smbd", "smbclient")
BOTH = [pytest.param("bindfs", marks=BINDFS), pytest.param("sshfs", marks=SSHFS)]


class FarClinic(Clinic):
    """A clinic whose folders lie on a share; its configuration, journal and log don't."""

    def __init__(self, share: Share, base_url: str, **changes: object) -> None:
        home = share.near.parent / "home"
        home.mkdir()
        settings: dict[str, object] = {
            "watch": WATCH,
            "retry": FEW_ATTEMPTS,
            "http": {"listen": "127.0.0.1:0"},
            "state": {"directory": str(home / "state")},
        }
        super().__init__(share.near, base_url, **(settings | changes))  # type: ignore[arg-type]
        shutil.move(self.config, home / "config.yaml")
        self.config, self.log = home / "config.yaml", home / "daemon.log"
        self.far = share.far

    def lies(self, folder: str) -> list[str]:
        """What really lies in a folder, without what sshfs keeps there of files that are still open."""
        return [name for name in self.files(self.far / folder) if ".fuse_hidden" not in name]

    def assert_all_done(self, names: list[str], api: Sandbox) -> None:
        """Each once in done/ with its transcript, each uploaded once; nothing failed, nothing left."""
        stems = [name.removesuffix(".wav") for name in names]
        assert self.lies("done") == sorted(names)
        assert self.lies("outbox") == sorted(f"{stem}.{kind}" for stem in stems for kind in ("json", "srt"))
        assert self.lies("inbox") == self.lies("failed") == self.lies("processing") == []
        assert self.events("failing", "vanished") == []
        assert api.stats()["uploads"] == len(names)
        assert len({request["sha256"] for request in api.stats()["requests"] if request["uploads"]}) == len(
            names
        )


@pytest.fixture
def share(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Share]:
    """The share of the kind that the test is parametrised with."""
    with FUSE[request.param](tmp_path / "far", tmp_path / "near") as mounted:
        yield mounted


# ---- what is written on the far side ----


@pytest.mark.parametrize("share", BOTH, indirect=True)
def test_23_a_whole_tree_on_a_share_is_polled_and_works(share: Share, api: Sandbox) -> None:
    """FUSE knows no rename that refuses to overwrite: a name that is taken gets a suffix all the same."""
    clinic = FarClinic(share, api.base_url)
    (share.far / "done").mkdir()
    (share.far / "done" / "smith.wav").write_bytes(b"somebody else's")
    with running(clinic):
        write_wav(share.far / "inbox" / "smith.wav", pitch=300)
        write_wav(share.far / "inbox" / "Klinik Süd" / "Müller, Jörg.wav", pitch=400)
        wait_for("both are done", lambda: len(clinic.lies("done")) == 3)
        wait_for("nothing is under way", lambda: clinic.lies("processing") == [])
    [watching] = clinic.events("watching")
    assert watching["mode"] == "polling"
    assert watching["filesystem"].startswith("fuse")
    assert clinic.lies("done") == ["Klinik Süd/Müller, Jörg.wav", "smith-2.wav", "smith.wav"]
    assert (share.far / "done" / "smith.wav").read_bytes() == b"somebody else's"
    assert [name for name in clinic.lies("outbox") if name.endswith(".json")] == [
        "Klinik Süd/Müller, Jörg.json",
        "smith-2.json",
    ]


@pytest.mark.parametrize("share", BOTH, indirect=True)
def test_23_a_recording_growing_on_the_server_is_taken_whole(share: Share, api: Sandbox) -> None:
    """Nothing in an MP3 says how long it will be, and no lease on a share says that it is open."""
    clinic = FarClinic(share, api.base_url, watch=WATCH | {"settle_seconds": 1.5})
    frame = b"\xff\xfb\x90\x00" + b"\x11" * 413  # MPEG 1 layer III, 128 kbit/s, 44.1 kHz
    with running(clinic):
        with (share.far / "inbox" / "talk.mp3").open("wb", buffering=0) as file:
            for number in range(12):
                file.write(frame[:-1] + bytes([number]))
                time.sleep(0.3)
        wait_for("it is done", lambda: clinic.lies("done") == ["talk.mp3"])
    assert (share.far / "done" / "talk.mp3").stat().st_size == 12 * len(frame)
    assert [request["bytes"] for request in api.stats()["requests"]] == [12 * len(frame)]
    assert len(clinic.events("claimed")) == 1


# A tenth of what they are by default; the last stall is longer than any file waits.
@pytest.mark.slow
@pytest.mark.parametrize("stall_seconds", [0.4, 1.0, 4.0], ids=["5 s", "20 s", "60 s"])
@pytest.mark.parametrize("share", BOTH, indirect=True)
def test_63_a_stalled_line_to_a_nas_gives_no_part_for_the_whole(
    share: Share, api: Sandbox, stall_seconds: float
) -> None:
    """The sender writes to the NAS, whose folder the daemon has mounted and polls."""
    clinic = FarClinic(share, api.base_url, watch=WATCH | {"unproven_seconds": 2.0, "polling_seconds": 0.2})
    frame = b"\xff\xfb\x90\x00" + b"\x11" * 413  # MPEG 1 layer III, 128 kbit/s, 44.1 kHz
    wholes = {"talk.mp3": frame * 600, "note.wav": write_wav(share.far / "note", seconds=9).read_bytes()}
    with running(clinic):
        files = [(share.far / "inbox" / name).open("xb", buffering=0) for name in wholes]
        for file, whole in zip(files, wholes.values(), strict=True):
            file.truncate(len(whole) if file.name.endswith("wav") else 0)
            file.write(whole[: len(whole) // 2])
        time.sleep(stall_seconds)
        for file, whole in zip(files, wholes.values(), strict=True):
            file.write(whole[len(whole) // 2 :])
            file.close()
        for name, whole in wholes.items():
            wait_for(f"{name} is right", lambda n=name, w=whole: is_right(clinic, n, w), seconds=60)  # type: ignore[misc]
        wait_for("nothing is under way", lambda: clinic.lies("processing") == [])
    assert len(clinic.lies("outbox")) == 4
    too_early = clinic.events("recording_changed")
    assert len(too_early) == (2 if stall_seconds == 4.0 else 0)
    assert len(clinic.events("claimed")) == 2 + len(too_early)


def is_right(clinic: FarClinic, name: str, whole: bytes) -> bool:
    """Whether the recording in done/ is whole, and its transcript is of it."""
    try:
        transcript = json.loads((clinic.far / "outbox" / name).with_suffix(".json").read_text())
        filed = (clinic.far / "done" / name).read_bytes()
    except FileNotFoundError:
        return False
    return filed == whole and bool(transcript["source"]["sha256"] == hashlib.sha256(whole).hexdigest())


@BINDFS
@pytest.mark.slow
@pytest.mark.parametrize("share", ["bindfs"], indirect=True)
def test_23_a_share_mistaken_for_local_is_polled_in_the_end(share: Share, api: Sandbox) -> None:
    """`watch.mode: native` where the far side writes: the rescan finds it three times, and then goes over."""
    clinic = FarClinic(share, api.base_url, watch=WATCH | {"mode": "native", "rescan_seconds": 2})
    with running(clinic):
        assert clinic.events("watching")[-1]["mode"] == "native"
        for number in range(3):
            write_wav(share.far / "inbox" / f"{number}.wav", pitch=300 + number)
            wait_for("it is missed", lambda n=number: len(clinic.events("watch_missed")) == n + 1)  # type: ignore[misc]
        wait_for("it is polled", lambda: clinic.events("watching")[-1]["mode"] == "polling")
        write_wav(share.far / "inbox" / "3.wav", pitch=400)
        wait_for("all are done", lambda: len(clinic.lies("done")) == 4)
    assert clinic.events("watching")[-1]["level"] == "warning"
    clinic.assert_all_done([f"{number}.wav" for number in range(4)], api)


# ---- the share goes away ----


def _leave_an_empty_mount_point(share: Share) -> None:
    share.unmount()
    assert os.listdir(share.near) == []


def _die(share: Share) -> None:
    share.kill()
    with contextlib.suppress(OSError):
        os.listdir(share.near)


@pytest.mark.slow
@pytest.mark.parametrize("goes_away", [_leave_an_empty_mount_point, _die], ids=["unmounted", "killed"])
@pytest.mark.parametrize("share", BOTH, indirect=True)
def test_23_a_share_lost_with_jobs_under_way_costs_nothing(
    share: Share, api: Sandbox, goes_away: Callable[[Share], None]
) -> None:
    """Some wait for their result, one is being sent, one arrives on the far side meanwhile."""
    clinic = FarClinic(share, api.base_url)
    names = [f"ward 3/{number}.wav" for number in range(4)]
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        for number, name in enumerate(names):
            write_wav(share.far / "inbox" / name, pitch=300 + number)
        wait_for("two are uploaded", lambda: api.stats()["uploads"] >= 2)
        goes_away(share)
        write_wav(share.far / "inbox" / "late.wav", pitch=900)
        api.clear_faults()
        wait_for(
            "it is not ready", lambda: {"folders_unavailable", "inbox_unavailable"} <= set(problems(clinic))
        )
        time.sleep(3)
        assert clinic.events("done", "failing", "vanished") == []
        share.unmount()
        assert os.listdir(share.near) == []  # nothing was made in the empty mount point
        share.mount()
        wait_for("all are done", lambda: len(clinic.lies("done")) == 5, seconds=60)
        wait_for("it is ready", lambda: not problems(clinic), seconds=30)
    assert [event["level"] for event in clinic.events("inbox_unavailable")] == ["warning"]
    assert len(clinic.events("inbox_available")) == 1
    clinic.assert_all_done(["late.wav", *names], api)


@pytest.mark.slow
@pytest.mark.parametrize("share", BOTH, indirect=True)
def test_23_an_unmounted_inbox_is_not_mistaken_for_empty(tmp_path: Path, share: Share, api: Sandbox) -> None:
    """What then lies in the bare mount point was not put into the inbox, but past it."""
    folders = {"root": str(tmp_path / "clinic"), "inbox": str(share.near)}
    clinic = Clinic(
        tmp_path / "clinic", api.base_url, folders=folders, watch=WATCH, http={"listen": "127.0.0.1:0"}
    )
    with running(clinic):
        write_wav(share.far / "first.wav", pitch=300)
        wait_for("the first is done", lambda: clinic.files(clinic.done) == ["first.wav"])
        (share.far / "half.wav").write_bytes(b"")
        wait_for("the half one is seen", lambda: clinic.events("inbox_unfinished") != [])
        share.unmount()
        write_wav(share.near / "stray.wav", pitch=400)
        wait_for("it is not ready", lambda: "inbox_unavailable" in problems(clinic))
        time.sleep(3)
        assert "inbox_unavailable" in problems(clinic)
        (share.near / "stray.wav").unlink()  # it is still there: nobody took it
        write_wav(share.far / "half.wav", pitch=500)
        share.mount()
        wait_for("the other is done", lambda: clinic.files(clinic.done) == ["first.wav", "half.wav"])
        wait_for("it is ready", lambda: not problems(clinic), seconds=30)
    assert clinic.events("inbox_unavailable")[0]["code"] == "ENODEV"
    assert clinic.events("failing", "vanished") == []
    assert api.stats()["uploads"] == len(clinic.events("claimed")) == 2


@SSHFS
@pytest.mark.slow
@pytest.mark.parametrize("share", ["sshfs"], indirect=True)
def test_23_a_server_that_hangs_is_reported_and_waited_for(share: SshShare, api: Sandbox) -> None:
    """Whoever touches a file then waits in the kernel: only the clock can tell."""
    clinic = FarClinic(share, api.base_url)
    with running(clinic):
        write_wav(share.far / "inbox" / "first.wav", pitch=300)
        wait_for("the first is done", lambda: clinic.lies("done") == ["first.wav"])
        share.hang()
        write_wav(share.far / "inbox" / "second.wav", pitch=400)
        wait_for("it is not ready", lambda: "folders_silent" in problems(clinic), seconds=60)
        wait_for("it is logged", lambda: bool(clinic.events("folders_unavailable")))
        assert [event["code"] for event in clinic.events("folders_unavailable")] == ["folders_silent"]
        share.answer()
        wait_for("the second is done", lambda: len(clinic.lies("done")) == 2, seconds=60)
        wait_for("it is ready", lambda: not problems(clinic), seconds=30)
    assert len(clinic.events("folders_available")) == 1
    clinic.assert_all_done(["first.wav", "second.wav"], api)


@SSHFS
@pytest.mark.slow
@pytest.mark.parametrize("share", ["sshfs"], indirect=True)
def test_23_a_daemon_on_a_share_that_hangs_can_be_stopped(share: SshShare, api: Sandbox) -> None:
    """What waits in the kernel can't even be killed, until its share is: all else is over within seconds."""
    clinic = FarClinic(share, api.base_url)
    process = clinic.start()
    try:
        api.fault({"on": "status", "do": "unknown_status", "times": None})
        write_wav(share.far / "inbox" / "smith.wav")
        wait_for("it is uploaded", lambda: api.stats()["uploads"] == 1)
        share.hang()
        api.clear_faults()
        wait_for("it is not ready", lambda: "folders_silent" in problems(clinic), seconds=60)
        process.terminate()
        wait_for("it stops", lambda: clinic.events("stopped") != [])
        share.kill()
        assert process.wait(20) == 0
    finally:
        process.kill()
        share.kill()
        process.wait()
    share.unmount()
    share.answer()
    share.mount()
    assert clinic.once() == 0
    clinic.assert_all_done(["smith.wav"], api)


@BINDFS
@pytest.mark.parametrize("share", ["bindfs"], indirect=True)
def test_23_a_start_without_the_share_is_refused(share: Share, api: Sandbox) -> None:
    clinic = FarClinic(share, "http://127.0.0.1:9")  # the discard port: nobody listens
    write_wav(share.far / "inbox" / "smith.wav")
    assert clinic.once() == 69
    assert len(clinic.lies("processing")) == 1
    share.unmount()
    for command in (["run", "--once"], ["check"], ["retry", "--all"]):
        result = clinic.run(*command)
        assert result.returncode == 75
        assert "is not mounted" in result.stdout + result.stderr
    assert os.listdir(share.near) == []
    share.mount()
    clinic.config.write_text(clinic.config.read_text().replace("http://127.0.0.1:9", api.base_url))
    assert clinic.once() == 0
    clinic.assert_all_done(["smith.wav"], api)


# ---- a Samba server on this host ----


@pytest.fixture
def scanner(clinic: Clinic) -> Iterator[Samba]:
    """A Samba server whose share is the inbox."""
    with samba(clinic.inbox) as server:
        yield server


@SAMBA
def test_23_device_uploads_over_samba_are_taken_once_and_whole(
    clinic: Clinic, api: Sandbox, scanner: Samba, tmp_path: Path
) -> None:
    """Straight, under a temporary name, into folders of their own, and over a name that was there before."""
    for number, name in enumerate(["plain", "part", "nested", "accents", "again"]):
        write_wav(tmp_path / f"{name}.wav", pitch=300 + number)
    with running(clinic):
        scanner.client(f"put {tmp_path}/plain.wav plain.wav")
        scanner.client(f"put {tmp_path}/part.wav part.tmp", "rename part.tmp part.wav")
        scanner.client("mkdir a", "mkdir a/b", f"put {tmp_path}/nested.wav a/b/nested.wav")
        scanner.client(f'put {tmp_path}/accents.wav "Müller, Zoë – 3.wav"')
        wait_for("four are done", lambda: len(clinic.files(clinic.done)) == 4)
        scanner.client(f"put {tmp_path}/again.wav plain.wav")
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 5)
    assert clinic.events("watching")[0]["mode"] == "native"
    filed = {
        "plain.wav": "plain",
        "part.wav": "part",
        "a/b/nested.wav": "nested",
        "Müller, Zoë – 3.wav": "accents",
        "plain-2.wav": "again",
    }
    assert clinic.files(clinic.done) == sorted(filed)
    for name, source in filed.items():
        assert (clinic.done / name).read_bytes() == (tmp_path / f"{source}.wav").read_bytes()
    assert clinic.files(clinic.failed) == clinic.files(clinic.inbox) == []
    assert [request["uploads"] for request in api.stats()["requests"]] == [1] * 5


@SAMBA
@pytest.mark.slow
@pytest.mark.parametrize("locks", ["kernel oplocks = no", "kernel oplocks = yes"])
def test_23_a_file_that_samba_holds_open_is_left_alone(
    clinic: Clinic, api: Sandbox, tmp_path: Path, locks: str
) -> None:
    """A slow client sends frames that are whole each: only that the file is open says that more will come."""
    frame = b"\xff\xfb\x90\x00" + b"\x11" * 413  # MPEG 1 layer III, 128 kbit/s, 44.1 kHz
    os.mkfifo(tmp_path / "slow")
    with samba(clinic.inbox, locks) as server, running(clinic):
        putting = server.start(f"put {tmp_path}/slow talk.mp3")
        with (tmp_path / "slow").open("wb", buffering=0) as pipe:
            for number in range(4):
                for _ in range(400):  # more than the client waits for to fill a block
                    pipe.write(frame[:-1] + bytes([number]))
                time.sleep(1)
            assert (clinic.inbox / "talk.mp3").exists()
            assert clinic.events("claimed") == []
        output, _ = putting.communicate(timeout=60)
        assert putting.returncode == 0, output
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["talk.mp3"])
    assert (clinic.done / "talk.mp3").stat().st_size == 1600 * len(frame)
    assert [request["bytes"] for request in api.stats()["requests"]] == [1600 * len(frame)]


@SAMBA
def test_23_a_large_file_through_samba_is_taken_whole(
    clinic: Clinic, api: Sandbox, scanner: Samba, tmp_path: Path
) -> None:
    source = write_wav(tmp_path / "long.wav", seconds=60, rate=16000)
    with running(clinic):
        scanner.client(f"put {source} long.wav")
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["long.wav"])
    assert (clinic.done / "long.wav").read_bytes() == source.read_bytes()
    assert len(clinic.events("claimed")) == api.stats()["uploads"] == 1
