"""Has everything imported and forks one daemon per line of its input, killing it at a chosen step.

Each line is `{"config": …, "kill_at": n, "log": …}`; the answer is the child's wait status as one line. A
child counts the moments before and after every call that changes something outside of it, and at the nth it
kills itself with SIGKILL: the moments lie between every two steps of a recording's way.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from invox_watcher import cli, daemon, files  # noqa: F401 - `daemon` is what a fork must not import again
from invox_watcher.api import InvoxApi
from invox_watcher.store import Journal

# Everything that a recording's way does to the disk, the journal or the API.
STEPS: list[tuple[Any, str]] = [
    (files, "_rename_new"),
    (files, "_make_folder"),
    (files, "_write_durably"),
    (files.os, "fsync"),
    (files.os, "rmdir"),
    (files.os, "unlink"),
    (files.Path, "mkdir"),
    (Journal, "add"),
    (Journal, "move"),
    (Journal, "identify"),
    (InvoxApi, "presign"),
    (InvoxApi, "upload"),
    (InvoxApi, "result"),
]


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _be_the_daemon(request)
        print(os.waitpid(child, 0)[1], flush=True)


def _be_the_daemon(request: dict[str, Any]) -> None:
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    moments = itertools.count(1)

    def moment() -> None:
        if next(moments) == request["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in STEPS:
        setattr(owner, name, _between(getattr(owner, name), moment))
    status = cli.main(["run", "--once", "--config", request["config"]])
    sys.stderr.flush()
    os._exit(status)


def _between(function: Callable[..., Any], moment: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def stepped(*args: Any, **kwargs: Any) -> Any:
        moment()
        result = function(*args, **kwargs)
        moment()
        return result

    return stepped


if __name__ == "__main__":
    main()
