"""Watches the inbox, waits until a recording is complete, and offers it. Independent of jobs."""

from __future__ import annotations

from invox_watcher.inbox.inbox import Inbox, InboxStatus
from invox_watcher.inbox.inotify import Notifier
from invox_watcher.inbox.notes import Notes
from invox_watcher.inbox.screening import (
    Candidate,
    Judgement,
    Outcome,
    ScreeningRules,
    judge,
    judge_settled,
    read_attributes,
)
from invox_watcher.inbox.stability import Evidence, Snapshot, Waits, Writer, writer_of
from invox_watcher.inbox.tree import Filter, NotAFileError, kind_of, open_file, program_of, walk
from invox_watcher.inbox.waiting import OPEN, WaitingFile

__all__ = [
    "OPEN",
    "Candidate",
    "Evidence",
    "Filter",
    "Inbox",
    "InboxStatus",
    "Judgement",
    "NotAFileError",
    "Notes",
    "Notifier",
    "Outcome",
    "ScreeningRules",
    "Snapshot",
    "WaitingFile",
    "Waits",
    "Writer",
    "judge",
    "judge_settled",
    "kind_of",
    "open_file",
    "program_of",
    "read_attributes",
    "walk",
    "writer_of",
]
