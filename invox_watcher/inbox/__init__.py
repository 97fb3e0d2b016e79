"""Watches the inbox, waits until a recording is complete, and offers it. Independent of jobs."""

from __future__ import annotations

from invox_watcher.inbox.inbox import Inbox, InboxStatus
from invox_watcher.inbox.inotify import Notifier
from invox_watcher.inbox.notes import Notes
from invox_watcher.inbox.screening import Candidate, Judgement, Outcome, ScreeningRules, judge, judge_settled
from invox_watcher.inbox.stability import Evidence, Snapshot, Waits, Writer, writer_of
from invox_watcher.inbox.tree import Filter, NotAFileError, open_file, program_of

__all__ = [
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
    "Waits",
    "Writer",
    "judge",
    "judge_settled",
    "open_file",
    "program_of",
    "writer_of",
]
