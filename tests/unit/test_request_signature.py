"""`requestSignature`: what Node and OpenSSL signed is genuine, and nothing that was altered since."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from invox_watcher.invox.request_signature import FIELD, is_genuine

VECTORS = Path(__file__).parent.parent / "vectors"
SECRET, KEY = "whsec-0123456789abcdef", "key-0001"


@dataclass(frozen=True)
class Case:
    name: str
    secret_key: str
    api_key: str
    payload: dict[str, Any]

    def is_genuine(self, signature: object, **changes: Any) -> bool:
        payload = {key: value for key, value in self.payload.items() if key != FIELD} | {FIELD: signature}
        return is_genuine(payload | changes, api_key=self.api_key, app_secret=self.secret_key)


def read_cases() -> dict[str, Case]:
    text = (VECTORS / "request_signature_cases.tsv").read_text(encoding="utf-8")
    # Not splitlines: some of the payloads hold other line separators.
    rows = csv.DictReader(text.rstrip("\n").split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {
        row["case"]: Case(row["case"], row["secret_key"], row["api_key"], json.loads(row["payload"]))
        for row in rows
    }


def read_signatures() -> list[tuple[str, str, str]]:
    files = [VECTORS / f"request_signature_{client}.json" for client in ("node", "openssl")]
    found = [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))]
    return [(entry["client"], entry["case"], entry["signature"]) for entry in found]


CASES = read_cases()
SIGNATURES = read_signatures()
BATCH = CASES["a batch callback"]
BATCH_SIGNATURE = next(signature for _, name, signature in SIGNATURES if name == BATCH.name)


def test_both_clients_signed_every_case() -> None:
    assert len(CASES) > 20
    assert [name for _, name, _ in SIGNATURES] == [*CASES, *CASES]


@pytest.mark.parametrize(("client", "name", "signature"), SIGNATURES)
def test_what_others_signed_is_genuine(client: str, name: str, signature: str) -> None:
    case = CASES[name]
    assert case.is_genuine(signature), client
    assert not is_genuine(
        case.payload | {FIELD: signature}, api_key=case.api_key + "x", app_secret=case.secret_key
    )
    assert not is_genuine(
        case.payload | {FIELD: signature}, api_key=case.api_key, app_secret=case.secret_key + "x"
    )


def test_it_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda *both: compared.append(both))
    assert not BATCH.is_genuine(BATCH_SIGNATURE)
    assert compared == [(BATCH_SIGNATURE, BATCH_SIGNATURE)]


def test_every_flipped_bit_is_refused() -> None:
    digest = base64.b64decode(BATCH_SIGNATURE)
    assert BATCH.is_genuine(base64.b64encode(digest).decode())
    for bit in range(len(digest) * 8):
        flipped = bytearray(digest)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not BATCH.is_genuine(base64.b64encode(flipped).decode())


@pytest.mark.parametrize(
    "signature",
    [
        None,
        5,
        True,
        [],
        {},
        "",
        " ",
        "ü" * 44,
        BATCH_SIGNATURE + "=",
        BATCH_SIGNATURE.rstrip("="),
        BATCH_SIGNATURE + "\n",
        BATCH_SIGNATURE.lower(),
        base64.b64decode(BATCH_SIGNATURE).hex(),
    ],
)
def test_no_other_signature_is_genuine(signature: object) -> None:
    assert not BATCH.is_genuine(signature)


ALTERED: list[dict[str, Any]] = [
    {"requestId": "7f3c1f0f"},
    {"transcription": [{"speakerId": "Speaker_00", "text": "Good mourning.", "start": 0.5, "end": 2}]},
    {"transcription": [{"text": "Good morning.", "speakerId": "Speaker_00", "start": 0.5, "end": 2}]},
    {"transcription": [{"speakerId": "Speaker_00", "text": "Good morning.", "start": 0.5, "end": 2.1}]},
    {"transcription": []},
    {"transcription": None},
    {"status": "completed"},
    {"createdAt": 1721060646},
    {"createdAt": None},
    {"more": "words"},
]


@pytest.mark.parametrize("altered", ALTERED)
def test_an_altered_payload_is_refused(altered: dict[str, Any]) -> None:
    assert not BATCH.is_genuine(BATCH_SIGNATURE, **altered)


def test_reordered_or_missing_keys_are_refused() -> None:
    entries = [(key, value) for key, value in BATCH.payload.items() if key not in (FIELD, "eventName")]
    signed = {FIELD: BATCH_SIGNATURE}
    assert is_genuine(dict(entries) | signed, api_key=KEY, app_secret=SECRET)
    assert not is_genuine(dict(entries[::-1]) | signed, api_key=KEY, app_secret=SECRET)
    for index in range(len(entries)):
        rest = entries[:index] + entries[index + 1 :]
        assert not is_genuine(dict(rest) | signed, api_key=KEY, app_secret=SECRET)


def test_only_the_name_of_the_event_is_not_covered() -> None:
    assert BATCH.is_genuine(BATCH_SIGNATURE, eventName="anything")


def test_keys_that_are_array_indices_come_first() -> None:
    text = "two|ten|b|leading|large|long|" + KEY
    digest = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest()
    payload = {
        "b": "b",
        "010": "leading",
        "10": "ten",
        "4294967295": "large",
        "9" * 5000: "long",
        "2": "two",
        FIELD: base64.b64encode(digest).decode(),
    }
    assert is_genuine(payload, api_key=KEY, app_secret=SECRET)


def test_without_a_secret_nothing_is_genuine() -> None:
    digest = hmac.new(b"", f"a|{KEY}".encode(), hashlib.sha256).digest()
    payload = {"a": "a", FIELD: base64.b64encode(digest).decode()}
    assert not is_genuine(payload, api_key=KEY, app_secret="")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
SURPRISING: list[Any] = ["\ud800", 10**400, {"9" * 5000: 1}, float("inf"), float("nan"), ["\udfff"]]


@given(st.dictionaries(st.text(max_size=3), JSON | st.sampled_from(SURPRISING)), JSON | st.text(min_size=44))
def test_anything_else_is_refused_without_an_exception(payload: dict[str, Any], signature: Any) -> None:
    assume(FIELD not in payload)
    assert is_genuine(payload | {FIELD: signature}, api_key=KEY, app_secret=SECRET) is False


@pytest.mark.parametrize("value", SURPRISING)
def test_values_beyond_javascript_raise_nothing(value: Any) -> None:
    for payload in ({"a": value}, {"a": [value]}):
        assert is_genuine(payload | {FIELD: BATCH_SIGNATURE}, api_key=KEY, app_secret=SECRET) is False
