"""Decides between watching and polling: by file system, on failure, and if a watch misses events."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection
from typing import Literal

from invox_watcher.errors import InvoxError
from invox_watcher.events import Event, log
from invox_watcher.host import Place
from invox_watcher.inbox.inotify import Hint, Notifier

Mode = Literal["auto", "native", "polling"]

# How long the event for a new file may lag behind the rescan that found it.
_GRACE_SECONDS = 1.0
_MISSES_ALLOWED = 3


class Watch:
    """The watch over the inbox: `native` if the kernel's events are used, else the inbox is polled."""

    def __init__(
        self, *, mode: Mode, recursive: bool, put: Callable[[Hint], None], on_overflow: Callable[[], None]
    ) -> None:
        self._mode = mode
        self._recursive = recursive
        self._put = put
        self._on_overflow = on_overflow
        self._place: Place | None = None
        self._notifier: Notifier | None = None
        self._unreliable = False
        self._misses = 0
        self._heard = False
        self._suspects: set[str] = set()
        self._silence_expected = True
        self.verdict_due: float | None = None  # when to call `judge_silence`

    @property
    def native(self) -> bool:
        """True while events are used."""
        return self._notifier is not None

    def sees_every_writer(self, device: int) -> bool:
        """Whether this kernel knows every process that writes to files on `device`: then leases are reliable.

        False on a network or FUSE mount, with `polling`, and after events were missed.
        """
        place = self._place
        if place is None or self._unreliable or self._mode == "polling":
            return False
        return device == place.device and not place.mount.remote

    def follow(self, root: str, place: Place) -> bool:
        """Make sure that the folder at `place` is watched; True if the watch was set up or set up again.

        Raises:
            FileNotFoundError: the folder does not exist.
            InvoxError: `watch_died`, if a thread of the watch has died.
        """
        state = self._notifier.state() if self._notifier is not None else "alive"
        if self._place == place and state == "alive":
            return False
        if self._place == place and state == "died":
            raise InvoxError(
                "The thread that watches the inbox has died.",
                code="watch_died",
                hint="Restart the daemon. If it happens again, set watch.mode: polling.",
            )
        self.close()
        if not self._unreliable and (
            self._mode == "native" or (self._mode == "auto" and not place.mount.remote)
        ):
            self._notifier = self._start(root)
        self._place = place
        self._log_watching(place)
        return True

    def close(self) -> None:
        """Stop watching; `follow` starts again."""
        if self._notifier is not None:
            self._notifier.close()
        self._notifier = None
        self._place = None
        self._suspects = set()
        self.verdict_due = None
        self._silence_expected = True

    def expect_silence(self) -> None:
        """Events were probably lost in a burst: don't judge the watch by the next rescan."""
        self._silence_expected = True

    def hear(self, hint: Hint) -> None:
        """Record an event for a file, or for a folder with everything in it."""
        self._heard = True
        if hint.folder:
            self._suspects = {path for path in self._suspects if not path.startswith(hint.path + "/")}
        else:
            self._suspects.discard(hint.path)

    def rescanned(self, new: Collection[str], now: float) -> None:
        """Record the `new` files of a full scan: unless events for them follow, the watch missed them."""
        if self._silence_expected or not self.native:
            self._silence_expected = False
            return
        if new:
            self._suspects.update(new)
            self.verdict_due = now + _GRACE_SECONDS
        elif self.verdict_due is None:
            self._acquit()

    def judge_silence(self, now: float) -> None:
        """After the grace period: log missed events, and start polling if it has happened repeatedly."""
        if self.verdict_due is None or now < self.verdict_due:
            return
        self.verdict_due = None
        if not self._suspects:
            self._acquit()
            return
        self._misses += 1
        log.warning(Event.WATCH_MISSED, count=len(self._suspects), rescans=self._misses)
        self._suspects, self._heard = set(), False
        if self._misses >= _MISSES_ALLOWED and self._place is not None:
            place = self._place
            self.close()
            self._unreliable, self._place = True, place
            self._log_watching(place, reason="events were missed repeatedly")

    def _acquit(self) -> None:
        # Only a watch that has delivered an event since is known to work.
        if self._heard:
            self._misses, self._heard = 0, False

    def _start(self, root: str) -> Notifier | None:
        try:
            return Notifier(
                os.path.realpath(root),
                recursive=self._recursive,
                put=self._put,
                on_overflow=self._on_overflow,
            )
        except (FileNotFoundError, NotADirectoryError):
            raise
        except OSError as error:
            log.warning(
                Event.WATCH_LIMIT,
                code=errno.errorcode.get(error.errno or 0, "unknown"),
                reason=os.strerror(error.errno or 0),
                hint="The inbox is polled instead. Raise fs.inotify.max_user_watches or max_user_instances"
                " with sysctl.",
            )
            return None

    def _log_watching(self, place: Place, reason: str | None = None) -> None:
        fields = {"mode": "native" if self.native else "polling", "filesystem": place.mount.type}
        if reason is None:
            log.info(Event.WATCHING, **fields)
        else:
            log.warning(Event.WATCHING, **fields, reason=reason)
