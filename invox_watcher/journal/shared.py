"""What the hosts of a fleet share besides their jobs: limits for all, leases, and what one has learned.

Each is one row that a single statement changes, so that no two hosts both have the last of something. What
a host holds is freed when another one takes it over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invox_watcher.journal.backend import Connection
    from invox_watcher.journal.postgresql import Side

TABLES = (
    # `instance`: of its state directory. `incarnation`: grows whenever it joins, or is taken over.
    "CREATE TABLE hosts (name VARCHAR NOT NULL, instance VARCHAR NOT NULL, incarnation BIGINT NOT NULL, "
    "address VARCHAR NOT NULL, release VARCHAR NOT NULL, journal_version INTEGER NOT NULL, "
    "state VARCHAR DEFAULT 'alive' NOT NULL, beats BIGINT DEFAULT 0 NOT NULL, "
    "beat_at TIMESTAMPTZ DEFAULT clock_timestamp() NOT NULL, "
    "joined_at TIMESTAMPTZ DEFAULT clock_timestamp() NOT NULL, PRIMARY KEY (name))",
    # `used`: for what (a job's id) → by which host.
    "CREATE TABLE slots (name VARCHAR NOT NULL, used JSONB DEFAULT '{}' NOT NULL, PRIMARY KEY (name))",
    "CREATE TABLE leases (name VARCHAR NOT NULL, host VARCHAR NOT NULL, PRIMARY KEY (name))",
    "CREATE TABLE known (name VARCHAR NOT NULL, value TEXT NOT NULL, host VARCHAR NOT NULL, "
    "at TIMESTAMPTZ NOT NULL, PRIMARY KEY (name))",
)
_OPEN_SLOTS = "INSERT INTO slots (name) VALUES (?) ON CONFLICT DO NOTHING"
_TAKE_SLOT = """
    UPDATE slots SET used = used || jsonb_build_object(?::text, ?::text)
    WHERE name = ? AND (jsonb_exists(used, ?) OR (SELECT count(*) FROM jsonb_object_keys(used)) < ?)"""
_FREE_SLOT = "UPDATE slots SET used = used - ?::text WHERE name = ?"
_FREE_ALL_SLOTS = """
    UPDATE slots SET used = (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(used)
    WHERE value <> to_jsonb(?::text))"""
_HOLD = """
    INSERT INTO leases (name, host) SELECT ?, name FROM hosts
    WHERE name = ? AND incarnation = ? AND state = 'alive'
    ON CONFLICT (name) DO UPDATE SET host = excluded.host WHERE leases.host = excluded.host
    OR NOT EXISTS (SELECT 1 FROM hosts WHERE hosts.name = leases.host AND hosts.state = 'alive')"""
_DROP_ALL = "DELETE FROM leases WHERE host = ?"
TELL = """
    INSERT INTO known (name, value, host, at) VALUES (?, ?, ?, clock_timestamp()) ON CONFLICT (name)
    DO UPDATE SET value = excluded.value, host = excluded.host, at = excluded.at"""
_KNOWN = "SELECT value, host, at FROM known WHERE name = ?"


@dataclass(frozen=True)
class Known:
    """What a host has told the others."""

    value: str
    host: str
    at: datetime  # by the database's clock


class Shared:
    """Safe for several threads. Raises JournalError if the database does not answer."""

    def __init__(self, side: Side) -> None:
        self._side = side

    # ---- so many at once ---------------------------------------------------------------------------------

    def take_slot(self, name: str, key: str, host: str, limit: int) -> bool:
        """Take one of `limit` slots of that name for `key`; False if there is none. Twice is once."""
        values = (key, host, name, key, limit)
        if self._side.write(_TAKE_SLOT, values):
            return True
        return self._side.write(_OPEN_SLOTS, (name,)) == 1 and self._side.write(_TAKE_SLOT, values) == 1

    def free_slot(self, name: str, key: str) -> None:
        """Give the one of `key` back."""
        self._side.write(_FREE_SLOT, (key, name))

    # ---- one at a time -----------------------------------------------------------------------------------

    def hold(self, name: str, host: str, incarnation: int) -> bool:
        """Whether this host alone has that lease, now and until it leaves or is taken over."""
        return self._side.write(_HOLD, (name, host, incarnation)) == 1

    # ---- what one has learned ----------------------------------------------------------------------------

    def tell(self, name: str, value: str, host: str) -> None:
        """Let all hosts know `value` under that name."""
        self._side.write(TELL, (name, value, host))

    def known(self, name: str) -> Known | None:
        """What was told last under that name; None if nothing was."""
        rows = self._side.read(_KNOWN, (name,))
        return Known(*rows[0]) if rows else None

    def free_all(self, connection: Connection, host: str) -> None:
        """Free all that `host` holds, in the caller's transaction."""
        connection.execute(_FREE_ALL_SLOTS, (host,))
        connection.execute(_DROP_ALL, (host,))
