"""Webhook signatures: what outside clients signed is genuine, and nothing else is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.invox.signature import Layout, is_genuine, usable_layouts
from tests.kit.strategies import AES_KEY, CREDENTIAL

VECTORS_FOLDER = Path(__file__).parent.parent / "vectors"
CLIENTS = {
    "crypto-js": Layout.SALTED,
    "openssl": Layout.SALTED,
    "java": Layout.RAW,
    "pycryptodome": Layout.RAW,
}


@dataclass(frozen=True)
class Vector:
    """One signature, and what it was made from."""

    client: str
    version: str
    app_id: str
    api_key: str
    app_secret: str
    signature: str

    @property
    def is_genuine(self) -> bool:
        return is_genuine(
            signature=self.signature, app_id=self.app_id, api_key=self.api_key, app_secret=self.app_secret
        )

    @property
    def decoded(self) -> bytes:
        return base64.b64decode(self.signature)


def read_vectors() -> list[Vector]:
    files = sorted(set(VECTORS_FOLDER.glob("*.json")) - set(VECTORS_FOLDER.glob("request_signature_*")))
    return [Vector(**fields) for file in files for fields in json.loads(file.read_text(encoding="utf-8"))]


VECTORS = read_vectors()
# One of each layout and of each way that base64 can end: "==", "=", "".
VARIED = list({(CLIENTS[v.client], v.signature.count("=")): v for v in VECTORS}.values())


def name(vector: Vector) -> str:
    secret_bytes = len(vector.app_secret.encode())
    return f"{vector.client}-{len(vector.signature)}-{secret_bytes}"


every_vector = pytest.mark.parametrize("vector", VECTORS, ids=name)
varied_vectors = pytest.mark.parametrize("vector", VARIED, ids=name)


def encode(decoded: bytes | bytearray) -> str:
    return base64.b64encode(decoded).decode()


def other(text: str) -> str:
    """Another text, as long in UTF-8."""
    return chr(ord(text[0]) ^ 1) + text[1:]


def signed_raw(padded: bytes, secret: str, iv: bytes | None = None) -> str:
    """The raw layout over a text that is already padded, well or badly."""
    cipher = AES.new(secret.encode(), AES.MODE_CBC, iv=iv)
    return encode(cipher.iv + cipher.encrypt(padded))


def signed_salted(padded: bytes, secret: str) -> str:
    """The salted layout over the same, its key by OpenSSL's EVP_BytesToKey with MD5."""
    salt, block, derived = os.urandom(8), b"", b""
    while len(derived) < 48:
        block = hashlib.md5(block + secret.encode() + salt).digest()
        derived += block
    cipher = AES.new(derived[:32], AES.MODE_CBC, iv=derived[32:48])
    return encode(b"Salted__" + salt + cipher.encrypt(padded))


def test_the_vectors_cover_what_they_are_for() -> None:
    raw = [v for v in VECTORS if CLIENTS[v.client] is Layout.RAW]
    assert {v.client for v in VECTORS} == set(CLIENTS)
    assert {len(v.app_secret.encode()) for v in raw} == {16, 24, 32}
    for client in CLIENTS:
        own = [v for v in VECTORS if v.client == client]
        assert {v.signature.count("=") for v in own} == {0, 1, 2}
        assert any(len(f"{v.app_id}~{v.api_key}".encode()) % 16 == 0 for v in own)
        assert any(not (v.app_id + v.api_key).isascii() and not v.app_secret.isascii() for v in own)
    assert {len(v.app_secret) for v in VECTORS if v.client == "crypto-js"} >= {1, 203}
    assert len(VARIED) == 6


@every_vector
def test_what_an_outside_client_signed_is_genuine(vector: Vector) -> None:
    assert vector.is_genuine


def test_it_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *both: compared.append(both))
    assert not VECTORS[0].is_genuine
    assert compared == [(VECTORS[0].decoded, VECTORS[0].decoded)]


@every_vector
@pytest.mark.parametrize("field", ["app_id", "api_key", "app_secret"])
def test_for_another_account_it_is_not(vector: Vector, field: str) -> None:
    genuine = getattr(vector, field)
    for wrong in (other(genuine), genuine + " ", genuine[1:], ""):
        assert not replace(vector, **{field: wrong}).is_genuine


