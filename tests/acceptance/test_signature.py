"""Webhook signatures by the openssl program, fresh ones of any secret."""

from __future__ import annotations

import base64
import os
import subprocess

from Crypto.Util.Padding import pad
from hypothesis import given, settings
from hypothesis import strategies as st

from invox_watcher.invox.signature import is_genuine
from tests.kit.strategies import AES_KEY, CREDENTIAL

PASSPHRASE = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=60
)


def openssl(plain: bytes, *arguments: str | bytes) -> bytes:
    command = ["openssl", "enc", "-nopad", *arguments]
    return subprocess.run(command, input=plain, capture_output=True, check=True).stdout


def openssl_raw(padded: bytes, secret: str) -> bytes:
    """The raw layout over a text that is already padded."""
    key, iv = secret.encode(), os.urandom(16)
    return iv + openssl(padded, f"-aes-{len(key) * 8}-cbc", "-K", key.hex(), "-iv", iv.hex())


def openssl_salted(padded: bytes, secret: str) -> bytes:
    """The salted layout over a text that is already padded."""
    return openssl(padded, "-aes-256-cbc", "-md", "md5", "-pass", b"pass:" + secret.encode())


@given(app_id=CREDENTIAL, api_key=CREDENTIAL, secret=AES_KEY, passphrase=PASSPHRASE)
@settings(max_examples=30, deadline=None)
def test_every_signature_by_openssl_is_genuine(
    app_id: str, api_key: str, secret: str, passphrase: str
) -> None:
    padded = pad(f"{app_id}~{api_key}".encode(), 16)
    for signed, app_secret in (
        (openssl_raw(padded, secret), secret),
        (openssl_salted(padded, passphrase), passphrase),
    ):
        signature = base64.b64encode(signed).decode()
        assert is_genuine(signature=signature, app_id=app_id, api_key=api_key, app_secret=app_secret)
