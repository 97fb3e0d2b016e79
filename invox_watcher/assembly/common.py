"""What most parts of one daemon are built with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from invox_watcher.config import Config
from invox_watcher.files import FolderMonitor, Folders, Occupancy
from invox_watcher.journal import AuditLog, Journal
from invox_watcher.processing import Clock, Member

if TYPE_CHECKING:
    from invox_watcher.net import HttpClient


@dataclass(frozen=True)
class Common:
    """What most parts of one daemon are built with."""

    config: Config
    folders: Folders
    occupancy: Occupancy
    folder_monitor: FolderMonitor
    audit: AuditLog
    journal: Journal
    client: HttpClient
    member: Member | None  # this host, if it is one of several
    stop: threading.Event
    clock: Clock

    def duty(self, name: str) -> Callable[[], bool]:
        """Whether this host has that duty, which one host of several has."""
        return (lambda: True) if self.member is None else partial(self.member.on_duty, name)
