"""Real file systems, mounted for as long as a block lasts: small, read-only, on a disk of their own.

All of them take root. At the end of the block everything is unmounted, also where the test failed.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def tmpfs(folder: Path, *, size: str = "1m") -> Iterator[Path]:
    """A file system in memory, of that size."""
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "none"):
        yield folder


@contextlib.contextmanager
def ext4(folder: Path, *, size_mib: int = 8) -> Iterator[Path]:
    """An ext4 file system in a file beside `folder`, through a loop device."""
    image = folder.with_name(f"{folder.name}.img")
    with image.open("wb") as file:
        file.truncate(size_mib << 20)
    _run("mkfs.ext4", "-q", "-m", "0", str(image))
    try:
        with _mounted(folder, "-o", "loop", str(image)):  # the kernel frees the device at the unmount
            yield folder
    finally:
        image.unlink()


@contextlib.contextmanager
def bind(source: Path, folder: Path) -> Iterator[Path]:
    """`folder` shows `source`, as another file system as far as renames go."""
    with _mounted(folder, "--bind", str(source)):
        yield folder


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """`folder` can't be written in; what has files open in it keeps writing to those.

    Only for what is opened after this begins, since it is a mount on top of what is there.
    """
    with bind(folder, folder):
        _run("mount", "-o", "remount,bind,ro", str(folder))
        yield folder


@contextlib.contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", *arguments, str(folder))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.stderr}"
