"""Finds what a hashed name of the log stands for: a recording of the journal, or a file in the inbox.

A hash can't be turned back, so names are hashed, with the key in the state directory, until one matches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from invox_watcher import logs
from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.files import read_names_key
from invox_watcher.job import Job
from invox_watcher.journal import Journal


class UnknownNameError(InvoxError):
    """Nothing is known by that id or name."""

    code = "unknown"
    exit_status = ExitStatus.SOME_FAILED


def is_hashed_name(text: str) -> bool:
    """Whether `text` looks like a name in the log."""
    return text.startswith(logs.NAME_PREFIX)


def matcher(hashed: str, directory: Path) -> Callable[[str], bool]:
    """A function that says whether a name has that hash. From then on, names are hashed as the daemon does.

    Raises:
        UnknownNameError: no daemon has logged a name yet.
        NotPermittedError: the key may not be read.
    """
    key = read_names_key(directory)
    if key is None:
        raise UnknownNameError(
            f"{hashed} is unknown: {directory} has no key for names.",
            hint="Run this on the machine that wrote the log, with the configuration of its daemon.",
        )
    logs.hash_names_with(key)
    wanted = hashed.lower()
    return lambda name: logs.hashed_name(name) == wanted


def job_named(hashed: str, directory: Path, journal: Journal) -> Job | None:
    """The newest job that came, or was filed, under the name with that hash; None if there is none.

    Raises:
        UnknownNameError, NotPermittedError: as `matcher`.
    """
    return journal.lookup.latest_matching(matcher(hashed, directory))


def file_named(hashed: str, directory: Path, inbox: Path) -> Path | None:
    """The file or folder in the inbox whose name has that hash; None if there is none.

    Raises:
        UnknownNameError, NotPermittedError: as `matcher`.
    """
    is_it = matcher(hashed, directory)
    for folder, inner, names in os.walk(inbox):
        for name in [*names, *inner]:
            path = Path(folder, name)
            if is_it(path.relative_to(inbox).as_posix()):
                return path
    return None


def unknown_name(hashed: str) -> UnknownNameError:
    """The error to raise if nothing has that name."""
    return UnknownNameError(
        f"No recording in the journal, and no file in the inbox, has the name {hashed}.",
        hint="Was the log written on another machine, or is the journal's entry too old (retention)?",
    )
