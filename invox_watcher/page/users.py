"""The users file: who may see the page, which parts of it, and the bcrypt hashes of passwords.

It is YAML, written by `invox-watcher page user NAME` and readable by a person:

    users:
      anna:
        password: $2b$12$…        # absent: only by a proxy's header
        roles: [see, listen]
        profiles: [ward3]         # absent: all
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bcrypt
import yaml

from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.files import replace_durably
from invox_watcher.page.model import Role, Sight, Viewer

MAX_PASSWORD_BYTES = 72  # bcrypt reads no more
MIN_PASSWORD_CHARACTERS = 12
MAX_NAME_CHARACTERS = 100
_COST = 12
_LEAST_COST = 10
# Of no password: checked if there is no such user, so that the answer takes as long.
_NO_HASH = b"$2b$12$ke7aJTOUpbDHw/uWp9mD2.0acROuBbnUqSZR0uv75I0NM5znZMVvS"
_MAX_FILE_BYTES = 4 << 20


class UsersFileError(InvoxError):
    """The users file can't be used."""

    code = "users_file"
    exit_status = ExitStatus.CONFIGURATION


@dataclass(frozen=True)
class User:
    """An entry of the users file."""

    name: str
    password: str | None  # its bcrypt hash; None for users who come by a proxy's header
    roles: frozenset[Role]
    profiles: frozenset[str] | None  # None: all

    @property
    def role_names(self) -> list[str]:
        """The roles, the weakest first."""
        return [str(role) for role in Role if role in self.roles]

    @property
    def viewer(self) -> Viewer:
        """What this user may see."""
        return Viewer(self.name, self.roles, Sight(self.profiles))


class Users:
    """The users file, read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._users: Mapping[str, User] = {}

    def get(self, name: str) -> User | None:
        """The user of that name, as the file says now.

        Raises:
            UsersFileError: it can't be used.
        """
        return self.all().get(unicodedata.normalize("NFC", name))

    def all(self) -> Mapping[str, User]:
        """All users by name.

        Raises:
            UsersFileError: the file can't be used.
        """
        try:
            seen = _identity(os.stat(self._path))
            if seen != self._seen:
                self._users, self._seen = read_users(self._path), seen
        except OSError as error:
            self._seen = None
            raise _unreadable(self._path, error) from None
        except UsersFileError:
            self._seen = None
            raise
        return self._users


def read_users(path: Path) -> dict[str, User]:
    """The users in the file at `path`.

    Raises:
        UsersFileError: it can't be read, says something that is not understood, or others may write it.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(found.st_mode) or len(content) > _MAX_FILE_BYTES:
        raise _invalid(path, "is not a file of at most 4 MiB")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsersFileError(f"Others may change the users file {path}.", hint=f"chmod 600 {path}")
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise _invalid(path, "is not valid YAML") from None
    entries = document.get("users") if isinstance(document, dict) else None
    if not isinstance(entries, dict) or set(document) != {"users"}:
        raise _invalid(path, "must have the key `users`, with an entry for each user, and no other")
    return {user.name: user for user in (_user_of(path, name, entry) for name, entry in entries.items())}


def write_users(path: Path, users: Mapping[str, User]) -> None:
    """Replace the users file by one with these users; only its owner may read it.

    Raises:
        UsersFileError: it can't be written.
    """
    entries = {name: _entry_of(user) for name, user in sorted(users.items())}
    text = yaml.safe_dump({"users": entries}, allow_unicode=True, sort_keys=False, default_flow_style=None)
    try:
        replace_durably(path, text.encode(), 0o600)
    except OSError as error:
        raise UsersFileError(
            f"The users file {path} can't be written: {error.strerror}.",
            hint="Run this as a user who may write in its folder.",
        ) from None


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


def _identity(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _user_of(path: Path, name: object, entry: object) -> User:
    if not isinstance(name, str) or not is_user_name(name):
        raise _invalid(path, "has a user whose name is not printable text of at most 100 characters")
    entry = {} if entry is None else entry
    if not isinstance(entry, dict) or not set(entry) <= {"password", "roles", "profiles"}:
        raise _invalid(path, f"must give user {name} `password`, `roles` and `profiles`, and nothing else")
    password = entry.get("password")
    if password is not None and not _is_hash(password):
        raise _invalid(
            path, f"has a password of user {name} that is not a bcrypt hash of cost {_LEAST_COST} or more"
        )
    try:
        roles = frozenset(Role(role) for role in _texts(entry.get("roles", [Role.SEE])))
    except ValueError:
        raise _invalid(
            path, f"must list see, listen, act, or some of them, as roles of user {name}"
        ) from None
    profiles = entry.get("profiles")
    try:
        seen = None if profiles is None else frozenset(_texts(profiles))
    except ValueError:
        raise _invalid(path, f"must list names of profiles as profiles of user {name}") from None
    return User(unicodedata.normalize("NFC", name), password, roles | {Role.SEE}, seen)


def changed(
    before: User | None,
    name: str,
    *,
    password: str | None,
    roles: frozenset[Role] | None,
    profiles: Collection[str] | None,
) -> User:
    """A user with this password, or none; what is None stays as it was, else it is `see` and all profiles."""
    before = before or User(name, None, frozenset({Role.SEE}), None)
    return replace(
        before,
        password=password,
        roles=before.roles if roles is None else roles,
        profiles=before.profiles if profiles is None else frozenset(profiles),
    )


def user_name(text: str) -> str:
    """`text` as the name of a user.

    Raises:
        UsersFileError: no user may be called so.
    """
    name = unicodedata.normalize("NFC", text)
    if not is_user_name(name):
        raise UsersFileError(
            f"A user's name is printable text of at most {MAX_NAME_CHARACTERS} characters.", code="user_name"
        )
    return name


def is_user_name(name: str) -> bool:
    """Whether a user may be called so."""
    return 0 < len(name) <= MAX_NAME_CHARACTERS and name.isprintable() and name == name.strip()


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError
    return value


def _is_hash(value: object) -> bool:
    if not isinstance(value, str) or len(value) != 60 or value[:4] not in ("$2a$", "$2b$", "$2y$"):
        return False
    return value[4:6].isdigit() and _LEAST_COST <= int(value[4:6]) <= 16


def _entry_of(user: User) -> dict[str, Any]:
    entry: dict[str, Any] = {} if user.password is None else {"password": user.password}
    entry["roles"] = user.role_names
    if user.profiles is not None:
        entry["profiles"] = sorted(user.profiles)
    return entry


def _unreadable(path: Path, error: OSError) -> UsersFileError:
    hint = "`invox-watcher page user NAME` creates it; the daemon's user must be allowed to read it."
    return UsersFileError(f"The users file {path} can't be read: {error.strerror}.", hint=hint)


def _invalid(path: Path, what: str) -> UsersFileError:
    return UsersFileError(
        f"The users file {path} {what}.",
        hint="Fix it, or write another one by `invox-watcher page user NAME`.",
    )
