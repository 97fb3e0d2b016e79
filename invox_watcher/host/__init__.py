"""This machine: mounts, users, locks, memory, systemd, addresses, and probes of a disk that may hang."""

from __future__ import annotations

from invox_watcher.host.addresses import is_loopback
from invox_watcher.host.capabilities import may_lease_any_file
from invox_watcher.host.locks import Holder, LockedFolderError, Locks, holder_of
from invox_watcher.host.memory import keep_memory_private
from invox_watcher.host.mounts import Place, is_beneath, mount_of, open_root, other_paths
from invox_watcher.host.openers import open_for_writing
from invox_watcher.host.probes import Probe
from invox_watcher.host.signals import SignalEvent
from invox_watcher.host.systemd import Notifier
from invox_watcher.host.users import User, owner_of

__all__ = [
    "Holder",
    "LockedFolderError",
    "Locks",
    "Notifier",
    "Place",
    "Probe",
    "SignalEvent",
    "User",
    "holder_of",
    "is_beneath",
    "is_loopback",
    "keep_memory_private",
    "may_lease_any_file",
    "mount_of",
    "open_for_writing",
    "open_root",
    "other_paths",
    "owner_of",
]
