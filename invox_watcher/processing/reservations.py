"""Names for a recording and its outputs: free on disk, and reserved by no other job."""

from __future__ import annotations

import contextlib
import itertools
import threading
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from invox_watcher.errors import FolderBlockedError
from invox_watcher.files import ERROR_SUFFIX, Folders, numbered_folders, output_path, unused
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal, NameReservedError
from invox_watcher.outputs import OutputFormat

FOLDER_TRIES = 10


class Reservations:
    """Reserves names in the journal, with the state write that needs them, and releases them.

    Before its release a name is reserved; afterwards the files that have it are on disk. A name that was
    released while a job looked for one is looked at again once it is reserved for that job.
    """

    def __init__(self, folders: Folders, journal: Journal) -> None:
        self._folders = folders
        self._journal = journal
        self._lock = threading.Lock()  # guards the next one
        self._searches: dict[int, set[str]] = {}  # what was released since each search began
        self._numbers = itertools.count()

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
        if job.filed_as is not None:
            with self._lock:
                for released in self._searches.values():
                    released.add(_folded(job.filed_as))
        return self._journal.move(job, state, **changes)

    def _reserve(
        self, job: Job, to: State, key: Callable[[str], str], free: Callable[[str], bool], **changes: Any
    ) -> Job:
        with self._search() as released:
            for path in itertools.islice(numbered_folders(job.path), FOLDER_TRIES):
                with contextlib.suppress(FolderBlockedError):
                    for name in unused(path, lambda name: not free(name)):
                        with contextlib.suppress(NameReservedError):
                            job = self._journal.move(job, to, filed_as=name, reserve=key(name), **changes)
                            if _folded(name) not in released or free(name):
                                return job
        raise FolderBlockedError("A file or a link stands where a folder of that name is needed.")

    @contextlib.contextmanager
    def _search(self) -> Iterator[set[str]]:
        number, released = next(self._numbers), set[str]()
        with self._lock:
            self._searches[number] = released
        try:
            yield released
        finally:
            with self._lock:
                del self._searches[number]


def _folded(name: str) -> str:
    """The same for all names that the journal takes for one: without suffix, whatever the case."""
    while name.endswith(ERROR_SUFFIX):
        name = name.removesuffix(ERROR_SUFFIX)
    return unicodedata.normalize("NFC", _stem(name)).casefold()


def _stem(name: str) -> str:
    return output_path(name, "")


def _without_error_suffix(name: str) -> str:
    """A recording may have the name of another one's error file."""
    while name.endswith(ERROR_SUFFIX):
        name = name.removesuffix(ERROR_SUFFIX)
    return f"failed:{name}"
