"""The users file: who may see the page, which parts of it, and the bcrypt hashes of passwords.

It is YAML, written by `invox-watcher page user NAME` and readable by a person:

    users:
      anna:
        password: $2b$12$…        # absent: only by a proxy's header
        roles: [see, listen]
        profiles: [ward3]         # absent: all

Here it is read, checked and written; the page compares passwords.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode

from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.files import replace_durably

MAX_NAME_CHARACTERS = 100
_LEAST_COST = 10
_MAX_FILE_BYTES = 4 << 20
_LOCK_SECONDS = 30.0
_HEADING = "# Written by `invox-watcher page user`, which keeps no comments.\n"
# What web servers send as a name if there is none.
_NOBODY = frozenset({"-", "(null)"})


class UsersFileError(InvoxError):
    """The users file can't be used."""

    code = "users_file"
    exit_status = ExitStatus.CONFIGURATION


class Role(StrEnum):
    """What a user may do."""

    SEE = "see"  # names and states, no words
    LISTEN = "listen"  # transcripts, documents and sound
    ACT = "act"  # retry, send again


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

    def has_less_than(self, roles: Collection[Role]) -> bool:
        """Whether someone with these roles, for all profiles, may do anything that this user may not."""
        return self.profiles is not None or not self.roles.issuperset(roles)


def same_name(name: str) -> str:
    """What two spellings of one name have in common: directories ignore case, width and inner spaces.

    As LDAP compares names (RFC 4518, 2.2 to 2.6).
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split())


def read_users(path: Path, *, may_be_empty: bool = False) -> dict[str, User]:
    """The users in the file at `path`, by name.

    An empty file has none if it `may_be_empty`; else it is refused: an editor may be about to write it.

    Raises:
        UsersFileError: it can't be read, says something that is not understood, or others may write it.
    """
    document = _document(path, _content(path))
    if document is None and may_be_empty:
        return {}
    if document is None:
        raise UsersFileError(
            f"The users file {path} is empty.", hint="`invox-watcher page user NAME` adds a user."
        )
    entries = document.get("users") if isinstance(document, dict) else None
    if not isinstance(entries, dict) or set(document) != {"users"}:
        raise _invalid(path, "must have the key `users`, with an entry for each user, and no other")
    users: dict[str, User] = {}
    names: dict[str, str] = {}
    for name, entry in entries.items():
        user = _user_of(path, name, entry)
        other = names.setdefault(same_name(user.name), user.name)
        if other != user.name or user.name in users:
            raise _invalid(path, f"has two entries for one user, {other} and {name}: case does not matter")
        users[user.name] = user
    return users


def has_comments(path: Path) -> bool:
    """Whether someone has written comments into the file.

    Raises:
        UsersFileError: it can't be read.
    """
    lines = _content(path).decode("utf-8", "replace").removeprefix(_HEADING).splitlines()
    return any(line.lstrip().startswith("#") or " #" in line for line in lines)


@contextmanager
def changing(path: Path) -> Iterator[dict[str, User]]:
    """The users in the file, none if there is no file, to be changed; written at the end.

    One process at a time does so.

    Raises:
        UsersFileError: it can't be read, or written, or another process does not finish with it.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        _lock(folder, path)
        users = read_users(path, may_be_empty=True) if path.exists() else {}
        yield users
        write_users(path, users)
    finally:
        os.close(folder)


def write_users(path: Path, users: Mapping[str, User]) -> None:
    """Replace the users file by one with these users; only its owner may read it.

    Raises:
        UsersFileError: it can't be written.
    """
    entries = {name: _entry_of(user) for name, user in sorted(users.items())}
    text = yaml.safe_dump({"users": entries}, allow_unicode=True, sort_keys=False, default_flow_style=None)
    try:
        replace_durably(path, f"{_HEADING}{text}".encode(), 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None


def named(users: Mapping[str, User], name: str) -> User | None:
    """The user of that name, in whatever spelling."""
    wanted = same_name(name)
    return next((user for user in users.values() if same_name(user.name) == wanted), None)


def user_name(text: str) -> str:
    """`text` as the name of a user.

    Raises:
        UsersFileError: no user may be called so.
    """
    name = unicodedata.normalize("NFC", text)
    if not is_user_name(name):
        raise UsersFileError(
            f"A user's name is printable text of at most {MAX_NAME_CHARACTERS} characters, and not `-` or "
            "`(null)`.",
            code="user_name",
        )
    return name


def is_user_name(name: str) -> bool:
    """Whether a user may be called so."""
    return (
        0 < len(name) <= MAX_NAME_CHARACTERS
        and name.isprintable()
        and name == name.strip()
        and not is_nobody(name)
    )


def is_nobody(name: str) -> bool:
    """Whether it is what a web server sends if it has signed no one in."""
    return not name.strip() or name.strip().casefold() in _NOBODY


def _content(path: Path) -> bytes:
    try:
        # A pipe would keep the caller waiting for its other end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            is_file = stat.S_ISREG(found.st_mode)
            content = file.read(_MAX_FILE_BYTES + 1) if is_file else b""
            around = os.stat(path.parent).st_mode
    except OSError as error:
        raise _unreadable(path, error) from None
    if not is_file or len(content) > _MAX_FILE_BYTES:
        raise _invalid(path, "is not a file of at most 4 MiB")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UsersFileError(f"Others may change the users file {path}.", hint=f"chmod 600 {path}")
    if around & stat.S_IWOTH and not around & stat.S_ISVTX:
        raise UsersFileError(
            f"Others may replace the users file {path}: anyone may write to its folder.",
            hint=f"chmod o-w {path.parent}",
        )
    return content


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice: of two entries, YAML would silently take the last."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _value in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise _TwiceError(twice[0])
        return super().construct_mapping(node, deep)


class _TwiceError(yaml.YAMLError):
    pass


def _document(path: Path, content: bytes) -> Any:
    try:
        return yaml.load(content, _Loader)  # noqa: S506 - a SafeLoader
    except _TwiceError as error:
        shown = str(error) if is_user_name(str(error)) else "?"
        raise _invalid(path, f"has the key {shown} twice") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        raise _invalid(path, "is not valid YAML") from None


def _user_of(path: Path, name: object, entry: object) -> User:
    if not isinstance(name, str) or not is_user_name(name):
        raise _invalid(
            path,
            f"has a user whose name is not printable text of at most {MAX_NAME_CHARACTERS} characters, or is "
            "`-` or `(null)`",
        )
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


def _lock(folder: int, path: Path) -> None:
    until = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < until:
        with suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)
    raise UsersFileError(
        f"Another process is changing {path}, or has locked its folder.",
        hint="Nothing was changed. Try again when it has finished.",
    )


def _unreadable(path: Path, error: OSError) -> UsersFileError:
    hint = "The daemon's user must be allowed to read it, and to enter its folder."
    if isinstance(error, FileNotFoundError):
        hint = "`invox-watcher page user NAME` creates it."
    return UsersFileError(f"The users file {path} can't be read: {error.strerror}.", hint=hint)


def _unwritable(path: Path, error: OSError) -> UsersFileError:
    return UsersFileError(
        f"The users file {path} can't be written: {error.strerror}.",
        hint="Run this as a user who may write in its folder.",
    )


def _invalid(path: Path, what: str) -> UsersFileError:
    return UsersFileError(
        f"The users file {path} {what}.",
        hint="Fix it by hand; or move it away, and `invox-watcher page user NAME` begins another one.",
    )
