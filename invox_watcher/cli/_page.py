"""`page`: the page in the foreground; `page user`: who may sign in to it."""

from __future__ import annotations

import argparse
import getpass
import os
import stat
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from invox_watcher import accounts
from invox_watcher.accounts import Role, User
from invox_watcher.cli._common import UsageError, config_of, loader_of
from invox_watcher.cli._identity import for_its_owner
from invox_watcher.config import Config
from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.logs import printable


class _NoExtraError(InvoxError):
    code = "extra_missing"
    exit_status = ExitStatus.CONFIGURATION


def page(options: argparse.Namespace) -> int:
    """Show the page, or change a user of it."""
    if options.what == "user":
        return _user(options)
    given = (
        options.name,
        options.role,
        options.profile,
        options.remove,
        options.no_password,
        options.all_profiles,
    )
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
    _require_agreement(options)
    name = accounts.user_name(options.name)
    before = accounts.named(accounts.read_users(path, may_be_empty=True), name) if path.exists() else None
    if options.remove and before is None:
        raise UsageError(f"{path} has no user {printable(name)}.")
    password = _hash_of_asked(name) if _asks_for_password(options, before) else None
    if path.exists() and accounts.has_comments(path):
        print(f"The comments in {path} are not kept.", file=sys.stderr)
    with accounts.changing(path) as users:
        before = accounts.named(users, name)
        if before is not None:
            del users[before.name]
        user = None if options.remove else _changed(options, before, name, password)
        if user is not None:
            users[user.name] = user
    _give_to_daemon(path, config)
    print(f"{_said(before, user, name)} Written to {path}.")
    if user is not None:
        _warn(user, config)
    return ExitStatus.OK


def _require_agreement(options: argparse.Namespace) -> None:
    given = {
        "--role": options.role,
        "--profile": options.profile,
        "--all-profiles": options.all_profiles,
        "--no-password": options.no_password,
    }
    others = [name for name, value in given.items() if value]
    for wrong, pair in (
        (options.remove and others, f"--remove and {others[0] if others else ''}"),
        (options.profile and options.all_profiles, "--profile and --all-profiles"),
    ):
        if wrong:
            raise UsageError(f"{pair} contradict each other.", hint="Nothing was changed.")


def _asks_for_password(options: argparse.Namespace, before: User | None) -> bool:
    if options.remove or options.no_password:
        return False
    return before is None or not (options.role or options.profile or options.all_profiles)


def _hash_of_asked(name: str) -> str:
    try:
        from invox_watcher.page.users import hash_of  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise _NoExtraError(
            f"This needs the extra `page`: {error.name} is not installed.",
            hint="pip install 'PATH[page]', where PATH is the wheel or the clone",
        ) from None
    return hash_of(_asked(name))


def _changed(options: argparse.Namespace, before: User | None, name: str, password: str | None) -> User:
    """The user as the options say; what they do not mention stays as it was."""
    if before is None and password is None and not options.no_password:
        raise UsageError(f"{printable(name)} was removed at the same time.", hint="Nothing was changed.")
    user = before or User(name, None, frozenset({Role.SEE}), None)
    if options.no_password or password is not None:
        user = replace(user, password=password)
    if options.role:
        user = replace(user, roles=frozenset(map(Role, options.role)) | {Role.SEE})
    if options.profile or options.all_profiles:
        user = replace(user, profiles=frozenset(options.profile) or None)
    return user


def _said(before: User | None, user: User | None, name: str) -> str:
    if user is None:
        return f"{printable(before.name if before is not None else name)} is removed, and signed out."
    said = f"{printable(user.name)} may {', '.join(user.role_names)}{_of(user.profiles)}."
    if before is not None and before.password is not None and user.password is None:
        said += " The password that there was is deleted."
    return said


def _asked(name: str) -> str:
    """A password: typed twice without an echo, or a line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass.getpass(f"Password for {printable(name)}: ")
    if getpass.getpass("The same again: ") != password:
        raise UsageError("These were not the same.", hint="Nothing was changed.")
    return password


def _warn(user: User, config: Config) -> None:
    if user.password is None and config.page.user_header is None:
        print(
            f"{printable(user.name)} can't sign in: there is no password, and page.user_header is not set.",
            file=sys.stderr,
        )
    known = {profile.name for profile in config.profiles} | {"default"}
    if unknown := sorted((user.profiles or frozenset()) - known):
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
