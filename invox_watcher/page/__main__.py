"""`python -m invox_watcher.page CONFIGURATION [LOG]`: how the daemon starts the page. It ends with its input.

LOG is the file that the daemon logs to, which need not be in the configuration.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from invox_watcher import logs
from invox_watcher.config import Config, load
from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.events import Event, log
from invox_watcher.logs import where
from invox_watcher.page.serve import leave, serve


def main(path: Path, log_file: Path | None = None) -> int:
    """Show the page; its exit status. Errors are logged, as the daemon's are."""
    logs.configure()  # until the configuration is known
    try:
        return serve(partial(_load, path, log_file), ends_with_input=True)
    except InvoxError as error:
        log.error(Event.PAGE_FAILED, code=error.code, error=error.message, hint=error.hint)
        return error.exit_status
    except Exception as error:  # noqa: BLE001 - its text may quote a name
        log.error(Event.INTERNAL_ERROR, thread="page", error=where(error))
        return ExitStatus.SOFTWARE


def _load(path: Path, log_file: Path | None) -> Config:
    config = load(path, credentials=False)
    if log_file is None:
        return config
    return config.model_copy(update={"logging": config.logging.model_copy(update={"file": log_file})})


if __name__ == "__main__":
    leave(main(*map(Path, sys.argv[1:])))
