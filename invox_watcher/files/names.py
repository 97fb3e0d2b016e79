"""The names of recordings and their outputs: numbered if a name is in use, never too long."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from functools import lru_cache

ERROR_SUFFIX = ".error.json"
_NAME_MAX_BYTES = 255
_EXTENSION_MAX_BYTES = 64  # leaves space for a stem
_TRIED_ONE_BY_ONE = 16


def numbered(path: str) -> Iterator[str]:
    """`ward/smith.wav`, `ward/smith-2.wav`, `ward/smith-3.wav`, …: each short enough for every suffix."""
    return (_with_number(path, number) for number in itertools.count(1))


def unused(path: str, in_use: Callable[[str], bool]) -> Iterator[str]:
    """Those of `numbered` that are not `in_use`, the lowest first; beyond sixteen, those after a run in use.

    Dictation devices begin with DICT0001.WAV again and again: of twenty thousand, some thirty are checked.
    """

    def taken(number: int) -> bool:
        return in_use(_with_number(path, number))

    low = _TRIED_ONE_BY_ONE
    yield from (_with_number(path, number) for number in range(1, low + 1) if not taken(number))
    high = 2 * low
    while taken(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    yield from (_with_number(path, number) for number in itertools.count(high) if not taken(number))


@lru_cache(256)  # of one recording the same is asked several times
def _with_number(path: str, number: int) -> str:
    folder, name = os.path.split(path)
    stem, extension = os.path.splitext(name)
    extension = _shortened(extension, _EXTENSION_MAX_BYTES)
    room = _NAME_MAX_BYTES - len(os.fsencode(extension)) - len(ERROR_SUFFIX)
    suffix = "" if number == 1 else f"-{number}"
    return os.path.join(folder, _shortened(stem, room - len(suffix)) + suffix + extension)


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
