"""Tokens: how the request is made, and where and for how long a token is found in any plausible reply."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.invox.token import TokenRequest, filled, placeholders, read_token
from tests.kit.strategies import JSON

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
KEY = "K3y+with/odd&chars="
CREDENTIALS = placeholders("clinic", KEY)


def request(**changes: Any) -> TokenRequest:
    fields: dict[str, Any] = {
        "url": "/oauth/token",
        "method": "POST",
        "headers": {},
        "form": None,
        "json": None,
        "field": None,
        "lifetime_seconds": None,
    }
    return TokenRequest(**fields | changes)


def read(payload: object, **changes: Any) -> tuple[str, float] | None:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return read_token(body, request(**changes), now=NOW)


def token_in(payload: object, **changes: Any) -> str | None:
    found = read(payload, **changes)
    return found[0] if found is not None else None


def jwt(claims: object) -> str:
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "c2ln"])


class TestTheRequest:
    def test_placeholders(self) -> None:
        assert base64.b64decode(CREDENTIALS["base64"]).decode() == f"clinic:{KEY}"
        sent = {"a": ["{app_id}", 1, None, True], "b": {"c": "k={api_key};{base64}"}, "{app_id}": "{other}"}
        assert filled(sent, CREDENTIALS) == {
            "a": ["clinic", 1, None, True],
            "b": {"c": f"k={KEY};{CREDENTIALS['base64']}"},
            "{app_id}": "{other}",
        }

    def test_what_is_filled_in_is_not_filled_in_again(self) -> None:
        assert filled("{app_id}", placeholders("{api_key}", KEY)) == "{api_key}"

    def test_a_form(self) -> None:
        body, kind = request(form={"id": "{app_id}", "key": "{api_key}"}).body(CREDENTIALS)
        assert kind == "application/x-www-form-urlencoded"
        assert parse_qs((body or b"").decode(), strict_parsing=True) == {"id": ["clinic"], "key": [KEY]}

    def test_json_is_sent_instead_of_a_form(self) -> None:
        body, kind = request(json={"key": "{api_key}"}, form={"a": "b"}).body(CREDENTIALS)
        assert (json.loads(body or b""), kind) == ({"key": KEY}, "application/json")

    def test_an_empty_json_object_is_a_body(self) -> None:
        assert request(json={}, form={"a": "b"}).body(CREDENTIALS) == (b"{}", "application/json")

    def test_none(self) -> None:
        assert request().body(CREDENTIALS) == (None, None)


NAMES = ["accessToken", "access_token", "token", "idToken", "id_token", "jwt"]


class TestWhereItIs:
    @pytest.mark.parametrize("name", NAMES)
    def test_under_the_usual_names(self, name: str) -> None:
        assert token_in({name: "abc"}) == "abc"
        assert token_in({"data": {name: "abc"}}) == "abc"
        assert token_in({"token": {name: "abc"}}) == "abc"

    @pytest.mark.parametrize("unusable", [None, "", 5, True, [], {}, "two words", "a\nb", "ä", "<a>"])
    def test_an_unusable_one_does_not_hide_another(self, unusable: object) -> None:
        assert token_in({"accessToken": unusable}) is None
        assert token_in({"accessToken": unusable, "token": "abc"}) == "abc"
        assert token_in({"accessToken": unusable, "data": {"token": "abc"}}) == "abc"

    @pytest.mark.parametrize("body", [b"abc.d-e_f", b"  abc.d-e_f\r\n", b'"abc.d-e_f"'])
    def test_as_a_bare_text(self, body: bytes) -> None:
        assert token_in(body) == "abc.d-e_f"

    @pytest.mark.parametrize(
        ("field", "payload"),
        [
            ("key", {"key": "abc", "token": "other"}),
            ("data.access_token", {"data": {"access_token": "abc"}, "access_token": "other"}),
            ("a.b.c", {"a": {"b": {"c": "abc"}}}),
        ],
    )
    def test_at_the_configured_place(self, field: str, payload: object) -> None:
        assert token_in(payload, field=field) == "abc"

    @pytest.mark.parametrize("payload", [{"token": "abc"}, {"a": "x"}, {"a": {"b": 5}}, [], b"abc", b""])
    def test_at_the_configured_place_only(self, payload: object) -> None:
        assert token_in(payload, field="a.b") is None

    @pytest.mark.parametrize(
        "body",
        [b"<html>log in</html>", b"<html>", b"", b"{}", b"[]", b"5", b"null", b"Not found", b"\xff\xfe"],
    )
    def test_no_token(self, body: bytes) -> None:
        assert read(body) is None


class TestLifetime:
    @pytest.mark.parametrize("name", ["expiresIn", "expires_in", "lifetime"])
    @pytest.mark.parametrize(
        ("sent", "seconds"),
        [
            (3600, 3600),
            ("3600", 3600),
            (90.5, 90.5),
            (3_600_000, 3600),  # milliseconds
            (864_000, 864_000),
            *[(sent, 7200) for sent in (0, -5, None, "", "soon", True, [], {}, "inf", "nan", 10**400)],
        ],
    )
    def test_in_seconds_or_milliseconds(self, name: str, sent: object, seconds: float) -> None:
        assert read({"token": "abc", name: sent}) == ("abc", seconds)
        assert read({"data": {"token": "abc", name: sent}}) == ("abc", seconds)

    @pytest.mark.parametrize("name", ["expiresAt", "expires_at", "expiration", "expires", "exp"])
    @pytest.mark.parametrize(
        ("sent", "seconds"),
        [
            (EPOCH + 600, 600),
            (str(EPOCH + 600), 600),
            ((EPOCH + 600) * 1000, 600),
            ("2026-03-01T12:10:00Z", 600),
            ("2026-03-01T13:10:00+01:00", 600),
            ("2026-03-01T12:10:00", 600),
            (600, 600),
            (EPOCH - 5, 7200),
            ("2026-03-01T11:00:00Z", 7200),
            ("tomorrow", 7200),
        ],
    )
    def test_until_a_moment(self, name: str, sent: object, seconds: float) -> None:
        assert read({"token": "abc", name: sent}) == ("abc", pytest.approx(seconds))

    @pytest.mark.parametrize(
        ("claims", "seconds"),
        [
            ({"exp": EPOCH + 900}, 900),
            ({"exp": 5_000, "iat": 1_400}, 3600),  # whatever the clocks say
            ({"exp": EPOCH - 1}, 7200),
            *[({"exp": exp}, 7200) for exp in (None, "soon", [], 10**400)],
            ({"iat": 5}, 7200),
            ({"exp": EPOCH + 900, "iat": "x"}, 7200),
            ([], 7200),
            ("text", 7200),
        ],
    )
    def test_of_a_jwt(self, claims: object, seconds: float) -> None:
        assert read(jwt(claims).encode()) == (jwt(claims), seconds)

    @pytest.mark.parametrize("token", ["a.b", "a.b.c.d", "..", "a.!!!.c", "a.e30.c", "a.aaaaa.c"])
    def test_of_what_is_no_jwt(self, token: str) -> None:
        assert read({"token": token}) == (token, 7200)

    def test_the_key_counts_before_the_reply_before_the_jwt(self) -> None:
        token = jwt({"exp": EPOCH + 900})
        assert read({"token": token, "expiresIn": 300}) == (token, 300)
        assert read({"token": token, "expiresIn": 300}, lifetime_seconds=60) == (token, 60)
        assert read({"token": token, "expiresIn": "soon"}) == (token, 900)


@given(
    st.fixed_dictionaries({"token": st.text() | JSON, "expiresIn": JSON, "expiresAt": JSON}) | JSON,
    st.none() | st.just("data.token"),
)
def test_any_json_is_a_token_and_a_lifetime_or_none(payload: object, field: str | None) -> None:
    found = read(payload, field=field)
    if found is not None:
        token, seconds = found
        assert token.isascii()
        assert token.isprintable()
        assert " " not in token
        assert 0 < seconds < float("inf")


@given(JSON)
def test_any_claims_give_a_lifetime(claims: object) -> None:
    found = read({"token": jwt(claims)})
    assert found is not None
    assert 0 < found[1] < float("inf")
