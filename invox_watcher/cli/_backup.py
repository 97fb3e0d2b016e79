"""`backup`: the state directory as one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from invox_watcher.cli._common import config_of
from invox_watcher.errors import ExitStatus, NotPermittedError, StorageError
from invox_watcher.journal import write_backup
from invox_watcher.layout import database_of
from invox_watcher.logs import printable


def backup(options: argparse.Namespace) -> ExitStatus:
    """Write the backup, and say what is in it."""
    config = config_of(options, credentials=False)
    directory, server = config.state.directory, database_of(config)
    file: Path = options.file.absolute()
    try:
        names = write_backup(directory, file, journal=server is None)
        size = file.stat().st_size
    except PermissionError as error:
        raise NotPermittedError(
            f"The backup {file} can't be written: {error.strerror}.",
            hint="Name a file in a folder that this user may write to.",
        ) from None
    except OSError as error:
        raise StorageError(
            f"The backup {file} can't be written: {error.strerror}.",
            hint="Name a file, in a folder with enough space.",
        ) from None
    print(f"{printable(file)}, {size} bytes: {', '.join(names)} of {printable(directory)}")
    if server is not None:
        print(f"The journal is not in it: back up {server.name} with pg_dump.", file=sys.stderr)
    return ExitStatus.OK
