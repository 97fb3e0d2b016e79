"""Verifies webhook signatures, in both layouts that the vendor's guide shows.

The check encrypts the expected text with the signature's own IV or salt, and compares. Nothing is ever
decrypted and no padding parsed, so there is no padding oracle.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from enum import StrEnum
from functools import cache
from types import ModuleType

# Of AES (FIPS 197).
_BLOCK_BYTES = 16
_KEY_BYTES = (16, 24, 32)

_HEAD_BYTES = 16  # an IV; or the marker and the salt
_SALTED_MARK = b"Salted__"
_SALTED_KEY_BYTES = 32


class Layout(StrEnum):
    """What the decoded signature consists of; both end in AES-CBC over `APP_ID~API_KEY`, PKCS#7 padded."""

    RAW = "raw"  # IV, ciphertext; the key is the secret itself: the guide's C#, Java and Python examples
    SALTED = "salted"  # "Salted__", salt, ciphertext; key and IV are derived: its TypeScript example


def usable_layouts(app_secret: str) -> frozenset[Layout]:
    """The layouts that a signature with this secret can have.

    Raw needs 16, 24 or 32 bytes of UTF-8. None for an empty secret, which anyone could guess, and for one
    that is not valid Unicode.
    """
    try:
        size_bytes = len(app_secret.encode())
    except UnicodeEncodeError:
        return frozenset()
    if size_bytes == 0:
        return frozenset()
    return frozenset(Layout) if size_bytes in _KEY_BYTES else frozenset({Layout.SALTED})


def is_genuine(*, signature: str, app_id: str, api_key: str, app_secret: str) -> bool:
    """Whether this signature (base64) was made with the app secret. Never raises, whatever the arguments.

    It proves nothing about the body that it came with, nor that it was not used before.

    Timing: the early returns depend on the received text, which its sender knows; on the length of
    `APP_ID~API_KEY`, which every genuine signature reveals; and on whether the secret fits the raw layout.
    After them the work is the same for all signatures of one layout, wherever they differ.
    """
    if not all(isinstance(text, str) for text in (signature, app_id, api_key, app_secret)):
        return False
    try:
        plain = _padded(f"{app_id}~{api_key}".encode())
    except UnicodeEncodeError:
        return False
    received = _decoded(signature, _HEAD_BYTES + len(plain))
    if received is None:
        return False
    head = received[:_HEAD_BYTES]
    # One random IV in 2^64 looks salted. That webhook is refused, and its result polled for instead.
    layout = Layout.SALTED if head.startswith(_SALTED_MARK) else Layout.RAW
    if layout not in usable_layouts(app_secret):
        return False
    key, iv = app_secret.encode(), head
    if layout is Layout.SALTED:
        key, iv = _derived(key, salt=head[len(_SALTED_MARK) :])
    aes = cipher()
    expected = head + aes.new(key, aes.MODE_CBC, iv=iv).encrypt(plain)
    return hmac.compare_digest(expected, received)


@cache
def cipher() -> ModuleType:
    """AES. Loading it takes tens of milliseconds, which only those with webhooks should wait for."""
    from Crypto.Cipher import AES  # noqa: PLC0415

    return AES


def _padded(plain: bytes) -> bytes:
    """PKCS#7 (RFC 5652, section 6.3)."""
    missing = _BLOCK_BYTES - len(plain) % _BLOCK_BYTES
    return plain + bytes([missing]) * missing


def _decoded(signature: str, size_bytes: int) -> bytes | None:
    """Decode canonical base64 (RFC 4648, section 4) of exactly `size_bytes` bytes; None for anything else."""
    if len(signature) != (size_bytes + 2) // 3 * 4:
        return None
    try:
        decoded = base64.b64decode(signature, validate=True)
    except ValueError:
        return None
    # Strict decoding still accepts stray bits at the end, and some Python versions accept excess padding.
    canonical = base64.b64encode(decoded).decode() == signature
    return decoded if canonical and len(decoded) == size_bytes else None


def _derived(secret: bytes, *, salt: bytes) -> tuple[bytes, bytes]:
    """Key and IV as CryptoJS and `openssl enc -md md5` derive them: EVP_BytesToKey(3), MD5, one round."""
    derived = block = b""
    while len(derived) < _SALTED_KEY_BYTES + _BLOCK_BYTES:
        block = hashlib.md5(block + secret + salt, usedforsecurity=False).digest()
        derived += block
    return derived[:_SALTED_KEY_BYTES], derived[_SALTED_KEY_BYTES:]
