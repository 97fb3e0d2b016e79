"""The demo: real speech in six formats goes through a real daemon and the stand-in API, before one's eyes.

`stage` builds the tree and starts the daemon, `live` shows what happens, `verdict` says how it ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console

from invox_watcher.demo import live, stage, verdict
from invox_watcher.errors import ExitStatus
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import SandboxSettings

# The largest recording, 4.3 MB, takes nine seconds.
_UPLOAD_BYTES_PER_SECOND = 500_000
_INTERRUPTED = 130  # as shells and the command line have it


def run_demo(folder: Path, *, webhook: bool) -> ExitStatus:
    """Run the demo in `folder`, made anew; return OK if everything ended as promised, else SOME_FAILED.

    With `webhook` the stand-in API sends the results; else the daemon asks for them.

    SIGINT, SIGTERM and SIGHUP stop daemon and sandbox and end the process, with status 130.

    Raises:
        ExtraMissingError: the `sandbox` extra is not installed.
        FolderError: `folder` holds something that no demo made, or is in use, or can't be written.
        DaemonEndedError: the daemon ended before its work was done.
    """
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    stage.require_extra()
    if stage.prepare(folder):
        console.print(f"Removed what an earlier demo left in {stage.shown(folder)}.\n")
    try:
        with _interruptible() as stop:
            return _play(console, folder, stop, webhook=webhook)
    except KeyboardInterrupt:
        console.print(f"\nStopped. What was made lies in {stage.shown(folder)}.")
        sys.stdout.flush()
        # A recognition under way can't be interrupted, and native code that is unloaded while it works
        # prints errors over the last line, or crashes.
        os._exit(_INTERRUPTED)


def _play(console: Console, folder: Path, stop: threading.Event, *, webhook: bool) -> ExitStatus:
    settings = SandboxSettings(
        data_directory=folder / "sandbox",
        recognizer="speech",
        upload_bytes_per_second=_UPLOAD_BYTES_PER_SECOND,
    )
    with tempfile.TemporaryDirectory() as workshop, Sandbox(settings) as sandbox:
        console.print("Cutting real speech into recordings of six formats …")
        exhibits = stage.make_exhibits(Path(workshop))
        stage.write_marker(folder, exhibits)
        stage.write_configuration(folder, settings, sandbox.base_url, webhook=webhook)
        with stage.running_daemon(folder) as daemon:
            console.print(
                f"A daemon (process {daemon.pid}) watches {stage.shown(folder / 'inbox')}.\n"
                f"A stand-in for the vendor's API listens on {sandbox.base_url}\n"
                f"and takes {_UPLOAD_BYTES_PER_SECOND // 1000} kB a second, slowly enough to watch.\n"
                "Dropping recordings into the inbox:\n"
            )
            jobs = live.watch(console, folder, exhibits, daemon, stop)
        calls = sandbox.stats()
    outcome = verdict.Outcome(folder, exhibits, jobs, calls, daemon.returncode, webhook=webhook)
    return verdict.report(console, outcome)


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that the daemon never outlives the demo.

    The event is set, too: an exception that is raised in a callback of a library gets lost.
    """
    stop = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
