"""May a user read a file, or work in a folder? For the process's own user the kernel decides, else the mode.

For another user, access control lists and security modules are not evaluated.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass

_ACL = "system.posix_acl_access"  # see acl(5)


@dataclass(frozen=True)
class User:
    """A user of this machine with all groups."""

    uid: int
    name: str
    groups: frozenset[int]

    @classmethod
    def current(cls) -> User:
        """The user that this process acts as."""
        uid = os.geteuid()
        return cls(uid, _name(uid), frozenset({os.getegid(), *os.getgroups()}))

    @classmethod
    def of(cls, uid: int) -> User:
        """The user with that id, whether or not it has a name."""
        if uid == os.geteuid():
            return cls.current()
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(uid, str(uid), frozenset())
        return cls(uid, entry.pw_name, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))

    def may(self, path: str | os.PathLike[str], wanted: int) -> bool:
        """Whether this user may do what `wanted` says, of os.R_OK, os.W_OK and os.X_OK.

        Raises:
            OSError: this process can't examine it.
        """
        found = os.stat(path)
        if self.uid == os.geteuid():
            return os.access(path, wanted, effective_ids=True)
        if self.uid == 0:
            return True
        shift = 6 if found.st_uid == self.uid else 3 if found.st_gid in self.groups else 0
        return (stat.S_IMODE(found.st_mode) >> shift) & wanted == wanted or has_acl(path)

    def may_take_from(self, folder: str | os.PathLike[str], owner: int) -> bool:
        """Whether this user may move a file of `owner` out of `folder`.

        In a sticky folder, such as /tmp, only if the file or the folder is the user's own; see inode(7).

        Raises:
            OSError: this process can't examine it.
        """
        found = os.stat(folder)
        sticky = found.st_mode & stat.S_ISVTX and self.uid not in (0, owner, found.st_uid)
        return not sticky and self.may(folder, os.W_OK | os.X_OK)


def has_acl(path: str | os.PathLike[str]) -> bool:
    """Whether `path` has an access control list besides its mode."""
    try:
        return _ACL in os.listxattr(path)
    except OSError:
        return False


def owner_of(path: str | os.PathLike[str]) -> str:
    """`invox:clinic rw-r-----`: owner, group and mode, for a person.

    Raises:
        OSError: it can't be examined.
    """
    found = os.stat(path)
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    return f"{_name(found.st_uid)}:{group} {stat.filemode(found.st_mode)[1:]}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