@every_vector
def test_one_flipped_bit_anywhere_is_refused(vector: Vector) -> None:
    for position in range(len(vector.decoded)):
        for bit in range(8):
            flipped = bytearray(vector.decoded)
            flipped[position] ^= 1 << bit
            assert not replace(vector, signature=encode(flipped)).is_genuine, (position, bit)


@varied_vectors
def test_every_bit_of_the_text_counts_too(vector: Vector) -> None:
    for position in range(len(vector.signature)):
        for bit in range(21):
            code_point = ord(vector.signature[position]) ^ 1 << bit
            text = vector.signature[:position] + chr(code_point) + vector.signature[position + 1 :]
            assert not replace(vector, signature=text).is_genuine, (position, bit)


@varied_vectors
def test_a_wrong_length_is_refused(vector: Vector) -> None:
    text, decoded = vector.signature, vector.decoded
    for end in range(len(text)):
        assert not replace(vector, signature=text[:end]).is_genuine
    for end in range(len(decoded)):
        assert not replace(vector, signature=encode(decoded[:end])).is_genuine
    for extra in (b"\0", b"\x10" * 16, decoded, decoded[16:], decoded[-16:]):
        assert not replace(vector, signature=encode(decoded + extra)).is_genuine
    assert not replace(vector, signature=text + text).is_genuine


Seal = Callable[[bytes, str], str]
BAD_PADDINGS = {  # for a text that lacks five bytes
    "zeros": b"\0" * 5,
    "ansi-x9.23": b"\0" * 4 + b"\5",
    "iso-7816": b"\x80" + b"\0" * 4,
    "only-the-last-byte-wrong": b"\5" * 4 + b"\4",
    "only-the-first-byte-wrong": b"\4" + b"\5" * 4,
    "count-too-high": b"\6" * 5,
    "count-beyond-the-block": b"\x11" * 5,
    "count-beyond-the-text": b"\xff" * 5,
    "one-byte-of-text-more": b" " + b"\4" * 4,
    "spaces": b" " * 5,
}


@pytest.mark.parametrize("seal", [signed_raw, signed_salted])
@pytest.mark.parametrize("padding", BAD_PADDINGS.values(), ids=BAD_PADDINGS.keys())
def test_the_right_secret_over_a_wrong_padding_is_refused(seal: Seal, padding: bytes) -> None:
    account = Vector("", "", "app-of-ward-3", "key-012345678", "0123456789abcdef", "")
    text = b"app-of-ward-3~key-012345678"
    assert replace(account, signature=seal(text + b"\5" * 5, account.app_secret)).is_genuine
    assert not replace(account, signature=seal(text + padding, account.app_secret)).is_genuine


@pytest.mark.parametrize("seal", [signed_raw, signed_salted])
def test_a_missing_or_a_second_block_of_padding_is_refused(seal: Seal) -> None:
    account = Vector("", "", "app-1234", "key4567", "0123456789abcdef", "")
    text = b"app-1234~key4567"
    assert len(text) == 16
    assert replace(account, signature=seal(text + b"\x10" * 16, account.app_secret)).is_genuine
    assert not replace(account, signature=seal(text, account.app_secret)).is_genuine
    assert not replace(account, signature=seal(text + b"\x20" * 32, account.app_secret)).is_genuine


def same_bytes_otherwise_written(text: str) -> Iterator[str]:
    """Texts that a lenient decoder takes for the same signature."""
    unpadded = text.rstrip("=")
    yield from (text + "=", text + "==", text + "====", unpadded + "=" * 4)
    for space in (" ", "\n", "\r\n", "\t", "\v", "\0", "\u00a0", "\u2028", "\ufeff"):
        yield from (space + text, text + space, text[:20] + space + text[20:], text[:40] + space + text[41:])
        yield text[:-1] + space  # as long as the genuine one
    yield from (f"data:;base64,{text}", f'"{text}"', text.replace("=", "%3D") + "%3D", text + "!")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    if text.endswith("="):  # so the last digit has two or four bits that mean nothing
        yield unpadded
        stray = alphabet[alphabet.index(unpadded[-1]) + 1]
        yield unpadded[:-1] + stray + "=" * text.count("=")
    yield "".join(chr(ord(c) + 0xFEE0) if c.isalnum() else c for c in text)  # full-width digits and letters


@varied_vectors
def test_only_canonical_base64_is_taken(vector: Vector) -> None:
    for text in same_bytes_otherwise_written(vector.signature):
        assert not replace(vector, signature=text).is_genuine, repr(text)


