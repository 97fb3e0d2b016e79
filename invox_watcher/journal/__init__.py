"""The durable journal of all recordings, and the audit log beside it."""

from __future__ import annotations

from invox_watcher.journal.audit import FILENAME as AUDIT_FILENAME
from invox_watcher.journal.audit import AuditLog
from invox_watcher.journal.backend import Server
from invox_watcher.journal.backup import write_backup
from invox_watcher.journal.copying import Copied, copy_journal
from invox_watcher.journal.database import NameReservedError
from invox_watcher.journal.deliveries import Deliveries, QueuedDelivery, Receipt, TargetBacklog
from invox_watcher.journal.finished import UNCONFIRMED_CLOCK, Finished
from invox_watcher.journal.fleet import Fleet, Host, Place, identity_in
from invox_watcher.journal.history import HistoryEntry
from invox_watcher.journal.journal import Journal
from invox_watcher.journal.moving import moved, require_copied
from invox_watcher.journal.notices import StoredNotice
from invox_watcher.journal.processing_times import MOST_TIMES, ProcessingTime
from invox_watcher.journal.search import Found, Search, Wanted
from invox_watcher.journal.spending import MinutesUsedUpError, releasing, reserving
from invox_watcher.journal.sqlite import FILENAME, SQLITE_VERSION
from invox_watcher.journal.tables import DeliveryState

__all__ = [
    "AUDIT_FILENAME",
    "FILENAME",
    "MOST_TIMES",
    "SQLITE_VERSION",
    "UNCONFIRMED_CLOCK",
    "AuditLog",
    "Copied",
    "Deliveries",
    "DeliveryState",
    "Finished",
    "Fleet",
    "Found",
    "HistoryEntry",
    "Host",
    "Journal",
    "MinutesUsedUpError",
    "NameReservedError",
    "Place",
    "ProcessingTime",
    "QueuedDelivery",
    "Receipt",
    "Search",
    "Server",
    "StoredNotice",
    "TargetBacklog",
    "Wanted",
    "copy_journal",
    "identity_in",
    "moved",
    "releasing",
    "require_copied",
    "reserving",
    "write_backup",
]
