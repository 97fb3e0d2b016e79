"""The names of recordings and their outputs: numbered if a name is in use, never too long."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

ERROR_SUFFIX = ".error.json"
_NAME_MAX_BYTES = 255
_EXTENSION_MAX_BYTES = 64  # leaves space for a stem


def numbered(path: str) -> Iterator[str]:
    """`ward/smith.wav`, `ward/smith-2.wav`, `ward/smith-3.wav`, …: each short enough for every suffix."""
    folder, name = os.path.split(path)
    stem, extension = os.path.splitext(name)
    extension = _shortened(extension, _EXTENSION_MAX_BYTES)
    room = _NAME_MAX_BYTES - len(os.fsencode(extension)) - len(ERROR_SUFFIX)
    number = 1
    while True:
        suffix = "" if number == 1 else f"-{number}"
        yield os.path.join(folder, _shortened(stem, room - len(suffix)) + suffix + extension)
        number += 1


def numbered_folders(path: str) -> Iterator[str]:
    """`ward/smith.wav`, `ward-2/smith.wav`, …: for when a file has the folder's name."""
    first, slash, rest = path.partition("/")
    yield path
    for number in itertools.count(2):
        if not slash:
            return
        yield f"{_shortened(first, _NAME_MAX_BYTES - 12)}-{number}/{rest}"


def output_path(filed_as: str, suffix: str) -> str:
    """The path of one output of the set: the recording's stem with another suffix."""
    return f"{os.path.splitext(filed_as)[0]}.{suffix}"


def _shortened(part: str, max_bytes: int) -> str:
    while len(os.fsencode(part)) > max_bytes:
        part = part[:-1]
    return part
