"""The two signatures that the vendor's pages describe: over a constant by AES, over the payload by HMAC."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

_SALT_BYTES = 8
_SALTED_KEY_BYTES = 32
_UNSIGNED_FIELDS = ("eventName", "requestSignature")
_SHORTEST_EXPONENT, _LONGEST_EXPONENT = -6, 21  # ECMA-262, Number::toString: beyond these with an exponent


def raw(plain: str, secret: str) -> str:
    """The layout of the guide's C#, Java and Python examples: IV, then ciphertext, the secret as the key."""
    iv = secrets.token_bytes(AES.block_size)
    return base64.b64encode(iv + _encrypted(plain, secret.encode(), iv)).decode()


def salted(plain: str, secret: str) -> str:
    """The layout of the guide's TypeScript example, CryptoJS with a passphrase: see openssl-enc(1).

    Key and IV come from EVP_BytesToKey(3) with MD5 and one round.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    derived, digest = b"", b""
    while len(derived) < _SALTED_KEY_BYTES + AES.block_size:
        digest = hashlib.md5(digest + secret.encode() + salt, usedforsecurity=False).digest()
        derived += digest
    key, iv = derived[:_SALTED_KEY_BYTES], derived[_SALTED_KEY_BYTES:]
    return base64.b64encode(b"Salted__" + salt + _encrypted(plain, key, iv)).decode()


LAYOUTS: Mapping[str, Callable[[str, str], str]] = {"raw": raw, "salted": salted}


def request_signature(payload: Mapping[str, Any], secret_key: str, api_key: str) -> str:
    """`requestSignature`: base64 of HMAC-SHA256 over the payload's values and the API key."""
    signed = signed_text(payload, api_key).encode()
    return base64.b64encode(hmac.digest(secret_key.encode(), signed, "sha256")).decode()


def signed_text(payload: Mapping[str, Any], api_key: str) -> str:
    """What `requestSignature` covers: the values in the payload's order, joined by `|`, the API key last."""
    values = [_text(value) for name, value in payload.items() if name not in _UNSIGNED_FIELDS]
    return "|".join([*values, api_key])


def stringify(value: object) -> str:
    """JSON as JavaScript's `JSON.stringify` writes it: no spaces, and numbers its own way."""
    match value:
        case bool() | None:
            return json.dumps(value)
        case int() | float():
            return _number(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case dict():
            members = (f"{stringify(name)}:{stringify(member)}" for name, member in value.items())
            return f"{{{','.join(members)}}}"
        case list():
            return f"[{','.join(map(stringify, value))}]"
        case _:
            raise TypeError(f"no JSON: {type(value).__name__}")


def _text(value: object) -> str:
    """A value of the payload's first level: text as it is, null as nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else stringify(value)


def _number(value: float) -> str:
    """A number as ECMA-262's Number::toString writes it; JavaScript knows only doubles."""
    sign, digits, exponent = _decimal(float(value))
    if not digits:
        return "0"
    if _SHORTEST_EXPONENT < exponent <= _LONGEST_EXPONENT:
        padded = digits.ljust(exponent, "0") if exponent > 0 else "0" * (1 - exponent) + digits
        point = max(exponent, 1)
        fraction = f".{padded[point:]}" if padded[point:] else ""
        return f"{sign}{padded[:point]}{fraction}"
    fraction = f".{digits[1:]}" if digits[1:] else ""
    return f"{sign}{digits[0]}{fraction}e{exponent - 1:+}"


def _decimal(value: float) -> tuple[str, str, int]:
    """Sign, shortest digits without zeros around them, and the place of the point before the first one."""
    mantissa, _, power = f"{value!r}e0".partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).rstrip("0")
    significant = digits.lstrip("0")
    exponent = len(whole) + int(power.partition("e")[0]) - (len(digits) - len(significant))
    return ("-" if value < 0 else ""), significant, exponent


def _encrypted(plain: str, key: bytes, iv: bytes) -> bytes:
    return AES.new(key, AES.MODE_CBC, iv=iv).encrypt(pad(plain.encode(), AES.block_size))
