"""Are the folders available? A share that is not mounted, or that hangs, is waited for.

As long as one is unavailable, what is not found in it says nothing about a recording.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from invox_watcher.errors import FoldersGoneError, InvoxError, Reason
from invox_watcher.events import Event, log
from invox_watcher.files.durable import replace_durably
from invox_watcher.host import Place, is_beneath, mount_of, open_root

_FILENAME = "mounts.json"
_EVERY_SECONDS = 5.0
_SILENT_SECONDS = 10.0
_TURN_SECONDS = 0.5


def check_mounted(directory: Path, folders: Iterable[Path]) -> None:
    """Refuse to start on the empty mount points of shares that the folders were on last time.

    `directory` is the state directory, where `FolderMonitor.remember` recorded that.

    Raises:
        FoldersGoneError: a share is not mounted, or doesn't answer.
    """
    file = directory / _FILENAME
    points = _remembered(file)
    for folder in map(os.path.abspath, folders):
        point = points.get(folder)
        if point is None:
            continue
        hint = f"Mount it. If the folder has moved to this disk for good, delete {file}."
        if not is_beneath(mount_of(os.path.realpath(folder)).point, point):
            raise FoldersGoneError(f"{point}, on which {folder} lies, is not mounted.", hint=hint)
        try:
            os.stat(point)
        except OSError as error:
            raise FoldersGoneError(f"{point}, on which {folder} lies: {error.strerror}", hint=hint) from None


def left_behind(directory: Path, processing: Path, job_ids: Iterable[str]) -> Path | None:
    """A folder of the last start, other than `processing`, that still holds recordings of these jobs."""
    missing = [job_id for job_id in job_ids if not (processing / job_id).exists()]
    for folder in map(Path, _remembered(directory / _FILENAME)):
        if any((folder / job_id).is_dir() for job_id in missing):
            return folder
    return None


def _remembered(file: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        points: dict[str, str] = json.loads(file.read_text())
        return points
    return {}


class FolderMonitor:
    """Watches whether folders are available, each given by name, and is a gate that is closed if one isn't.

    `watch` runs in a thread of its own, the rest may be called from any.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        *,
        contested: Callable[[], InvoxError | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """The folders as they are now. `contested` checks whether another instance has begun to use one.

        Raises:
            FoldersGoneError: one is unavailable.
        """
        self._folders = {name: os.path.abspath(folder) for name, folder in folders.items()}
        self._places: dict[str, Place] = {}
        self._contested = contested
        self._clock = clock
        self._problem: InvoxError | None = None
        if (problem := self.unavailable()) is not None:
            raise problem

    def remember(self, directory: Path) -> None:
        """Record where the folders are, and on which mounts, for `check_mounted` and `left_behind`.

        Raises:
            OSError: it can't be written.
        """
        points = {folder: self._places[name].mount.point for name, folder in self._folders.items()}
        if points != _remembered(directory / _FILENAME):
            content = json.dumps(points, indent=2) + "\n"
            replace_durably(directory / _FILENAME, content.encode(), 0o600)

    def unavailable(self) -> InvoxError | None:
        """Check now: what is wrong with the first unavailable folder; None if all are available."""
        for name, folder in self._folders.items():
            try:
                descriptor, self._places[name] = open_root(folder, self._places.get(name))
            except OSError as error:
                return FoldersGoneError(f"{name}/ can't be reached: {os.strerror(error.errno or 0)}")
            os.close(descriptor)
        return None

    def closed(self) -> Reason | None:
        """What is unavailable by the last check of `watch`; None if nothing is. Never blocks."""
        problem = self._problem  # `watch` may change it meanwhile
        return problem.reason if problem is not None else None

    def is_contested(self) -> bool:
        """Whether another instance uses one of the folders, by the last check of `watch`. Never blocks."""
        problem = self._problem
        return problem is not None and problem.code == "folder_in_use"

    def watch(self, stop: threading.Event) -> None:
        """Check every few seconds until `stop` is set, and notice too if a check doesn't end."""
        while not stop.is_set():
            # In a thread of its own: on a share whose server hangs, a check may never return.
            check = threading.Thread(
                target=lambda: self._found(self.unavailable() or self._contested()),
                name="folders-check",
                daemon=True,
            )
            began = self._clock()
            check.start()
            while check.is_alive() and not stop.is_set():
                check.join(_TURN_SECONDS)
                if check.is_alive() and self._clock() - began >= _SILENT_SECONDS:
                    self._found(FoldersGoneError("A folder does not answer.", code="folders_silent"))
            stop.wait(_EVERY_SECONDS)

    def _found(self, problem: InvoxError | None) -> None:
        before, self._problem = self._problem, problem
        if problem is not None and (before is None or before.message != problem.message):
            log.error(Event.FOLDERS_UNAVAILABLE, code=problem.code, error=problem.message, hint=problem.hint)
        elif problem is None and before is not None:
            log.info(Event.FOLDERS_AVAILABLE)
