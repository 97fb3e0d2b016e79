"""The folders: do they exist, may the daemon use them, is there free space, and how is the inbox watched?"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from invox_watcher.assembly import fleet_to_join, waits_of
from invox_watcher.config import Config
from invox_watcher.diagnostics.check._finding import Finding, lasting, warning
from invox_watcher.errors import ExitStatus, JournalError
from invox_watcher.files import APART_HINT, LOCK_FILE, check_mounted, folders_apart, prepare_folders
from invox_watcher.host import User, holder_of, may_lease_any_file, mount_of, owner_of
from invox_watcher.inbox import Evidence, Filter, Notifier
from invox_watcher.layout import folders_of, occupancy_of

_INOTIFY = Path("/proc/sys/fs/inotify")
_ALL = os.R_OK | os.W_OK | os.X_OK
_MOST_ENTRIES = 100_000
_LOW_BYTES, _OUT_BYTES = 1 << 30, 100 << 20
_LOW_INODES = 1000


def folders(config: Config) -> Iterator[Finding]:
    """Each of the five folders, created if it is missing; then all of them together."""
    folders = folders_of(config)
    check_mounted(config.state.directory, folders.by_name().values())
    user, unusable = User.current(), False
    for name, folder in folders.by_name().items():
        if (closed := _closed_above(folder, user)) is not None:
            problem = f"{user.name} may not enter {closed}, which is {owner_of(closed)}"
            hint = f"If only the daemon uses it: chown {user.name} {closed}. Otherwise: chmod o+x {closed}"
            yield Finding(f"folders.{name}", "failed", problem, hint, ExitStatus.CONFIGURATION)
            return
        if folder.is_dir() and not user.may(folder, _ALL):
            unusable = True
            problem = f"{user.name} may not read and write in {folder}, which is {owner_of(folder)}"
            hint = f"Make the daemon's user its owner: chown {user.name} {folder} && chmod u+rwx {folder}"
            yield Finding(f"folders.{name}", "failed", problem, hint, ExitStatus.CONFIGURATION)
    if unusable:
        return
    with suppress(JournalError):  # which `journal` has reported
        occupancy_of(config, fleet=fleet_to_join(config)).check()
    prepare_folders(folders)
    if apart := folders_apart(folders):
        problem = f"{' and '.join(apart)}: on another file system than processing"
        yield warning("folders", problem, APART_HINT)
    for name, folder in folders.by_name().items():
        yield lasting(f"folders.{name}", folder)


def _closed_above(folder: Path, user: User) -> Path | None:
    """The first parent of `folder` that `user` may not enter."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for place in reversed(folder.absolute().parents):
            if place.is_dir() and not user.may(place, os.X_OK):
                return place
    return None


# ---- what is in the inbox ----------------------------------------------------------------------------------


@dataclass
class _Inside:
    """What a walk through the inbox found."""

    folders: int = 0
    entries: int = 0
    closed_folders: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    immovable: list[Path] = field(default_factory=list)


def recordings(config: Config) -> Iterator[Finding]:
    """May the daemon take what is in the inbox, and file it under the same subfolder?"""
    user = User.current()
    inside = _walk(config, user)
    for found, what, hint in (
        (
            inside.closed_folders,
            "work in",
            "Give that user, or one of its groups, all permissions: chmod u+rwx or g+rwx.",
        ),
        (
            inside.unreadable,
            "read",
            "Give that user read permission. For new files, change the settings of the share, or"
            " the umask of the program that copies them.",
        ),
        (
            inside.immovable,
            "move",
            "Give that user write permission for the folder, and remove its sticky bit: chmod -t.",
        ),
    ):
        if found:
            yield warning("inbox", f"{user.name} may not {what} {_some(found)}", hint)
    if not (inside.closed_folders or inside.unreadable or inside.immovable):
        cut = f" (first {_MOST_ENTRIES:,} checked)" if inside.entries >= _MOST_ENTRIES else ""
        yield Finding("inbox", seen=f"{user.name} may take everything in it{cut}")


def _walk(config: Config, user: User) -> _Inside:
    inside, names, root = _Inside(), Filter(config.watch.ignore), config.folders.inbox

    def closed_to_us(error: OSError) -> None:
        if isinstance(error, PermissionError) and (here := Path(error.filename)) not in inside.closed_folders:
            inside.closed_folders.append(here)

    for current, subfolders, files in os.walk(root, onerror=closed_to_us):
        here = Path(current)
        inside.folders += 1
        relative = os.path.relpath(current, root)
        subfolders[:] = [
            name
            for name in subfolders
            if config.watch.recursive and names.why_ignored(_join(relative, name), folder=True) is None
        ]
        targets = [
            tree / relative for tree in (config.folders.outbox, config.folders.done, config.folders.failed)
        ]
        closed = [place for place in (here, *targets) if place.is_dir() and not user.may(place, _ALL)]
        inside.closed_folders += closed
        for name in files:
            inside.entries += 1
            if names.why_ignored(_join(relative, name)) is None:
                _examine(here / name, user, inside)
        if inside.entries >= _MOST_ENTRIES:
            break
    return inside


