"""Recordings in every format that is decoded, damaged at random."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.kit import dictations
from tests.kit.recordings import RECIPES, make

# Every reason with which a damaged recording may end: each is one that a person can do something about.
REASONS = {
    *("truncated", "undecodable", "decoded_wrongly", "not_audio", "unsupported_format", "empty"),
    *("password_needed", "wrong_password", "decoded_too_large"),
}


def originals(folder: Path) -> list[tuple[str, bytes]]:
    """A recording in each format that ffmpeg writes here, and dictations made by hand."""
    names = [name for name in RECIPES if not name.startswith("photo")]
    paths = make(names, folder)
    tone = paths["pcm.wav"]
    for name in dictations.BY_HAND:
        paths[name] = dictations.make(name, tone, folder, seconds=1.5)
    made = [(name, path.read_bytes()) for name, path in paths.items()]
    return [
        *made,
        ("plain.ds2", dictations.ds2_qp(100)),
        ("encrypted.ds2", dictations.encrypted_ds2(100, b"secret")),
        ("grundig.dss", bytes(dictations.header(b"\x06dss", seconds=2)) + bytes(512 * 20)),
    ]


def mutants(
    originals: list[tuple[str, bytes]], count: int, chance: random.Random
) -> Iterator[tuple[str, bytes]]:
    """So many recordings with bytes flipped, swapped for extreme ones, left out, doubled, or cut off."""
    for number in range(count):
        name, content = originals[number % len(originals)]
        data = bytearray(content)
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(min(len(data), chance.choice((64, 1024, len(data), len(data)))) or 1)
            length = chance.randint(1, 16)
            match chance.randrange(6):
                case 0:
                    data[at : at + 1] = bytes([chance.randrange(256)])
                case 1:
                    data[at : at + length] = chance.choice((b"\xff", b"\0", b"\x7f")) * length
                case 2:
                    data[at : at + length] = b""
                case 3:
                    data[at:at] = data[at : at + 50 * length]
                case 4:
                    data[at : at + 4] = chance.randbytes(4)
                case _ if chance.random() < 0.2:
                    del data[max(at, 20) :]
        yield f"{number:04}-{name}", bytes(data)
