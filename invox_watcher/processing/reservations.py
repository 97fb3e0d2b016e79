"""Names for a recording and its outputs: free on disk, and reserved by no other job."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from invox_watcher.errors import FolderBlockedError
from invox_watcher.files import ERROR_SUFFIX, Folders, numbered_folders, output_path, unused
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal, NameReservedError
from invox_watcher.outputs import OutputFormat

FOLDER_TRIES = 10


class Reservations:
    """Reserves names in the journal, with the state write that needs them, and releases them.

    Whether a name is free on disk is checked under the lock that its release takes. Before its release a name
    is reserved; afterwards the files that have it are on disk.
    """

    def __init__(self, folders: Folders, journal: Journal) -> None:
        self._folders = folders
        self._journal = journal
        self._lock = threading.Lock()

    def reserve_outputs(self, job: Job, formats: Sequence[OutputFormat], **changes: Any) -> Job:
        """Move `job` to `transcribed` with a name that is free in the outbox and in done/.

        Raises:
            FolderBlockedError: a file or a link stands where a folder is needed.
        """

        def free(name: str) -> bool:
            return self._folders.outputs_free(name, formats)

        return self._reserve(job, State.TRANSCRIBED, _stem, free, **changes)

    def reserve_failure(self, job: Job, **changes: Any) -> Job:
        """Move `job` to `failing` with a name that is free in failed/, for the recording and its error file.

        Raises:
            FolderBlockedError: a file or a link stands where a folder is needed.
        """
        return self._reserve(job, State.FAILING, _without_error_suffix, self._folders.failure_free, **changes)

    def release(self, job: Job, state: State, **changes: Any) -> Job:
        """Move `job` to `state`, in which it needs no reserved name."""
        with self._lock:
            return self._journal.move(job, state, **changes)

    def _reserve(
        self, job: Job, to: State, key: Callable[[str], str], free: Callable[[str], bool], **changes: Any
    ) -> Job:
        for path in itertools.islice(numbered_folders(job.path), FOLDER_TRIES):
            with contextlib.suppress(FolderBlockedError), self._lock:
                for name in unused(path, lambda name: not free(name)):
                    with contextlib.suppress(NameReservedError):
                        return self._journal.move(job, to, filed_as=name, reserve=key(name), **changes)
        raise FolderBlockedError("A file or a link stands where a folder of that name is needed.")


def _stem(name: str) -> str:
    return output_path(name, "")


def _without_error_suffix(name: str) -> str:
    """A recording may have the name of another one's error file."""
    while name.endswith(ERROR_SUFFIX):
        name = name.removesuffix(ERROR_SUFFIX)
    return f"failed:{name}"
