"""Hints from the kernel (inotify, by watchdog) that something changed in the inbox; never complete.

Events are lost if the queue overflows, and in folders that could not be watched because of the kernel's
limits. The rescan finds those files.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyObserver, InotifyWatchGroup
from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, Mask, WatchDescriptor
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
from watchdog.utils import BaseThread

# Only events that can complete a file. Without the filter our own reads would raise events (open, close); a
# file that grows is checked when it is due. "Created" covers files moved in, which are never "closed".
_EVENTS: list[type[FileSystemEvent]] = [
    *(FileClosedEvent, FileCreatedEvent, FileMovedEvent),
    *(DirCreatedEvent, DirMovedEvent),
]
# After a file was moved out, watchdog delays every later event, in case the other half of the move follows.
# Each claim moves a file out, and both halves of a move come in one read: its default of half a second would
# be the latency of the whole inbox.
InotifyMoveEventGrouper.delay = 0.002


def _forget(group: InotifyWatchGroup, wd: WatchDescriptor) -> None:
    path = group._active_callbacks_by_watch.pop(wd, None)
    if path is not None and group._active_callbacks_by_path.get(path) == wd:
        del group._active_callbacks_by_path[path]


# watchdog keeps the old path of a folder that was moved out. If another one of that name is created and
# deleted, its own removal of the first raises KeyError, in its thread or in the one that closes it.
InotifyWatchGroup._remove_watch_internally = _forget  # type: ignore[assignment,method-assign]

_STOP_SECONDS = 5.0
_NOTHING_MORE = Mask(InotifyConstants.IN_MASK_ADD | InotifyConstants.IN_DELETE_SELF)


@dataclass(frozen=True)
class Hint:
    """Something may have appeared at `path`, relative to the watched folder."""

    path: str
    folder: bool


class Notifier:
    """Watches one folder until `close`; hands hints to `put` on a thread of its own.

    `on_overflow` is called there when the kernel's queue was full, so that events are lost.

    Raises:
        OSError: the folder can't be watched; ENOSPC or EMFILE at the limits of /proc/sys/fs/inotify.
    """

    def __init__(
        self, root: str, *, recursive: bool, put: Callable[[Hint], None], on_overflow: Callable[[], None]
    ) -> None:
        # Raised for every `mkdir -p`; harmless, and it quotes the names of all folders in it.
        warnings.filterwarnings("ignore", message="Callback with id", category=RuntimeWarning)
        before = set(threading.enumerate())
        self._observer = InotifyObserver()
        try:
            self._observer.schedule(_Handler(root, put), root, recursive=recursive, event_filter=_EVENTS)
            self._observer.start()
            overflow = _Overflow(on_overflow)
            # watchdog does not notify its handlers of lost events, so this adds a callback of its own.
            self._observer._inotify_fd.add_callback(
                os.fsencode(root), _NOTHING_MORE, overflow, CallbackId(id(overflow))
            )
        except BaseException:
            self._observer.stop()
            raise
        # The reader, the emitter and the dispatcher: without any one of them no event arrives.
        self._threads = [
            thread
            for thread in threading.enumerate()
            if isinstance(thread, BaseThread) and thread not in before
        ]

    def state(self) -> Literal["alive", "ended", "died"]:
        """`ended`: stopped because the folder was deleted. `died`: a thread ended unexpectedly."""
        dead = [thread for thread in self._threads if not thread.is_alive()]
        if any(thread.should_keep_running() for thread in dead):
            return "died"
        return "ended" if dead else "alive"

    def close(self) -> None:
        """Stop watching."""
        self._observer.stop()
        with suppress(RuntimeError):  # it was never started
            self._observer.join(_STOP_SECONDS)


class _Overflow:
    """An additional inotify callback, next to watchdog's own, for overflows only."""

    def __init__(self, on_overflow: Callable[[], None]) -> None:
        self._on_overflow = on_overflow

    def on_event(self, event: InotifyEvent) -> None:
        pass

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        pass

    def on_queue_overflow(self) -> None:
        self._on_overflow()


class _Handler(FileSystemEventHandler):
    def __init__(self, root: str, put: Callable[[Hint], None]) -> None:
        self._root = root.rstrip("/") + "/"
        self._put = put

    def dispatch(self, event: FileSystemEvent) -> None:
        for path in (event.src_path, event.dest_path):
            name = os.fsdecode(path)
            if name.startswith(self._root):
                self._put(Hint(name.removeprefix(self._root), folder=event.is_directory))
