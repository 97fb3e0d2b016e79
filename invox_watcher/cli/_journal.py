"""`journal copy`: from the state directory to a database that several hosts share, or back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from invox_watcher.cli._common import UsageError, config_of
from invox_watcher.cli._identity import act_as_owner
from invox_watcher.config import Config, database_url, is_database_url
from invox_watcher.errors import ExitStatus
from invox_watcher.journal import Server, copy_journal
from invox_watcher.layout import database_of
from invox_watcher.logs import printable

# What stands for what the configuration names.
_DIRECTORY, _DATABASE = "state.directory", "state.url"


def journal(options: argparse.Namespace) -> ExitStatus:
    """Copy it, and say how much that was."""
    config = config_of(options, credentials=False)
    act_as_owner(config)
    source, target = (_place(text, config) for text in (options.source, options.target))
    if source == target:
        raise UsageError("--from and --to are the same place.")
    on_terminal = sys.stderr.isatty()

    def progress(table: str, rows: int) -> None:
        if on_terminal:
            print(f"\r\033[K{table}: {rows}", end="", file=sys.stderr, flush=True)

    copied = copy_journal(source, target, progress)
    if on_terminal:
        print("\r\033[K", end="", file=sys.stderr)
    width = max(len(one.table) for one in copied)
    for one in copied:
        print(f"{one.table:{width}}  {one.rows:>9}  {one.sha256}")
    print(f"{_name(source)} was copied to {_name(target)}; both have the same content.")
    return ExitStatus.OK


def _place(text: str, config: Config) -> Path | Server:
    if text == _DIRECTORY:
        return config.state.directory
    if text == _DATABASE:
        server = database_of(config)
        if server is None:
            raise UsageError("The configuration has no state.url.", hint="Give the address instead.")
        return server
    if not is_database_url(text):
        return Path(text).absolute()
    try:
        return Server(database_url(text))
    except ValueError as error:
        raise UsageError(f"The address of the database {error}.") from None


def _name(place: Path | Server) -> str:
    return place.name if isinstance(place, Server) else printable(place)
