"""Does the time that a signature's check takes tell why it was refused? Run: python -m bench.signature_timing

Every kind of signature is checked 2,000 times, interleaved in random order, each a fresh one. Noise is what
random halves of the "wrong secret" row differ by among themselves; the same kind measured again, in the last
row, shows what difference means nothing. Figures for reading, not a test.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import os
import random
import statistics
import sys
import time
from collections.abc import Callable

from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

from invox_watcher.invox.signature import is_genuine

TRIES = 2000
SPLITS = 500
ACCOUNT = {
    "app_id": "app-of-ward-3",
    "api_key": "key-012345678",
    "app_secret": "this secret has got 32 bytes OK!",
}
TEXT = f"{ACCOUNT['app_id']}~{ACCOUNT['api_key']}".encode()
PADDED = pad(TEXT, 16)
MISPADDED = TEXT + b"\0" * (len(PADDED) - len(TEXT))
SECRET = ACCOUNT["app_secret"].encode()
REFERENCE = "wrong secret"

Seal = Callable[[bytes, bytes], bytes]


def raw(padded: bytes, secret: bytes) -> bytes:
    """IV, then ciphertext."""
    cipher = AES.new(secret, AES.MODE_CBC)
    return cipher.iv + cipher.encrypt(padded)


def salted(padded: bytes, secret: bytes) -> bytes:
    """Mark, salt, then ciphertext."""
    salt = os.urandom(8)
    blocks = [b""]
    for _ in range(3):
        blocks.append(hashlib.md5(blocks[-1] + secret + salt, usedforsecurity=False).digest())
    cipher = AES.new(blocks[1] + blocks[2], AES.MODE_CBC, iv=blocks[3])
    return b"Salted__" + salt + cipher.encrypt(padded)


def flipped_last_byte(decoded: bytes) -> bytes:
    """With one bit of the last byte the other way round."""
    return decoded[:-1] + bytes([decoded[-1] ^ 1])


KINDS: dict[str, Callable[[Seal], bytes]] = {
    REFERENCE: lambda seal: seal(PADDED, os.urandom(len(SECRET))),
    "wrong padding": lambda seal: seal(MISPADDED, SECRET),
    "flipped last byte": lambda seal: flipped_last_byte(seal(PADDED, SECRET)),
    "genuine": lambda seal: seal(PADDED, SECRET),
    "wrong secret, again": lambda seal: seal(PADDED, os.urandom(len(SECRET))),
}


def measure(seal: Seal) -> dict[str, list[int]]:
    """Nanoseconds of every check, by kind, in the order in which they ran."""
    order = list(KINDS) * TRIES
    random.shuffle(order)
    signatures = [base64.b64encode(KINDS[kind](seal)).decode() for kind in order]
    took: dict[str, list[int]] = {kind: [] for kind in KINDS}
    gc.disable()
    for kind, signature in zip(order, signatures, strict=True):
        begun = time.perf_counter_ns()
        genuine = is_genuine(signature=signature, **ACCOUNT)
        took[kind].append(time.perf_counter_ns() - begun)
        if genuine is not (kind == "genuine"):
            raise AssertionError(f"{kind}: is_genuine said {genuine}")
    gc.enable()
    return took


def noise_ns(times: list[int]) -> float:
    """What the medians of two random halves differ by, in 95 of 100 splits at most."""
    differences = []
    for _ in range(SPLITS):
        shuffled = random.sample(times, len(times))
        halves = shuffled[::2], shuffled[1::2]
        differences.append(abs(statistics.median(halves[0]) - statistics.median(halves[1])))
    return statistics.quantiles(differences, n=20)[-1]


def table(layout: str, took: dict[str, list[int]]) -> list[str]:
    """The rows for one layout; times in microseconds."""
    reference = statistics.median(took[REFERENCE])
    noise = noise_ns(took[REFERENCE])
    rows = [
        f"{layout}, {TRIES} tries each; noise of the median {noise / 1000:.3f} µs",
        f"{'':20}{'median':>10}{'p95':>10}{'difference':>12}{'of noise':>10}",
    ]
    for kind, times in took.items():
        median, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        difference = median - reference
        of_noise = f"{difference / noise:+.2f}×" if noise else "–"
        rows.append(
            f"{kind:20}{median / 1000:10.3f}{p95 / 1000:10.3f}{difference / 1000:+12.3f}{of_noise:>10}"
        )
    return rows


def main() -> None:
    """Measure both layouts and print a table for each."""
    measure(raw)  # warms caches up
    for layout, seal in {"raw": raw, "salted": salted}.items():
        sys.stdout.write("\n".join(table(layout, measure(seal))) + "\n\n")


if __name__ == "__main__":
    main()
