"""On whose behalf root gives a command: what it makes has to be the daemon's, which may be another user's."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from contextlib import suppress

from invox_watcher.assembly import folders_of, named_folders
from invox_watcher.config import Config
from invox_watcher.errors import FolderError, NotPermittedError
from invox_watcher.host import User


def act_as_owner(config: Config) -> None:
    """As root, be the user that the state directory belongs to, from now on and for good.

    Raises:
        NotPermittedError: this root may not.
    """
    owner = _other_owner(config)
    if owner is None:
        return
    uid, gid, groups = owner.st_uid, owner.st_gid, []
    with suppress(KeyError):  # it has no name, as in a container
        entry = pwd.getpwuid(uid)
        gid, groups = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
    try:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise NotPermittedError(
            f"state.directory belongs to {User.of(uid).name}; acting as that user: {error.strerror}",
            hint="Give the command as that user.",
        ) from None


def require_owner(config: Config) -> None:
    """As root, don't guess whose the state directory is to be.

    Raises:
        FolderError: it is missing, and nothing says that all is root's.
    """
    directory = config.state.directory
    if os.geteuid() != 0 or os.path.lexists(directory):
        return
    owners = set()
    for place in (config.folders.root, *named_folders(folders_of(config)).values()):
        with suppress(OSError):
            owners.add(os.stat(place).st_uid)
    if owners == {0}:
        return
    user = next((User.of(uid).name for uid in sorted(owners - {0})), "USER")
    raise FolderError(
        f"state.directory: there is no {directory}, and the daemon of another user could not use root's",
        hint=f"Make it for the user that the daemon runs as: install -d -m 700 -o {user} {directory}",
    )


def for_its_owner(load: Callable[[], Config], command: str) -> Callable[[], Config]:
    """`load` for `command`, which is refused to root where the state directory is another user's."""

    def checked() -> Config:
        config = load()
        owner = _other_owner(config)
        if owner is not None:
            user = User.of(owner.st_uid).name
            how = f"setpriv --reuid={user} --clear-groups" if user.isdigit() else f"runuser -u {user}"
            raise NotPermittedError(
                f"state.directory belongs to {user}, who could not change what a daemon of root's makes.",
                hint=f"Give the command as that user: {how} -- invox-watcher {command}",
            )
        return config

    return checked


def _other_owner(config: Config) -> os.stat_result | None:
    """The state directory's facts where we are root and it is another user's."""
    with suppress(OSError):  # missing, or unusable, which is told by those who use it
        facts = os.stat(config.state.directory)
        if os.geteuid() == 0 and facts.st_uid != 0:
            return facts
    return None
