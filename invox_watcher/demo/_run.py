"""The demo: a real daemon and the simulated API transcribe real speech in six formats, shown live.

`stage` creates the folders and starts the daemon, `live` shows the progress, `verdict` the result.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rich.console import Console

from invox_watcher.demo import live, stage, verdict
from invox_watcher.demo.page import DemoPage, add_user, page_of_demo
from invox_watcher.errors import ExitStatus
from invox_watcher.host import SignalEvent
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import SandboxSettings

# The largest recording, 4.3 MB, takes nine seconds.
_UPLOAD_BYTES_PER_SECOND = 500_000
_CHECK_SECONDS = 1.0
_INTERRUPTED = 130  # 128 + SIGINT, as in shells


def run_demo(folder: Path, *, webhook: bool, stay: bool) -> ExitStatus:
    """Run the demo in `folder`, newly created; return OK if everything ended as expected, else SOME_FAILED.

    With `webhook` the simulated API sends the results; else the daemon polls for them. With `stay` the page
    can be seen until SIGINT, which then ends the demo as usual.

    SIGINT, SIGTERM and SIGHUP stop daemon and sandbox and end the process, with status 130.

    Raises:
        ExtraMissingError: the extra `sandbox` is not installed; or `page`, with `stay`.
        FolderError: `folder` contains files that no demo created, is in use, or is not writable.
        DaemonEndedError: the daemon exited before all recordings were finished.
    """
    console = Console(markup=False, highlight=False, emoji=False, soft_wrap=True)
    stage.require_extra()
    page = page_of_demo(needed=stay)
    if stage.prepare(folder):
        console.print(f"Removed the files of an earlier demo from {stage.shown(folder)}.\n")
    try:
        with _interruptible() as stop:
            return _play(console, folder, stop, page, webhook=webhook, stay=stay)
    except KeyboardInterrupt:
        console.print(f"\nStopped. The files of the demo are in {stage.shown(folder)}.")
        sys.stdout.flush()
        # A running recognition can't be interrupted; native code that is unloaded meanwhile prints errors
        # over the last line, or crashes.
        os._exit(_INTERRUPTED)


def _play(
    console: Console,
    folder: Path,
    stop: threading.Event,
    page: DemoPage | None,
    *,
    webhook: bool,
    stay: bool,
) -> ExitStatus:
    settings = SandboxSettings(
        data_directory=folder / "sandbox",
        recognizer="speech",
        upload_bytes_per_second=_UPLOAD_BYTES_PER_SECOND,
    )
    with tempfile.TemporaryDirectory() as workshop, Sandbox(settings) as sandbox:
        console.print("Preparing recordings of real speech in six formats …")
        exhibits = stage.make_exhibits(Path(workshop))
        stage.write_marker(folder, exhibits)
        section = None if page is None else page.section(folder)
        stage.write_configuration(folder, settings, sandbox.base_url, webhook=webhook, page=section)
        if page is not None:
            add_user(page, folder)
        with stage.running_daemon(folder) as daemon:
            console.print(
                f"A daemon (process {daemon.pid}) watches {stage.shown(folder / 'inbox')}.\n"
                f"A simulated API listens on {sandbox.base_url}; uploads are limited\n"
                f"to {_UPLOAD_BYTES_PER_SECOND // 1000} kB/s, so that you can watch them."
            )
            if page is not None:
                console.print(page.invitation())
            console.print("Copying recordings to the inbox:\n")
            jobs = live.watch(console, folder, exhibits, daemon, stop)
            if stay and page is not None:
                console.print(f"\n{page.invitation()}\nThe page stays until Ctrl-C.")
                _stay(folder, daemon, stop)
        calls = sandbox.stats()
    outcome = verdict.Outcome(folder, exhibits, jobs, calls, daemon.returncode, webhook=webhook)
    return verdict.report(console, outcome)


def _stay(folder: Path, daemon: subprocess.Popen[bytes], stop: threading.Event) -> None:
    """Wait for Ctrl-C, as long as the daemon runs."""
    with contextlib.suppress(KeyboardInterrupt):
        while not stop.wait(_CHECK_SECONDS):
            stage.require_running(daemon, folder)


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Have SIGTERM and SIGHUP end the block as Ctrl-C does, so that the daemon never outlives the demo.

    The event is set too, because an exception raised in a library's callback gets lost.
    """
    stop = SignalEvent()

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
