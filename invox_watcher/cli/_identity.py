"""Commands run as root: the files that they create must belong to the daemon's user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from contextlib import suppress

from invox_watcher.config import Config
from invox_watcher.errors import FolderError, NotPermittedError
from invox_watcher.host import User
from invox_watcher.layout import folders_of


def act_as_owner(config: Config) -> None:
    """As root, switch to the owner of the state directory, permanently.

    Raises:
        NotPermittedError: this root lacks the capability, as in some containers.
    """
    owner = _other_owner(config)
    if owner is None:
        return
    uid, gid, groups = owner.st_uid, owner.st_gid, []
    with suppress(KeyError):  # a user without a name, as in a container
        entry = pwd.getpwuid(uid)
        gid, groups = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise NotPermittedError(
            f"state.directory belongs to {User.of(uid).name}; can't switch to that user: {error.strerror}",
            hint="Run the command as that user.",
        ) from None


def require_owner(config: Config) -> None:
    """As root, don't guess the owner of a missing state directory.

    Raises:
        FolderError: it is missing, and not all the folders belong to root.
    """
    directory = config.state.directory
    if os.geteuid() != 0 or os.path.lexists(directory):
        return
    owners = set()
    for place in (config.folders.root, *folders_of(config).by_name().values()):
        with suppress(OSError):
            owners.add(os.stat(place).st_uid)
    if owners == {0}:
        return
    user = next((User.of(uid).name for uid in sorted(owners - {0})), "USER")
    raise FolderError(
        f"state.directory: {directory} does not exist, and the daemon's user could not use one owned by root",
        hint=f"Create it, owned by the daemon's user: install -d -m 700 -o {user} {directory}",
    )


def for_its_owner(load: Callable[[], Config], command: str) -> Callable[[], Config]:
    """`load` for `command`, refused for root if the state directory belongs to another user."""

    def checked() -> Config:
        config = load()
        owner = _other_owner(config)
        if owner is not None:
            user = User.of(owner.st_uid).name
            how = f"setpriv --reuid={user} --clear-groups" if user.isdigit() else f"runuser -u {user}"
            raise NotPermittedError(
                f"state.directory belongs to {user}, who could not modify files created by root.",
                hint=f"Run the command as that user: {how} -- invox-watcher {command}",
            )
        return config

    return checked


def _other_owner(config: Config) -> os.stat_result | None:
    """The state directory's stat, if this is root and it belongs to another user."""
    with suppress(OSError):  # missing or unusable, which is reported when it is used
        status = os.stat(config.state.directory)
        if os.geteuid() == 0 and status.st_uid != 0:
            return status
    return None
