"""FAULTS 30, the real thing: what a disk holds at an instant is all that the next daemon gets.

The tree lies on an ext4 file system in an image. At some instant the image is copied as it is, without
what the kernel has not written yet; the copy is mounted, which replays ext4's journal, and all goes on there.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.promises import assert_kept, hashes
from tests.kit.clinic import Clinic, stop
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

_IMAGE_BYTES = 16 << 20
_RECORDINGS = 40
_FEW_CUTS, _MANY_CUTS = 5, 15


class Disk:
    """An ext4 file system in an image, mounted at `at`."""

    def __init__(self, image: Path, at: Path, options: str) -> None:
        self.at = at
        self.cuts = 0
        self._image = image
        self._options = options
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(image))
        at.mkdir()
        self._mount()

    def cut(self, process: subprocess.Popen[bytes]) -> None:
        """Cut the power of `process` and this disk; the disk comes back with what it held."""
        process.send_signal(signal.SIGSTOP)
        held = _copied_at_rest(self._image)
        process.kill()
        process.wait()
        self.unmount()
        held.replace(self._image)
        self._mount()
        self.cuts += 1

    def unmount(self) -> None:
        """Take it off again; the image stays."""
        _run("umount", str(self.at))

    def _mount(self) -> None:
        _run("mount", "-o", f"loop,{self._options}", str(self._image), str(self.at))


def _copied_at_rest(image: Path) -> Path:
    """A copy that no write of the kernel's came between: two in a row are the same."""
    digest, before = b"", None
    copy = image.with_suffix(".copy")
    while digest != before:
        shutil.copyfile(image, copy)
        before, digest = digest, hashlib.sha256(copy.read_bytes()).digest()
    return copy


def _run(*command: str) -> None:
    path = os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin:/sbin"
    subprocess.run(command, check=True, env=os.environ | {"PATH": path})


@pytest.fixture(
    params=[
        pytest.param("data=ordered", id="as mounted by default"),
        # Names before bytes, and nothing written that nobody asked for.
        pytest.param("data=writeback,noauto_da_alloc,commit=300", id="as careless as it can be"),
    ]
)
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A disk whose power can be cut."""
    disk = Disk(tmp_path / "disk.img", tmp_path / "disk", request.param)
    yield disk
    disk.unmount()


@pytest.mark.needs("root", "mkfs.ext4", "mount", "umount")
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_30_power_cuts_on_a_real_disk_lose_nothing(tmp_path: Path, disk: Disk, api: Sandbox) -> None:
    chance = random.Random(2026)
    watch, polling = {"settle_seconds": 0.05}, {"first_seconds": 0.1, "unknown_seconds": 0.05}
    clinic = Clinic(disk.at / "clinic", api.base_url, watch=watch, polling=polling)
    clinic.log = tmp_path / "daemon.log"
    for number in range(_RECORDINGS):
        write_wav(clinic.inbox / f"ward {number % 4}" / f"{number}.wav", pitch=200 + number, seconds=0.1)
    os.sync()
    contents = hashes(clinic)
    outputs: dict[str, bytes] = {}
    while len(clinic.files(clinic.done)) < _RECORDINGS and disk.cuts < _MANY_CUTS:
        daemon = clinic.start()
        try:
            time.sleep(chance.uniform(0, 0.15))
            disk.cut(daemon)
        finally:
            daemon.kill()
            daemon.wait()
        assert _recordings(clinic) == dict.fromkeys(contents, 1)
        seen = {name: (clinic.outbox / name).read_bytes() for name in _visible(clinic)}
        assert outputs.items() <= seen.items()  # what was there once is there still, and is the same
        outputs = seen
    daemon = clinic.start()
    try:
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == _RECORDINGS, seconds=100)
        wait_for("nothing is under way", lambda: not clinic.under_way())
        assert stop(daemon) == 0
    finally:
        daemon.kill()
        daemon.wait()
    print(f"{disk.cuts} power cuts")
    assert disk.cuts >= _FEW_CUTS
    assert outputs.items() <= {name: (clinic.outbox / name).read_bytes() for name in _visible(clinic)}.items()
    assert_kept(clinic, api, contents)


def _recordings(clinic: Clinic) -> Counter[str]:
    """How often each content is there for a person to find."""
    folders = (clinic.inbox, clinic.processing, clinic.done, clinic.failed)
    paths = [path for folder in folders for path in folder.rglob("*.wav")]
    return Counter(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def _visible(clinic: Clinic) -> list[str]:
    """What in the outbox other programs may take."""
    return [name for name in clinic.files(clinic.outbox) if not Path(name).name.startswith(".")]