def _examine(file: Path, user: User, inside: _Inside) -> None:
    try:
        stat = os.lstat(file)
        if not user.may(file, os.R_OK):
            inside.unreadable.append(file)
        elif file.parent not in inside.closed_folders and not user.may_take_from(file.parent, stat.st_uid):
            inside.immovable.append(file)
    except (FileNotFoundError, PermissionError):
        pass  # taken meanwhile, or a broken link; or in a closed folder, which is reported itself


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _some(paths: Sequence[Path]) -> str:
    first = f"{paths[0]} ({owner_of(paths[0])})"
    return first if len(paths) == 1 else f"{first} and {len(paths) - 1} more"


# ---- watching ----------------------------------------------------------------------------------------------


def watching(config: Config, limits: Path = _INOTIFY) -> Iterator[Finding]:
    """Does watch.mode suit the file system, and do the kernel's `limits` allow it?"""
    watch, root = config.watch, config.folders.inbox
    mount = mount_of(os.path.realpath(root))
    if watch.mode == "polling" or (watch.mode == "auto" and mount.remote):
        seen = f"the inbox, on {mount.type}, is polled every {watch.polling_seconds:g} s"
        yield Finding("watch", seen=seen)
        return
    if mount.remote:
        problem = (
            f"watch.mode is native, but the inbox is on {mount.type}: files from other machines go unnoticed"
        )
        yield warning("watch", problem, "Set watch.mode to auto, which polls such file systems.")
        return
    needed, allowed = _walk(config, User.current()).folders, _limit(limits / "max_user_watches")
    if allowed is not None and needed > allowed:
        problem = f"the inbox has {needed} folders, and the kernel lets a user watch {allowed}"
        hint = f"Raise it: sysctl fs.inotify.max_user_watches={needed * 4}. Until then the inbox is polled."
        yield warning("watch", problem, hint)
    elif (refused := _refused(root, recursive=watch.recursive)) is not None:
        problem = f"the kernel refuses to watch the inbox: {refused.strerror}"
        which = {errno.EMFILE: "instances", errno.ENOSPC: "watches"}.get(refused.errno or 0)
        hint = f"Raise fs.inotify.max_user_{which} (sysctl). " if which else ""
        yield warning("watch", problem, f"{hint}Until then the inbox is polled.")
    else:
        most = "" if allowed is None else f", {needed} of at most {allowed} folders"
        yield Finding("watch", seen=f"by the kernel's events ({mount.type}{most})")


def completeness(config: Config) -> Iterator[Finding]:
    """How long must files be unchanged? It depends on what the kernel reports about their writers."""
    watch, mount = config.watch, mount_of(os.path.realpath(config.folders.inbox))
    waits = waits_of(config)
    proven, likely, unproven = (f"{waits.of(evidence):g} s" for evidence in Evidence)
    at_best = f"taken {likely} after the last change if their content is whole, else {unproven}"
    if watch.mode == "polling" or mount.remote:
        yield Finding("complete files", seen=f"on {mount.type}, polled: {at_best}")
        return
    user, daemon = User.current(), holder_of(config.state.directory / LOCK_FILE)
    if may_lease_any_file(daemon.pid if daemon else None):
        whose, others = "every user", ""
    else:
        whose, others = f"{user.name}", f"; of other users (no CAP_LEASE): {at_best}"
    seen = f"of {whose}: taken {proven} after the last change if closed and whole, {likely} if only closed"
    yield Finding("complete files", seen=seen + others)


def _limit(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _refused(root: Path, *, recursive: bool) -> OSError | None:
    try:
        notifier = Notifier(
            os.path.realpath(root), recursive=recursive, put=lambda _hint: None, on_overflow=lambda: None
        )
    except OSError as error:
        return error
    notifier.close()
    return None


# ---- space -------------------------------------------------------------------------------------------------


def space(config: Config) -> Iterator[Finding]:
    """Is there free space on each file system that is written to?"""
    written = {name: place for name, place in folders_of(config).by_name().items() if name != "inbox"}
    by_device: dict[int, list[str]] = {}
    for name, place in {**written, "state.directory": config.state.directory}.items():
        by_device.setdefault(os.stat(place).st_dev, []).append(name)
    places = {**written, "state.directory": config.state.directory}
    for names in by_device.values():
        disk = os.statvfs(places[names[0]])
        free_bytes = disk.f_bavail * disk.f_frsize
        where, free = ", ".join(names), f"{free_bytes / 1e9:.1f} GB free"
        if free_bytes < _OUT_BYTES:
            hint = "Free up space: no recording is taken while the disk is full."
            yield Finding("free space", "failed", f"{where}: only {free}", hint, ExitStatus.TRY_LATER)
        elif free_bytes < max(_LOW_BYTES, config.intake.max_size_mib << 20):
            hint = "A recording as large as intake.max_size_mib allows would hardly fit."
            yield warning("free space", f"{where}: only {free}", hint)
        elif disk.f_files and disk.f_favail < _LOW_INODES:
            yield warning("free space", f"{where}: only {disk.f_favail} inodes free", "Delete old files.")
        else:
            yield Finding("free space", seen=f"{where}: {free}")
