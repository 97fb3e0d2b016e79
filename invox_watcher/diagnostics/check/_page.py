"""Checks of the page: where it listens, and its users file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from invox_watcher.accounts import Role, UsersFileError, read_users
from invox_watcher.accounts import User as Account
from invox_watcher.config import Config
from invox_watcher.diagnostics.check._addresses import address_to_listen_on, of_another
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.diagnostics.daemon_status import query_daemon
from invox_watcher.errors import ExitStatus
from invox_watcher.host import User, owner_of
from invox_watcher.layout import folders_of

_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with


def page(config: Config) -> Iterator[Finding]:
    """Can the page listen there, and does the users file say who may see it?"""
    section = config.page
    if section.listen is None:
        return
    if section.address is not None and _is_of_http(config, section.address):
        problem = f"{section.listen} is http.listen's as well ({config.http.listen})"
        yield _failed("page.listen", problem, "Choose another port for one of them.")
    elif section.address is not None:
        in_use = partial(_in_use, config, section.listen)
        yield from address_to_listen_on("page.listen", section.listen, section.address, in_use)
    if section.socket is not None:
        yield from _socket(config, section.socket)
    if config.http.listen is None:
        problem = "http.listen is null: the page can't ask the daemon why files wait, or what comes next"
        yield warning("page.listen", problem, "Set http.listen to an address, for example 127.0.0.1:8787.")
    if section.header_roles and section.user_header is None:
        problem = "it has no effect: page.user_header is not set"
        yield warning("page.header_roles", problem, "Set page.user_header, or remove it.")
    if section.users_file is not None:
        yield from _users_file(config, section.users_file)


def _is_of_http(config: Config, address: tuple[str, int]) -> bool:
    other = config.http.address
    if other is None or other[1] != address[1]:
        return False
    return other[0] == address[0] or other[0] in _EVERY_ADDRESS or address[0] in _EVERY_ADDRESS


def _in_use(config: Config, listen: str) -> Finding:
    if query_daemon(config.state.directory).daemon is None:
        return of_another("page.listen", listen)
    return Finding("page.listen", seen=f"{listen} is in use; the daemon, which is running, may show it")


def _socket(config: Config, path: Path) -> Iterator[Finding]:
    user, folder = User.current(), path.parent
    if (within := _folder_around(config, path)) is not None:
        yield _failed("page.listen", f"{path} is in folders.{within}", "Choose another folder.")
    elif not folder.is_dir():
        hint = "Create it. For systemd's unit: RuntimeDirectory=, see docs/install.md."
        yield _failed("page.listen", f"there is no folder {folder}", hint)
    elif not user.may(folder, os.W_OK | os.X_OK):
        problem = f"{user.name} may not write to {folder}, which is {owner_of(folder)}"
        yield Finding(
            "page.listen", "failed", problem, "Make the daemon's user its owner.", ExitStatus.PERMISSION
        )
    elif os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        yield _failed("page.listen", f"{path} is there, and not a socket", "Move it away, or choose another.")
    else:
        yield Finding("page.listen", seen=f"unix:{path}")


def _users_file(config: Config, path: Path) -> Iterator[Finding]:
    user, key = User.current(), "page.users_file"
    if (within := _folder_around(config, path)) is not None:
        yield _failed(
            key, f"{path} is in folders.{within}", "Choose another folder, for example /etc/invox-watcher."
        )
        return
    try:
        found = os.stat(path)
    except FileNotFoundError:
        yield warning(key, f"there is no {path}", "`invox-watcher page user NAME` creates it.")
        return
    if not user.may(path, os.R_OK):
        problem = f"{user.name} may not read {path}, which is {owner_of(path)}"
        yield Finding(key, "failed", problem, f"chown {user.name} {path}", ExitStatus.PERMISSION)
        return
    try:
        users = read_users(path)
    except UsersFileError as error:
        yield _failed(key, error.message.removesuffix("."), error.hint)
        return
    concerns = [*_of_file(config, path, found), *_of_users(config, users)]
    yield from concerns
    if not concerns:
        yield Finding(key, seen=f"{path}: {len(users)} users" if len(users) != 1 else f"{path}: 1 user")


def _of_file(config: Config, path: Path, found: os.stat_result) -> Iterator[Finding]:
    key = "page.users_file"
    if found.st_mode & stat.S_IROTH:
        problem = f"anyone on this machine can read {path} ({owner_of(path)}), which has hashes of passwords"
        yield warning(key, problem, f"chmod 600 {path}")
    trusted = {0, os.geteuid()}
    with suppress(OSError):
        trusted.add(config.state.directory.stat().st_uid)
    for place, uid in ((path, found.st_uid), (path.parent, path.parent.stat().st_uid)):
        if uid not in trusted:
            problem = f"{place} is {owner_of(place)}: that user could give anyone every right"
            yield warning(key, problem, f"Make root or the daemon's user its owner: chown root {place}")


def _of_users(config: Config, users: Mapping[str, Account]) -> Iterator[Finding]:
    key, section = "page.users_file", config.page
    profiles = {profile.name for profile in config.profiles} | {"default"}
    header_roles = [Role(role) for role in section.header_roles]
    limited = [user.name for user in users.values() if user.has_less_than(header_roles)]
    for user in users.values():
        if unknown := sorted((user.profiles or frozenset()) - profiles):
            problem = (
                f"user {user.name} has profiles that the configuration does not have: {', '.join(unknown)}"
            )
            yield warning(key, problem, f"It has {', '.join(sorted(profiles))}.")
        if user.password is None and section.user_header is None:
            problem = f"user {user.name} can't sign in: there is no password, and page.user_header is not set"
            yield warning(key, problem, f"invox-watcher page user '{user.name}'")
    if limited and header_roles and not section.header_roles_beside_limits:
        problem = f"it has no effect: the users file gives {limited[0]} less"
        hint = "Name the others in the users file, or see page.header_roles_beside_limits in docs/page.md."
        yield warning("page.header_roles", problem, hint)
    if not users and not header_roles:
        yield warning(key, "it has no users", "`invox-watcher page user NAME` adds one.")


def _folder_around(config: Config, path: Path) -> str | None:
    """The folder for recordings and transcripts in which `path` is; None if it is in none."""
    real = Path(os.path.realpath(path.parent))
    for name, folder in folders_of(config).by_name().items():
        if real.is_relative_to(os.path.realpath(folder)):
            return name
    return None


def _failed(key: str, problem: str, hint: str) -> Finding:
    return Finding(key, "failed", problem, hint, ExitStatus.CONFIGURATION)
