"""One thread that recognizes uploads one after the other, off the event loop.

A daemon thread, because a recognition under way is native code that can't be interrupted at a stop.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from invox_watcher.sandbox.ledger import Ledger, Result, Segment, Upload

Recognize = Callable[[Path, str], tuple[Segment, ...]]
"""Takes a recording's path and its content's SHA-256 in hex; raises UndecodableError."""


class UndecodableError(Exception):
    """The upload is not audio that can be decoded; the message may be shown to the client."""


class Recognition:
    """The queue of uploads waiting for `recognize`, and the thread that works it off."""

    def __init__(self, recognize: Recognize, ledger: Ledger) -> None:
        self._recognize = recognize
        self._ledger = ledger
        self._waiting: queue.SimpleQueue[tuple[str, Upload, Path, Future[None]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="sandbox-recognition", daemon=True).start()

    def submit(self, request_id: str, upload: Upload, path: Path) -> Future[None]:
        """Have this upload recognized in its turn; done once the result is in the ledger."""
        recognized: Future[None] = Future()
        self._waiting.put((request_id, upload, path, recognized))
        return recognized

    def close(self) -> None:
        """End the thread once what was submitted before is done; does not wait for it."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            request_id, upload, path, recognized = item
            if not recognized.set_running_or_notify_cancel():
                continue  # who waited for it is gone: the sandbox is stopping
            self._ledger.recognized(request_id, upload, self._result(path, upload.sha256))
            recognized.set_result(None)

    def _result(self, path: Path, sha256: str) -> Result:
        try:
            return Result(segments=self._recognize(path, sha256))
        except UndecodableError as error:
            return Result(error=str(error))
        except Exception as error:  # noqa: BLE001 - a decoder's bug is this upload's result, not the thread's end
            return Result(error=f"The recording could not be transcribed ({type(error).__name__}).")
