"""`python -m invox_watcher.page CONFIGURATION`: how the daemon starts the page. It ends with its input."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from invox_watcher.config import load
from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.events import Event, log
from invox_watcher.logs import where
from invox_watcher.page.serve import leave, serve


def main(path: Path) -> int:
    """Show the page; its exit status. Errors are logged, as the daemon's are."""
    try:
        return serve(partial(load, path, credentials=False), ends_with_input=True)
    except InvoxError as error:
        log.error(Event.PAGE_FAILED, code=error.code, error=error.message, hint=error.hint)
        return error.exit_status
    except Exception as error:  # noqa: BLE001 - its text may quote a name
        log.error(Event.INTERNAL_ERROR, thread="page", error=where(error))
        return ExitStatus.SOFTWARE


if __name__ == "__main__":
    leave(main(Path(sys.argv[1])))
