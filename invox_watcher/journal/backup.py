"""A backup of the state directory, also while a daemon uses it: one file, whole or not there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

from invox_watcher.files import INSTANCE_FILE, NAMES_KEY_FILE, fsync_folder
from invox_watcher.journal import audit, sqlite
from invox_watcher.journal.integrity import CHECK, require_ok

# What is left out, the next start finds out again: mounts, and since when incomplete files are unchanged.
_BESIDE = (audit.FILENAME, NAMES_KEY_FILE, INSTANCE_FILE)
_BLOCK_BYTES = 1 << 16


def write_backup(directory: Path, file: Path, *, journal: bool = True) -> tuple[str, ...]:
    """Replace `file` by a tar archive of what a restore needs of the state `directory`; the names in it.

    Without `journal`, that is not there, but in a database.

    The journal in it is as it was at one moment, and checked. The audit log is copied after it, and has at
    least every step of that journal. Only the owner may read the archive: it holds what was dictated.

    Raises:
        JournalError: there is no journal, it can't be read, or it is damaged. `file` is as before.
        OSError: the archive can't be written. `file` is as before.
    """
    if journal:
        sqlite.require_file(directory / sqlite.FILENAME)
    workshop = file.with_name(f".{file.name}.unfinished")
    if workshop.is_dir():  # of a backup that was killed
        shutil.rmtree(workshop)
    workshop.mkdir(0o700)
    try:
        copies, archive = [], workshop / "archive"
        if journal:
            copies.append(workshop / sqlite.FILENAME)
            _copy_journal(directory / sqlite.FILENAME, copies[0])
        with open(archive, "xb", opener=_only_for_the_owner) as target:
            with tarfile.open(fileobj=target, mode="w") as tar:
                names = [name for name in _BESIDE if (directory / name).is_file()]
                for path in (*copies, *(directory / name for name in names)):
                    _add(tar, path)
            target.flush()
            os.fsync(target.fileno())
        os.replace(archive, file)
        fsync_folder(file.parent)
    finally:
        shutil.rmtree(workshop)
    return (*(copy.name for copy in copies), *names)


def _copy_journal(journal: Path, copy: Path) -> None:
    try:
        sqlite.copy_durably(journal, copy)
        with closing(sqlite.connect_reader(copy)) as connection:
            if connection.execute("PRAGMA user_version").fetchall() == [(0,)]:  # it is just being created
                raise sqlite.missing(journal)
            require_ok(connection.execute(CHECK).fetchall(), journal)
    except sqlite3.Error as error:
        raise sqlite.unusable(journal, error) from None


def _only_for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _add(tar: tarfile.TarFile, path: Path) -> None:
    """Add one file, which may be appended to meanwhile: its whole lines of this moment."""
    with open(path, "rb") as file:
        entry = tar.gettarinfo(arcname=path.name, fileobj=file)
        entry.mode = 0o600
        if path.name == audit.FILENAME:
            entry.size = _end_of_last_line(path, entry.size)
        tar.addfile(entry, file)


def _end_of_last_line(path: Path, size: int) -> int:
    with open(path, "rb") as file:
        while size > 0:
            start = max(0, size - _BLOCK_BYTES)
            file.seek(start)
            newline = file.read(size - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            size = start
    return 0
