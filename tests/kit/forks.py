"""Commands in forks of a process that has imported everything, so that none of them is slow to start."""

from __future__ import annotations

import atexit
import faulthandler
import functools
import importlib
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

# What takes long to import, and what another user can not import if only root may read it.
PRELOADED = (
    *("encodings.idna", "encodings.utf_8_sig", "Crypto.Cipher.AES", "regex", "rich.console"),
    *("invox_watcher.cli", "invox_watcher.diagnostics.check", "invox_watcher.daemon.process"),
    *("invox_watcher.daemon.serving", "invox_watcher.net.client"),
    *("invox_watcher.cli._explain", "invox_watcher.cli._jobs", "invox_watcher.cli._retry"),
    *("invox_watcher.cli._run", "invox_watcher.cli._show"),
)


class Forks:
    """Runs commands in forks of a process that has everything imported: none of them is slow to start."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._one_at_a_time = threading.Lock()

    def run(self, arguments: Sequence[str], *, stdout: Path, stderr: Path, seconds: float) -> int:
        """The exit status of `invox-watcher` with these arguments; minus the signal that killed it.

        After `seconds` it ends with status 1 and every thread's traceback in `stderr`.
        """
        request = {"arguments": arguments, "stdout": str(stdout), "stderr": str(stderr), "seconds": seconds}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_at_a_time:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            return os.waitstatus_to_exitcode(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@functools.cache
def forks() -> Forks:
    """The one process of this test run; it ends with the run."""
    started = Forks()
    atexit.register(started.close)
    return started


def _serve() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            for number, name in ((1, "stdout"), (2, "stderr")):
                os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
            faulthandler.dump_traceback_later(request["seconds"], exit=True)
            status: object = 1
            try:
                status = sys.modules["invox_watcher.cli"].main(request["arguments"])
            except SystemExit as ended:
                status = ended.code
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status if isinstance(status, int) else 1)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    _serve()