def test_the_url_safe_alphabet_is_refused() -> None:
    with_both = [v for v in VECTORS if "+" in v.signature and "/" in v.signature]
    assert {CLIENTS[v.client] for v in with_both} == set(Layout)
    for vector in with_both:
        url_safe = vector.signature.replace("+", "-").replace("/", "_")
        assert base64.urlsafe_b64decode(url_safe) == vector.decoded
        assert not replace(vector, signature=url_safe).is_genuine


@varied_vectors
def test_ten_megabytes_are_refused_without_being_copied(vector: Vector) -> None:
    size = 10_000_000
    repeated = vector.signature * (size // len(vector.signature))
    huge = ["A" * size, " " * size, "\ud800" * size, vector.signature + "=" * size, repeated]
    tracemalloc.start()
    try:
        assert not any(replace(vector, signature=text).is_genuine for text in huge)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@every_vector
@pytest.mark.parametrize("field", ["signature", "app_id", "api_key", "app_secret"])
def test_what_is_no_text_is_refused(vector: Vector, field: str) -> None:
    genuine = getattr(vector, field)
    no_text: list[Any] = [
        None,
        genuine.encode(),
        bytearray(genuine.encode()),
        0,
        True,
        1.5,
        [genuine],
        {},
        object(),
    ]
    for value in no_text:
        assert not replace(vector, **{field: value}).is_genuine
    for text in ("\ud800", genuine + "\udcff", "\0"):
        assert not replace(vector, **{field: text}).is_genuine
    assert not replace(vector, **{field: ""}).is_genuine


def test_the_empty_secret_proves_nothing() -> None:
    account = Vector("", "", "app", "key", "x", "")
    padded = pad(b"app~key", 16)
    assert replace(account, signature=signed_salted(padded, "x")).is_genuine
    signature = signed_salted(padded, "")
    assert not is_genuine(signature=signature, app_id="app", api_key="key", app_secret="")


def test_an_iv_that_reads_salted_is_refused() -> None:
    account = Vector("", "", "app", "key", "0123456789abcdef", "")
    padded = pad(b"app~key", 16)
    for iv, expected in ((b"Salted_!12345678", True), (b"Salted__12345678", False)):
        signature = signed_raw(padded, account.app_secret, iv)
        assert replace(account, signature=signature).is_genuine is expected


@pytest.mark.parametrize(
    ("app_secret", "expected"),
    [
        ("0123456789abcdef", {Layout.RAW, Layout.SALTED}),
        ("a-secret-of-24-bytes-xyz", {Layout.RAW, Layout.SALTED}),
        ("密钥密钥密钥密钥", {Layout.RAW, Layout.SALTED}),
        ("ü" * 16, {Layout.RAW, Layout.SALTED}),
        ("ü" * 24, {Layout.SALTED}),
        ("x", {Layout.SALTED}),
        ("0123456789abcdef\n", {Layout.SALTED}),
        ("", set()),
        ("0123456789abcde\udcff", set()),
    ],
)
def test_which_layouts_a_secret_can_be_used_with(app_secret: str, expected: set[Layout]) -> None:
    assert usable_layouts(app_secret) == expected


@given(app_id=CREDENTIAL, api_key=CREDENTIAL, secret=AES_KEY)
def test_every_signature_by_pycryptodome_is_genuine(app_id: str, api_key: str, secret: str) -> None:
    signature = signed_raw(pad(f"{app_id}~{api_key}".encode(), 16), secret)
    assert is_genuine(signature=signature, app_id=app_id, api_key=api_key, app_secret=secret)


@given(
    signature=st.text() | st.binary().map(encode),
    app_id=st.text(),
    api_key=st.text(),
    secret=st.text() | AES_KEY,
)
def test_random_input_is_refused(signature: str, app_id: str, api_key: str, secret: str) -> None:
    assert not is_genuine(signature=signature, app_id=app_id, api_key=api_key, app_secret=secret)


@given(seed=st.integers(), salted=st.booleans(), vector=st.sampled_from(VECTORS))
def test_random_bytes_of_the_right_length_are_refused(seed: int, salted: bool, vector: Vector) -> None:
    forged = random.Random(seed).randbytes(len(vector.decoded))
    if salted:
        forged = b"Salted__" + forged[8:]
    assert not replace(vector, signature=encode(forged)).is_genuine
