"""What a journal in a database needs is an extra, and loaded only if there is such a journal."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from invox_watcher.errors import ConfigurationError, Problem
from invox_watcher.journal.backend import Server

if TYPE_CHECKING:
    from invox_watcher.journal.postgresql import ServerBackend

_INSTALL_FLEET = (
    "pip install 'PATH[fleet]', where PATH is the wheel or the clone that invox-watcher was installed from"
)


def server_backend(server: Server, *, create: bool) -> ServerBackend:
    """The backend for that database; see there for `create`.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigurationError(
            "state.url", [Problem("", None, f"needs PostgreSQL's client: {_INSTALL_FLEET}")]
        )
    from invox_watcher.journal.postgresql import ServerBackend  # noqa: PLC0415 - a single host has no psycopg

    return ServerBackend(server, create=create)
