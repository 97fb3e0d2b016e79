"""`page`: the page in the foreground; `page user`: who may sign in to it."""

from __future__ import annotations

import argparse
import getpass
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from invox_watcher.cli._common import UsageError, config_of, loader_of
from invox_watcher.cli._identity import for_its_owner
from invox_watcher.config import Config
from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.logs import printable

if TYPE_CHECKING:
    from invox_watcher.page.users import User


class _NoExtraError(InvoxError):
    code = "extra_missing"
    exit_status = ExitStatus.CONFIGURATION


def page(options: argparse.Namespace) -> int:
    """Show the page, or change a user of it."""
    if options.what == "user":
        return _user(options)
    given = (options.name, options.role, options.profile, options.remove, options.no_password)
    if any(given):
        raise UsageError("These options belong to `page user NAME`.")
    load = for_its_owner(loader_of(options, credentials=False), "page")
    load()  # without the extra, this says so
    from invox_watcher.page.serve import leave, serve  # noqa: PLC0415 - an extra

    return leave(serve(load))


def _user(options: argparse.Namespace) -> int:
    if options.name is None:
        raise UsageError("Which user? Give a name: invox-watcher page user NAME")
    config = config_of(options, credentials=False)
    path = config.page.users_file
    if path is None:
        raise UsageError(
            "page.users_file is not set.",
            hint=f"Name a file in {config.source}, for example /etc/invox-watcher/users.yaml",
        )
    try:
        from invox_watcher.page import users as known  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise _NoExtraError(
            f"This needs the extra `page`: {error.name} is not installed.",
            hint="pip install 'PATH[page]', where PATH is the wheel or the clone",
        ) from None
    name = known.user_name(options.name)
    users = known.read_users(path) if path.exists() else {}
    before = users.pop(name, None)
    if not options.remove:
        user = users[name] = _changed(options, before, name)
        _warn_of_profiles(config, user.profiles)
        said = f"{printable(name)} may {', '.join(user.role_names)}{_of(user.profiles)}."
    elif before is None:
        raise UsageError(f"{path} has no user {printable(name)}.")
    else:
        said = f"{printable(name)} is removed, and signed out."
    known.write_users(path, users)
    _give_to_daemon(path, config)
    print(f"{said} Written to {path}.")
    return ExitStatus.OK


def _changed(options: argparse.Namespace, before: User | None, name: str) -> User:
    from invox_watcher.page import users as known  # noqa: PLC0415 - as above
    from invox_watcher.page.model import Role  # noqa: PLC0415

    password = before.password if before is not None else None
    if options.no_password:
        password = None
    elif before is None or not (options.role or options.profile):
        password = known.hash_of(_asked(name))
    roles = frozenset(map(Role, options.role)) | {Role.SEE} if options.role else None
    return known.changed(before, name, password=password, roles=roles, profiles=options.profile or None)


def _asked(name: str) -> str:
    """A password: typed twice without an echo, or a line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"Password for {printable(name)}: ")
    if getpass.getpass("The same again: ") != password:
        raise UsageError("These were not the same.", hint="Nothing was changed.")
    return password


def _warn_of_profiles(config: Config, profiles: frozenset[str] | None) -> None:
    known = {profile.name for profile in config.profiles} | {"default"}
    if unknown := sorted((profiles or frozenset()) - known):
        print(
            f"The configuration has no profile {printable(', '.join(unknown))}; it has "
            f"{printable(', '.join(sorted(known)))}.",
            file=sys.stderr,
        )


def _of(profiles: frozenset[str] | None) -> str:
    return "" if profiles is None else f", of {printable(', '.join(sorted(profiles)))}"


def _give_to_daemon(path: Path, config: Config) -> None:
    """What root writes must be readable by the daemon's user, who may be able to put another file there."""
    if os.geteuid() != 0:
        return
    with suppress(OSError):
        owner = os.stat(config.state.directory)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if found.st_uid == 0 and found.st_nlink == 1 and stat.S_ISREG(found.st_mode):
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        finally:
            os.close(descriptor)
