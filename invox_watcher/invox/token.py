"""The access token: cached, and refreshed by one thread at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from invox_watcher.heartbeat import beat

_DEFAULT_LIFETIME_SECONDS = 7200.0


@dataclass(frozen=True)
class Token:
    value: str = field(repr=False)
    refresh_at: float  # on the monotonic clock


class TokenCache:
    """The current token. If several threads need a new one, one of them fetches it and all share the
    outcome, a token or an error.
    """

    def __init__(
        self, fetch: Callable[[], Token], clock: Callable[[], float], patience_seconds: float
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
        """A token other than `refused`: the current one, if another thread has fetched it in the meantime."""
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
        return flight.result()

    def _land(self, flight: Future[Token]) -> None:
        token, failure = None, None
        try:
            token = self._fetch()
        except BaseException as error:  # whatever it is, the waiting threads must get it
            failure = error
            raise
        finally:
            with self._lock:
                self._token, self._flight = token, None
            if token is not None:
                flight.set_result(token)
            else:
                flight.set_exception(failure)


def lifetime_seconds(payload: dict[str, Any]) -> float:
    named = next((payload[name] for name in ("expiresIn", "expires_in") if name in payload), None)
    if isinstance(named, bool):
        return _DEFAULT_LIFETIME_SECONDS
    try:
        seconds = float(named)  # type: ignore[arg-type]  # the TypeError is handled
    except (TypeError, ValueError, OverflowError):
        return _DEFAULT_LIFETIME_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else _DEFAULT_LIFETIME_SECONDS
