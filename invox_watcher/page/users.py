"""The users of the page: the users file as it is now, and their passwords."""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import bcrypt

from invox_watcher.accounts import User, UsersFileError, read_users, same_name
from invox_watcher.events import Event, log

MAX_PASSWORD_BYTES = 72  # bcrypt reads no more
MIN_PASSWORD_CHARACTERS = 12
_COST = 12
# Of no password: checked if there is no such user, so that the answer takes as long.
_NO_HASH = b"$2b$12$ke7aJTOUpbDHw/uWp9mD2.0acROuBbnUqSZR0uv75I0NM5znZMVvS"


class Users:
    """The users file, read again whenever it has changed. Safe for several threads.

    It is logged once that it can't be used, and once that it can be again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()  # guards what follows
        self._seen: tuple[int, ...] | None = None
        self._users: Mapping[str, User] = {}  # by `same_name`
        self._fault: str | None = None

    def get(self, name: str) -> User | None:
        """The user of that name, in whatever spelling, as the file says now.

        Raises:
            UsersFileError: it can't be used.
        """
        return self.all().get(same_name(name))

    def try_out(self) -> None:
        """Read it, so that it is logged if it can't be used."""
        try:
            self.all()
        except UsersFileError:
            return

    def all(self) -> Mapping[str, User]:
        """All users, by `same_name`, as the file says now.

        Raises:
            UsersFileError: it can't be used.
        """
        with self._lock:
            try:
                seen = _identity(self._path)
                if seen is None or seen != self._seen:
                    users = read_users(self._path)
                    self._users, self._seen = {same_name(user.name): user for user in users.values()}, seen
            except UsersFileError as error:
                self._seen = None
                if error.message != self._fault:
                    self._fault = error.message
                    log.error(
                        Event.PAGE_USERS_UNAVAILABLE, code=error.code, error=error.message, hint=error.hint
                    )
                raise
            if self._fault is not None:
                self._fault = None
                log.info(Event.PAGE_USERS_AVAILABLE)
            return self._users


def hash_of(password: str) -> str:
    """The bcrypt hash of a password.

    Raises:
        UsersFileError: it is too short, or longer than bcrypt reads.
    """
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise UsersFileError(
            f"The password is too short: it needs {MIN_PASSWORD_CHARACTERS} characters.",
            code="password",
            hint="Four words at random are easy to remember.",
        )
    encoded = _encoded(password)
    if len(encoded) > MAX_PASSWORD_BYTES or b"\0" in encoded:
        raise UsersFileError(
            f"The password is longer than {MAX_PASSWORD_BYTES} bytes, or holds a NUL.",
            code="password",
            hint="bcrypt would ignore the rest. Choose a shorter one.",
        )
    return bcrypt.hashpw(encoded, bcrypt.gensalt(_COST)).decode()


def is_password_of(user: User | None, password: str) -> bool:
    """Whether it is the user's; takes as long if there is no such user, or none with a password."""
    stored = user.password if user is not None else None
    encoded = _encoded(password)
    try:
        is_right = bcrypt.checkpw(encoded[:MAX_PASSWORD_BYTES], stored.encode() if stored else _NO_HASH)
    except ValueError:  # not every text that looks like a hash is one
        return False
    return is_right and stored is not None and len(encoded) <= MAX_PASSWORD_BYTES


def _encoded(password: str) -> bytes:
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _identity(path: Path) -> tuple[int, ...] | None:
    """What tells whether file or folder has changed; None if that is not known, and `read_users` says why."""
    try:
        file, folder = os.stat(path), os.stat(path.parent)
    except OSError:
        return None
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns, folder.st_mode
