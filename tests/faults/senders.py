"""Senders whose line stalls in the middle of a recording: what each has written by then, and afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.kit import recordings

Write = Callable[[int, bytes, Callable[[], None]], None]


def grow(fd: int, content: bytes, stall: Callable[[], None]) -> None:
    """From the first byte to the last."""
    half = len(content) // 2
    os.write(fd, content[:half])
    stall()
    os.write(fd, content[half:])


def reserve(fd: int, content: bytes, stall: Callable[[], None]) -> None:
    """With its final size from the start, as Explorer does it: zeros, until they are overwritten."""
    os.ftruncate(fd, len(content))
    grow(fd, content, stall)


def reserve_blocks(fd: int, content: bytes, stall: Callable[[], None]) -> None:
    """The same with blocks on the disk, so that there is no hole."""
    os.posix_fallocate(fd, 0, len(content))
    grow(fd, content, stall)


def patch(fd: int, content: bytes, stall: Callable[[], None]) -> None:
    """A recorder of WAV: the sizes in its header stay zero until the end."""
    blank = content[:4] + bytes(4) + content[8:40] + bytes(4) + content[44:]
    grow(fd, blank, stall)
    os.pwrite(fd, content[:44], 0)


def grow_by_pages(fd: int, content: bytes, stall: Callable[[], None]) -> None:
    """Ogg, stalled between two pages."""
    half = content.index(b"OggS", len(content) // 2)
    os.write(fd, content[:half])
    stall()
    os.write(fd, content[half:])


class Variant(NamedTuple):
    """A recipe of `tests.kit.recordings`, and how it is written."""

    recipe: str
    write: Write


VARIANTS = {
    "growing.wav": Variant("pcm.wav", grow),
    "reserved.wav": Variant("pcm.wav", reserve),
    "blocks.wav": Variant("pcm.wav", reserve_blocks),
    "patched.wav": Variant("pcm.wav", patch),
    "endless.wav": Variant("piped.wav", grow),
    "alaw.wav": Variant("alaw.wav", reserve),
    "cbr.mp3": Variant("bare.mp3", grow),
    "cbr reserved.mp3": Variant("bare.mp3", reserve),
    "cbr blocks.mp3": Variant("bare.mp3", reserve_blocks),
    "vbr.mp3": Variant("vbr.mp3", grow),
    "vbr reserved.mp3": Variant("vbr.mp3", reserve),
    "unlabelled.mp3": Variant("piped.mp3", grow),
    "aac.m4a": Variant("aac.m4a", grow),
    "aac reserved.m4a": Variant("aac.m4a", reserve),
    "fast.m4a": Variant("faststart.m4a", grow),
    "fast reserved.m4a": Variant("faststart.m4a", reserve),
    "fast blocks.m4a": Variant("faststart.m4a", reserve_blocks),
    "fragments.m4a": Variant("fragmented.m4a", grow),
    "s16.flac": Variant("s16.flac", grow),
    "s16 reserved.flac": Variant("s16.flac", reserve),
    "piped.flac": Variant("piped.flac", grow),
    "opus.ogg": Variant("opus.ogg", grow),
    "opus pages.ogg": Variant("opus.ogg", grow_by_pages),
    "opus reserved.ogg": Variant("opus.ogg", reserve),
    "vorbis.ogg": Variant("vorbis.ogg", grow),
    "vorbis pages.ogg": Variant("vorbis.ogg", grow_by_pages),
    "declared.webm": Variant("opus.webm", grow),
    "declared reserved.webm": Variant("opus.webm", reserve),
    "live.webm": Variant("live.webm", grow),
    "live reserved.webm": Variant("live.webm", reserve),
}


def make_all(folder: Path) -> dict[str, bytes]:
    """The whole content of every variant."""
    made = recordings.make({variant.recipe for variant in VARIANTS.values()}, folder)
    return {name: made[variant.recipe].read_bytes() for name, variant in VARIANTS.items()}


def send_all(
    contents: Mapping[str, bytes], folder: Path, stall: Callable[[], None], *, owner: int | None = None
) -> None:
    """Write all of them at once, each of them to one descriptor from its beginning to its end."""

    def send(name: str) -> None:
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            if owner is not None:
                os.fchown(fd, owner, owner)
            VARIANTS[name].write(fd, contents[name], stall)
        finally:
            os.close(fd)

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(send, contents))


def stalled(seconds: float) -> Callable[[], None]:
    """A line that is silent for so long."""
    return lambda: time.sleep(seconds)
