"""Access tokens: how one is bought, read from any plausible reply, and renewed by one thread for all."""

from __future__ import annotations

import base64
import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlencode

from invox_watcher.baton import waiting
from invox_watcher.heartbeat import beat

DEFAULT_LIFETIME_SECONDS = 7200.0  # the vendor's page: two hours
_TOKEN_KEYS = ("accessToken", "access_token", "token", "idToken", "id_token", "jwt")
_LIFETIME_KEYS = ("expiresIn", "expires_in", "lifetime")
_EXPIRY_KEYS = ("expiresAt", "expires_at", "expiration", "expires", "exp")
# Beyond this a lifetime is in milliseconds. If it is not, a token is only renewed too early.
_LONGEST_LIFETIME_SECONDS = 864_000
_PLACEHOLDER = re.compile(r"\{(app_id|api_key|base64)\}")
_EPOCH_MILLISECONDS = 1e11  # as seconds, the year 5138
_EPOCH_SECONDS = 1e9  # 2001; less is a lifetime


@dataclass(frozen=True)
class TokenRequest:
    """How a token is bought. Values may hold `{app_id}`, `{api_key}` and `{base64}` (of `APP_ID:API_KEY`)."""

    url: str
    method: Literal["POST", "GET"]
    headers: Mapping[str, str]
    form: Mapping[str, str] | None
    json: Any  # the body as a JSON value, instead of `form`; None for none
    field: str | None  # where the token is in the reply, as `data.access_token`; None: the usual names
    lifetime_seconds: float | None  # None: what the reply says

    def body(self, credentials: Mapping[str, str]) -> tuple[bytes | None, str | None]:
        """The body to send and its type; None for no body, which a GET never has."""
        if self.method == "GET":
            return None, None
        if self.json is not None:
            return json.dumps(filled(self.json, credentials)).encode(), "application/json"
        if self.form is not None:
            return urlencode(
                filled(dict(self.form), credentials)
            ).encode(), "application/x-www-form-urlencoded"
        return None, None


def placeholders(app_id: str, api_key: str) -> dict[str, str]:
    """What `{app_id}`, `{api_key}` and `{base64}` in the configuration stand for."""
    encoded = base64.b64encode(f"{app_id}:{api_key}".encode()).decode("ascii")
    return {"app_id": app_id, "api_key": api_key, "base64": encoded}


def filled(value: Any, credentials: Mapping[str, str]) -> Any:
    """`value`, a text or a JSON value with texts in it, with the placeholders filled in."""
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: credentials[found[1]], value)
    if isinstance(value, Mapping):
        return {key: filled(item, credentials) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [filled(item, credentials) for item in value]
    return value


def read_token(body: bytes, request: TokenRequest, *, now: datetime) -> tuple[str, float] | None:
    """Token and lifetime in seconds in a reply's body; None if there is no token. `now` is the API's time."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        payload = body.decode("utf-8", "replace").strip()
    value = _at(payload, request.field.split(".")) if request.field else _usual(payload)
    if not isinstance(value, str) or not _is_one_word(value):
        return None
    lifetime = request.lifetime_seconds or _lifetime_seconds(payload, value, now)
    return value, lifetime or DEFAULT_LIFETIME_SECONDS


def _is_one_word(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and not set(text) & set(" <>{}")


def _at(payload: object, steps: Sequence[str]) -> object:
    for step in steps:
        payload = payload.get(step) if isinstance(payload, Mapping) else None
    return payload


def _levels(payload: object) -> list[Mapping[str, Any]]:
    """The object itself and those one level down."""
    if not isinstance(payload, Mapping):
        return []
    return [payload, *(value for value in payload.values() if isinstance(value, Mapping))]


def _usual(payload: object) -> object:
    if isinstance(payload, str):
        return payload
    found = (level.get(key) for level in _levels(payload) for key in _TOKEN_KEYS)
    return next((value for value in found if isinstance(value, str) and _is_one_word(value)), None)


def _lifetime_seconds(payload: object, token: str, now: datetime) -> float | None:
    for level in _levels(payload):
        for key in (*_LIFETIME_KEYS, *_EXPIRY_KEYS):
            if (seconds := _seconds_left(level.get(key), now)) is not None:
                return seconds
    return _jwt_seconds(token, now)


def _seconds_left(value: object, now: datetime) -> float | None:
    """What a lifetime or a moment leaves from `now`: seconds, milliseconds, Unix time, RFC 3339."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            return None
        number = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if number >= _EPOCH_MILLISECONDS:
        number = number / 1000 - now.timestamp()
    elif number >= _EPOCH_SECONDS:
        number -= now.timestamp()
    elif number > _LONGEST_LIFETIME_SECONDS:
        number /= 1000
    return number if math.isfinite(number) and number > 0 else None


def _jwt_seconds(token: str, now: datetime) -> float | None:
    """What the `exp` of a JSON Web Token leaves (RFC 7519 §4.1.4); by its own `iat` if it has one."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        issued = claims.get("iat")
        began = float(issued) if issued is not None else now.timestamp()
        left = float(claims["exp"]) - began
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, OverflowError):
        return None
    return left if math.isfinite(left) and left > 0 else None


@dataclass(eq=False)
class Token:
    """A token to send, and until when it is used."""

    value: str = field(repr=False)
    refresh_at: float  # on the monotonic clock
    accepted: bool = False  # by the API, at least once: a later refusal means that it has ended


class TokenCache:
    """The current token. However many threads want another one, one of them fetches it, and all share
    the outcome, be it a token or an error.
    """

    def __init__(
        self,
        fetch: Callable[[], Token],
        *,
        clock: Callable[[], float] = time.monotonic,
        patience_seconds: float,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._flight: Future[Token] | None = None

    def get(self) -> Token:
        """The current token, or a new one if there is none or it is about to expire."""
        return self._current(refused=None)

    def instead_of(self, refused: Token) -> Token:
        """A token other than `refused`: the current one, if another thread has fetched it meanwhile."""
        return self._current(refused=refused)

    def _current(self, refused: Token | None) -> Token:
        with self._lock:
            token = self._token
            if token is not None and token is not refused and self._clock() < token.refresh_at:
                return token
            flight = self._flight
            if mine := flight is None:
                flight = self._flight = Future()
        if mine:
            self._land(flight)
        else:
            beat(self._patience_seconds)
        with waiting:
            return flight.result()

    def _land(self, flight: Future[Token]) -> None:
        token, failure = None, None
        try:
            token = self._fetch()
        except BaseException as error:  # the waiting threads must get it, whatever it is
            failure = error
            raise
        finally:
            with self._lock:
                self._token, self._flight = token, None
            if token is not None:
                flight.set_result(token)
            else:
                flight.set_exception(failure)
