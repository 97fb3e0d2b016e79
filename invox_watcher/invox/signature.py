"""Is this webhook signature genuine? Says so for both layouts that the vendor's guide shows.

The check encrypts what it expects under the IV or the salt that the signature brings, and compares. Nothing
is ever decrypted and no padding parsed, so there is no padding oracle.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from enum import StrEnum

from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

_HEAD_BYTES = 16  # an IV; or the mark and the salt
_SALTED_MARK = b"Salted__"
_SALTED_KEY_BYTES = 32


class Layout(StrEnum):
    """What the decoded signature consists of; both end in AES-CBC over `APP_ID~API_KEY`, PKCS#7 padded."""

    RAW = "raw"  # IV, ciphertext; the key is the secret itself: the guide's C#, Java and Python examples
    SALTED = "salted"  # "Salted__", salt, ciphertext; key and IV are derived: its TypeScript example


def usable_layouts(app_secret: str) -> frozenset[Layout]:
    """The layouts that a signature under this secret can have.

    Raw needs 16, 24 or 32 bytes of UTF-8. The empty secret, which everybody knows, and one that is not
    Unicode text can have none.
    """
    try:
        size_bytes = len(app_secret.encode())
    except UnicodeEncodeError:
        return frozenset()
    if size_bytes == 0:
        return frozenset()
    return frozenset(Layout) if size_bytes in AES.key_size else frozenset({Layout.SALTED})


def is_genuine(*, signature: str, app_id: str, api_key: str, app_secret: str) -> bool:
    """Whether whoever made this signature (base64) knew the app secret. Never raises, whatever it is given.

    It tells nothing about the body that it came with, nor whether it was used before.

    What the time tells: the early ways out depend on the received text, which its sender knows; on the length
    of `APP_ID~API_KEY`, which every genuine signature shows; and on whether the secret fits the raw layout.
    After them the work is the same for all signatures of one layout, wherever they are wrong.
    """
    if not all(isinstance(text, str) for text in (signature, app_id, api_key, app_secret)):
        return False
    try:
        plain = pad(f"{app_id}~{api_key}".encode(), AES.block_size)
    except UnicodeEncodeError:
        return False
    received = _decoded(signature, _HEAD_BYTES + len(plain))
    if received is None:
        return False
    head = received[:_HEAD_BYTES]
    # One random IV in 2^64 looks salted. It is refused, and the result is polled for instead.
    layout = Layout.SALTED if head.startswith(_SALTED_MARK) else Layout.RAW
    if layout not in usable_layouts(app_secret):
        return False
    key, iv = app_secret.encode(), head
    if layout is Layout.SALTED:
        key, iv = _derived(key, salt=head[len(_SALTED_MARK) :])
    expected = head + AES.new(key, AES.MODE_CBC, iv=iv).encrypt(plain)
    return hmac.compare_digest(expected, received)


def _decoded(signature: str, size_bytes: int) -> bytes | None:
    """The bytes of canonical base64 (RFC 4648, section 4) of exactly that many; else None."""
    if len(signature) != (size_bytes + 2) // 3 * 4:
        return None
    try:
        decoded = base64.b64decode(signature, validate=True)
    except ValueError:
        return None
    # Strict decoding still takes stray bits at the end, and some Pythons take padding too many.
    canonical = base64.b64encode(decoded).decode() == signature
    return decoded if canonical and len(decoded) == size_bytes else None


def _derived(secret: bytes, *, salt: bytes) -> tuple[bytes, bytes]:
    """Key and IV as CryptoJS and `openssl enc -md md5` derive them: EVP_BytesToKey(3), MD5, one round."""
    derived = block = b""
    while len(derived) < _SALTED_KEY_BYTES + AES.block_size:
        block = hashlib.md5(block + secret + salt, usedforsecurity=False).digest()
        derived += block
    return derived[:_SALTED_KEY_BYTES], derived[_SALTED_KEY_BYTES:]
