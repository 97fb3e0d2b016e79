"""Is this `requestSignature` genuine? It is the one of the vendor's two signatures that covers the body.

According to the vendor's page on organizations' webhooks it is base64 of HMAC-SHA256, under the secret, over
the values of the payload in its order, without `eventName` and the signature itself, then the API Key, joined
by `|`. Values are written as JavaScript writes them: null as nothing, objects and lists by `JSON.stringify`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any

FIELD = "requestSignature"
_NOT_COVERED = frozenset({FIELD, "eventName"})
_SURROGATE = re.compile("[\ud800-\udfff]")
_LARGEST_INDEX = 2**32 - 2  # ECMA-262, array index: such keys come first in an object, in ascending order


def is_genuine(payload: Mapping[str, Any], *, api_key: str, app_secret: str) -> bool:
    """Whether the maker of `payload`, a decoded JSON object, knew the secret. Never raises."""
    signature = payload.get(FIELD)
    if not isinstance(signature, str) or not signature.isascii() or not app_secret:
        return False
    try:
        text = "|".join([*(_value(v) for k, v in _ordered(payload) if k not in _NOT_COVERED), api_key])
        digest = hmac.new(app_secret.encode(), text.encode(), hashlib.sha256).digest()
    except (UnicodeEncodeError, RecursionError, OverflowError):
        return False
    return hmac.compare_digest(base64.b64encode(digest).decode("ascii"), signature)


def _value(value: Any) -> str:
    """A value of the payload as JavaScript's `String()` writes it, objects and lists as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    """`JSON.stringify(value)`, ECMA-262."""
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)
        return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_json(key)}:{_json(item)}" for key, item in _ordered(value)) + "}"
    return "[" + ",".join(map(_json, value)) + "]"


def _ordered(payload: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The entries in JavaScript's order: keys that are array indices first, the others as they came."""
    return sorted(payload.items(), key=lambda entry: _index(entry[0]))


def _index(key: str) -> tuple[int, int]:
    if key.isascii() and key.isdigit() and len(key) <= len(str(_LARGEST_INDEX)):
        number = int(key)
        if str(number) == key and number <= _LARGEST_INDEX:
            return 0, number
    return 1, 0


def _number(value: float) -> str:
    """A number as JavaScript's `Number::toString` writes it: `1`, `1.5`, `1e+21`, `1.5e-7`."""
    number = float(value)  # JavaScript has no other numbers
    if number == 0:
        return "0"
    # repr gives the shortest digits that read back, as JavaScript does; only the layout differs.
    digits, point = _digits(repr(abs(number)))
    sign = "-" if number < 0 else ""
    if len(digits) <= point <= 21:
        return sign + digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    shown = digits[0] + (f".{digits[1:]}" if len(digits) > 1 else "")
    return f"{sign}{shown}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def _digits(text: str) -> tuple[str, int]:
    """The significant digits of a decimal number, and how many of them stand before its point."""
    mantissa, _, power = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    leading_zeros = len(whole + fraction) - len(digits)
    return digits.rstrip("0"), len(whole) - leading_zeros + int(power or 0)
