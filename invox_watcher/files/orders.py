"""What commands ask of the daemon, as files in its state directory: only the daemon writes to its journal."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from invox_watcher.errors import NotPermittedError
from invox_watcher.files.durable import make_root, replace_durably
from invox_watcher.files.state_directory import object_from, unusable

_FOLDER = "orders"


def place_order(directory: Path, name: str, order: Mapping[str, Any]) -> None:
    """Ask the daemon on this state directory to carry out `order`, now or after its next start.

    Orders are carried out in the order of their names.

    Raises:
        FolderError, NotPermittedError: the state directory can't be written.
    """
    folder = directory / _FOLDER
    try:
        make_root(folder, 0o700)
        replace_durably(folder / f"{name}.json", json.dumps(order).encode(), 0o600)
    except PermissionError:
        raise NotPermittedError(f"You may not write to {folder}.") from None
    except OSError as error:
        raise unusable(folder, error) from None


def placed_orders(directory: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and content of each order that was placed and is not completed.

    Raises:
        FolderError: they can't be read.
    """
    folder = directory / _FOLDER
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
        for name in names:
            yield name, object_from((folder / name).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise unusable(folder, error) from None


def complete_order(directory: Path, name: str) -> None:
    """Forget an order that was carried out."""
    with suppress(OSError):  # it is carried out once more after the next start, which changes nothing
        os.unlink(directory / _FOLDER / name)
