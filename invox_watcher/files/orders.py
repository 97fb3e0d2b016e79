"""What commands ask of the daemon, as files in its state directory: only the daemon writes to its journal."""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from invox_watcher.errors import NotPermittedError
from invox_watcher.files.durable import FILE, make_root, replace_durably
from invox_watcher.files.state_directory import object_from, unusable

_FOLDER = "orders"
_MOST_BYTES = 8 << 20


def place_order(directory: Path, order: Mapping[str, Any]) -> None:
    """Ask the daemon on this state directory to carry out `order`, now or after its next start.

    Orders are carried out in the order in which they were placed.

    Raises:
        FolderError, NotPermittedError: the state directory can't be written.
    """
    folder = directory / _FOLDER
    name = f"{time.time_ns():020}-{secrets.token_hex(4)}"
    try:
        make_root(folder, 0o700)
        replace_durably(folder / f"{name}.json", json.dumps(order).encode(), 0o600)
    except PermissionError:
        raise NotPermittedError(f"You may not write to {folder}.") from None
    except OSError as error:
        raise unusable(folder, error) from None


def placed_orders(directory: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and content of each order that was placed and is not completed.

    The content is empty if it can not be an order: not an object, not a file, or not readable.

    Raises:
        FolderError: they can't be read now.
    """
    folder = directory / _FOLDER
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise unusable(folder, error) from None
    for name in names:
        try:
            yield name, object_from(_content(folder / name))
        except OSError as error:
            raise unusable(folder, error) from None


def _content(path: Path) -> bytes:
    """What is in this file; nothing if it can't be an order."""
    try:
        descriptor = os.open(path, FILE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO):
            return b""
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return b""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(_MOST_BYTES)
    finally:
        os.close(descriptor)


def complete_order(directory: Path, name: str) -> bool:
    """Delete an order that was carried out; False if that is not possible."""
    with suppress(OSError):
        os.unlink(directory / _FOLDER / name)
        return True
    return False
