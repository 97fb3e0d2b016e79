"""FAULTS 63, 64: the programs that people send recordings with, each over a line that stalls in the middle.

All of them at once, as an account that is not the daemon's, each with an MP3, which does not say where it
ends. Times are a tenth or less of what they are by default. docs/shares.md has what is found as a table.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.clinics import WithoutLease
from tests.faults.evidence import assert_own_transcript, sha256, uploaded
from tests.faults.shares import Samba, Sftp, Share, samba, sftp_server
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.commands import NOBODY, public_folder
from tests.kit.waiting import wait_for

WATCH = {
    "grace_seconds": 0.2,
    "settle_seconds": 0.33,
    "unproven_seconds": 1.5,
    "patience_seconds": 600,
    "rescan_seconds": 1,
}
STALLS = {"5 s": 0.33, "20 s": 1.0, "60 s": 4.0}
# So large that the senders, which fill buffers first, are in the middle for a while.
FRAMES = 20_000
KBIT_PER_SECOND = 24_000
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
# What Explorer asks a server to do, and the server's process does: the whole size first, the times last.
EXPLORER = """
import os, sys, time
source, target, stall = sys.argv[1], sys.argv[2], float(sys.argv[3])
content = open(source, "rb").read()
fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
os.ftruncate(fd, len(content))
half = len(content) // 2
os.write(fd, content[:half])
time.sleep(stall)
os.write(fd, content[half:])
os.utime(fd, (1e9, 1e9))
os.close(fd)
"""

pytestmark = [
    pytest.mark.needs(
        "root", "sshd", "ssh-keygen", "sftp", "scp", "sshfs", "smbd", "smbclient", "rsync", "setpriv"
    ),
    pytest.mark.slow,
    pytest.mark.timeout(180),
]


@dataclass(frozen=True)
class Line:
    """What the senders need: where from, where to, the servers, and for how long the line stalls."""

    sources: Path
    inbox: Path
    sftp: Sftp
    near: Path  # the inbox as a client of the SFTP server sees it
    samba: Samba
    stall_seconds: float

    def source(self, name: str) -> Path:
        return self.sources / f"{name}.mp3"

    def target(self, name: str) -> Path:
        return self.inbox / f"{name}.mp3"

    def stalls(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """The sender can send nothing for a while, in the middle; then all is well, as it sees it."""
        wait_for(f"{name} is in the middle", lambda: self._arrived(name) > FRAMES * 417 // 4)
        os.killpg(process.pid, signal.SIGSTOP)
        assert self._arrived(name) < FRAMES * 417
        time.sleep(self.stall_seconds)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.wait(60) == 0

    def _arrived(self, name: str) -> int:
        """How many bytes are in the inbox, under whichever name."""
        return max((path.stat().st_size for path in self.inbox.glob(f"*{name}.mp3*")), default=0)


def by_sftp(line: Line) -> None:
    put = f"put {shlex.quote(str(line.source('sftp')))} {shlex.quote(str(line.target('sftp')))}"
    line.stalls("sftp", line.sftp.sftp(put, kbit_per_second=KBIT_PER_SECOND))


def by_scp(line: Line) -> None:
    copying = line.sftp.scp(line.source("scp"), line.target("scp"), kbit_per_second=KBIT_PER_SECOND)
    line.stalls("scp", copying)


def by_rsync(line: Line, name: str = "rsync aside", *options: str) -> None:
    shell = line.sources / "shell"  # in place of ssh: it runs the command as the other account
    command = ["rsync", "-t", f"--bwlimit={KBIT_PER_SECOND // 8}", *options, "-s", "-e", str(shell)]
    command += [str(line.source(name)), f"host:{line.target(name)}"]
    line.stalls(name, subprocess.Popen(command, start_new_session=True))


def by_rsync_in_place(line: Line) -> None:
    by_rsync(line, "rsync in place", "--inplace")


def by_samba(line: Line) -> None:
    pipe = line.sources / "pipe"
    os.mkfifo(pipe)
    putting = line.samba.start(f"put {pipe} samba.mp3")
    content = line.source("samba").read_bytes()
    with pipe.open("wb", buffering=0) as file:
        file.write(content[: len(content) // 2])
        time.sleep(line.stall_seconds)
        file.write(content[len(content) // 2 :])
    output, _ = putting.communicate(timeout=60)
    assert putting.returncode == 0, output


def by_winscp(line: Line) -> None:
    """To another name, then the rename, the times and the rights, each over the line."""
    content = line.source("winscp").read_bytes()
    part, target = line.near / "winscp.mp3.filepart", line.near / "winscp.mp3"
    with part.open("wb", buffering=0) as file:
        file.write(content[: len(content) // 2])
        time.sleep(line.stall_seconds)
        file.write(content[len(content) // 2 :])
    calls: list[Callable[[], object]] = [
        lambda: part.rename(target),
        lambda: os.utime(target, (1e9, 1e9)),
        lambda: target.chmod(0o640),
    ]
    for call in calls:
        time.sleep(0.06)
        call()


def by_explorer(line: Line) -> None:
    arguments = [str(line.source("explorer")), str(line.target("explorer")), str(line.stall_seconds)]
    subprocess.run([*AS_NOBODY, "/usr/bin/python3", "-c", EXPLORER, *arguments], check=True, timeout=60)


# Whether a sender writes under the final name from the start, so that a part can be mistaken for the whole.
SENDERS: dict[str, tuple[Callable[[Line], None], bool]] = {
    "sftp": (by_sftp, True),
    "scp": (by_scp, True),
    "rsync aside": (by_rsync, False),
    "rsync in place": (by_rsync_in_place, True),
    "samba": (by_samba, True),
    "winscp": (by_winscp, False),
    "explorer": (by_explorer, True),
}


@pytest.fixture
def public(tmp_path: Path) -> Iterator[Path]:
    """A folder that another account can reach, with a recording for each sender."""
    with public_folder() as folder:
        (folder / "sources").mkdir()
        for number, name in enumerate(SENDERS):
            frame = b"\xff\xfb\x90\x00" + bytes([17 + number]) * 413  # MPEG 1 layer III, 128 kbit/s, 44.1 kHz
            (folder / "sources" / f"{name}.mp3").write_bytes(frame * FRAMES)
        shell = folder / "sources" / "shell"
        shell.write_text(f'#!/bin/sh\nshift\nexec {shlex.join(AS_NOBODY)} sh -c "$*"\n')
        shell.chmod(0o755)
        yield folder


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("lease", [True, False], ids=["lease", "no lease"])
def test_63_what_people_send_with_gives_no_part_for_the_whole(
    tmp_path: Path, public: Path, lease: bool, stall: str
) -> None:
    with sandbox(tmp_path / "api") as api:
        kind = Clinic if lease else WithoutLease
        changes: dict[str, Any] = {"watch": WATCH, "logging": {"filenames": "plain"}}
        clinic = kind(public / "clinic", api.base_url, **changes)
        clinic.inbox.chmod(0o777)
        clinic.root.chmod(0o755)
        with (
            running(clinic),
            sftp_server() as server,
            samba(clinic.inbox, "force user = nobody", "[global]", "smb2 max write = 65536") as smbd,
            mounted(server.mounted(clinic.inbox, public / "near")) as near,
        ):
            line = Line(public / "sources", clinic.inbox, server, near, smbd, STALLS[stall])
            with ThreadPoolExecutor(len(SENDERS)) as pool:
                for sending in [pool.submit(send, line) for send, _in_place in SENDERS.values()]:
                    sending.result()
            wholes = {name: line.source(name).read_bytes() for name in SENDERS}
            for name, whole in wholes.items():
                wait_for(f"{name} is right", lambda n=name, w=whole: is_right(clinic, n, w), seconds=60)  # type: ignore[misc]
            wait_for("nothing is under way", lambda: not clinic.under_way())
        for name, whole in wholes.items():
            assert_own_transcript(clinic, f"{name}.mp3", whole)
        assert clinic.files(clinic.inbox) == clinic.files(clinic.failed) == []
        changed = {event["recording"] for event in clinic.events("recording_changed")}
        parts = set(uploaded(api)) - {sha256(whole) for whole in wholes.values()}
        if lease or stall != "60 s":
            assert parts == changed == set()
        else:
            # A part that ends within a frame is seen to be one; zeros behind it are not.
            in_place = {f"{name}.mp3" for name, (_send, in_place) in SENDERS.items() if in_place}
            assert {"explorer.mp3"} <= changed <= in_place
            assert len(parts) == len(changed)


def is_right(clinic: Clinic, name: str, whole: bytes) -> bool:
    """Whether the recording in done/ is whole, and its transcript is of it."""
    try:
        filed = (clinic.done / f"{name}.mp3").read_bytes()
        return filed == whole and clinic.transcript(f"{name}.json")["source"]["sha256"] == sha256(whole)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def mounted(share: Share) -> Iterator[Path]:
    """The folder at which the share is seen, for as long as the block lasts."""
    try:
        share.mount()
        yield share.near
    finally:
        share.unmount()
