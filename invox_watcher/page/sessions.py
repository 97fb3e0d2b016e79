"""Sessions: who signed in with a password, until when. In memory, so that none survives a restart."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from invox_watcher.accounts import User

_MAX_OF_USER = 20
_MAX_OF_ALL = 10_000


@dataclass(eq=False)
class Session:
    """One browser in which a user has signed in."""

    user: User  # as the users file said then
    began: float
    used: float
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def form_token(self) -> str:
        """What forms of this session carry."""
        return hmac.digest(self.key, b"form", "sha256").hex()


class Sessions:
    """All sessions; of their ids only hashes are kept. Safe for several threads."""

    def __init__(
        self, lifetime_seconds: float, idle_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lifetime_seconds, self._idle_seconds, self._clock = lifetime_seconds, idle_seconds, clock
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}  # the oldest first

    def begin(self, user: User) -> str:
        """Begin a session; its id, of 256 random bits."""
        identifier, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._forget_ended()
            own = [key for key, session in self._sessions.items() if session.user.name == user.name]
            for key in own[: max(len(own) - _MAX_OF_USER + 1, 0)]:
                del self._sessions[key]
            while len(self._sessions) >= _MAX_OF_ALL:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_hashed(identifier)] = Session(user, now, now)
        return identifier

    def get(self, identifier: str, *, is_activity: bool) -> Session | None:
        """The session with this id, unless it has ended; `is_activity` keeps it from ending for idleness."""
        with self._lock:
            session = self._sessions.get(_hashed(identifier))
            if session is None or self._has_ended(session):
                return None
            if is_activity:
                session.used = self._clock()
            return session

    def is_open(self, session: Session) -> bool:
        """Whether it has not ended."""
        with self._lock:
            return session in self._sessions.values() and not self._has_ended(session)

    def end(self, session: Session) -> None:
        """End it."""
        with self._lock:
            self._sessions = {key: one for key, one in self._sessions.items() if one is not session}

    def _forget_ended(self) -> None:
        self._sessions = {key: one for key, one in self._sessions.items() if not self._has_ended(one)}

    def _has_ended(self, session: Session) -> bool:
        now = self._clock()
        return now - session.began > self._lifetime_seconds or now - session.used > self._idle_seconds


def _hashed(identifier: str) -> bytes:
    return hashlib.sha256(identifier.encode("utf-8", "surrogateescape")).digest()
