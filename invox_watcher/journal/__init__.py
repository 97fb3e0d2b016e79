"""The durable journal of all recordings, and the audit log beside it."""

from __future__ import annotations

from invox_watcher.journal.audit import AuditLog
from invox_watcher.journal.database import NameReservedError
from invox_watcher.journal.finished import UNCONFIRMED_CLOCK, Finished
from invox_watcher.journal.journal import HistoryEntry, Journal
from invox_watcher.journal.notices import StoredNotice
from invox_watcher.journal.spending import MinutesUsedUpError, releasing, reserving
from invox_watcher.journal.sqlite import FILENAME, SQLITE_VERSION

__all__ = [
    "FILENAME",
    "SQLITE_VERSION",
    "UNCONFIRMED_CLOCK",
    "AuditLog",
    "Finished",
    "HistoryEntry",
    "Journal",
    "MinutesUsedUpError",
    "NameReservedError",
    "StoredNotice",
    "releasing",
    "reserving",
]
