"""The vocabulary of the log: the name of every event, and `log`, which logs them.

A log line is an event with fields, never a sentence: `log.info(Event.UPLOADED, job=…, bytes=…)`.
docs/events.md explains each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Literal


class Event(StrEnum):
    """Every event there is. The value is the `event` field of the log line."""

    # the daemon
    STARTED = "started"
    STOPPING = "stopping"
    STOPPED = "stopped"
    THREAD_DIED = "thread_died"
    INTERNAL_ERROR = "internal_error"
    RECOVERED = "recovered"
    FOLDERS_APART = "folders_apart"
    STALLED = "stalled"
    STALL_RESOLVED = "stall_resolved"
    RELOADING = "reloading"
    RELOADED = "reloaded"
    RELOAD_REFUSED = "reload_refused"
    RELOAD_FAILED = "reload_failed"
    FOLDERS_UNAVAILABLE = "folders_unavailable"
    FOLDERS_AVAILABLE = "folders_available"
    JOURNAL_MIGRATED = "journal_migrated"
    LOG_LINES_DROPPED = "log_lines_dropped"
    # the inbox
    WATCHING = "watching"
    WATCH_LIMIT = "watch_limit"
    WATCH_MISSED = "watch_missed"
    WATCH_OVERFLOWED = "watch_overflowed"
    INBOX_UNAVAILABLE = "inbox_unavailable"
    INBOX_AVAILABLE = "inbox_available"
    INBOX_SKIPPED = "inbox_skipped"
    INBOX_UNFINISHED = "inbox_unfinished"
    INBOX_UNREADABLE = "inbox_unreadable"
    INBOX_OCCUPIED = "inbox_occupied"
    CLAIM_FAILED = "claim_failed"
    # one recording
    CLAIMED = "claimed"
    RETURNED = "returned_to_inbox"
    IDENTIFIED = "identified"
    DUPLICATE = "duplicate"
    DUPLICATE_SKIPPED = "duplicate_skipped"
    PREPARED = "prepared"
    PREPARATION_FAILED = "preparation_failed"
    TRUNCATED_SENT = "truncated_sent"
    UPLOAD_HELD = "upload_held"
    UPLOAD_STARTED = "upload_started"
    UPLOAD_UNCERTAIN = "upload_uncertain"
    UPLOAD_DISCARDED = "upload_discarded"
    RECORDING_CHANGED = "recording_changed"
    RECORDING_DOUBTFUL = "recording_doubtful"
    RECORDING_OPEN = "recording_open"
    UPLOADED = "uploaded"
    PENDING = "pending"
    REQUEST_UNKNOWN = "request_unknown"
    REPLY_REPAIRED = "reply_repaired"
    TRANSCRIBED = "transcribed"
    TRANSCRIPT_SUSPECT = "transcript_suspect"
    TRANSCRIPT_UNCHECKED = "transcript_unchecked"
    DELIVERED = "delivered"
    DONE = "done"
    FAILING = "failing"
    FAILED = "failed"
    VANISHED = "vanished"
    STEP_RETRY = "step_retry"
    STEP_STALE = "step_stale"
    STEP_CRASHED = "step_crashed"
    # targets
    DELIVERY_SENT = "delivery_sent"
    DELIVERY_FAILED = "delivery_failed"
    DELIVERIES_GIVEN_UP = "deliveries_given_up"
    ORDER_DISCARDED = "order_discarded"
    TARGET_UNAVAILABLE = "target_unavailable"
    TARGET_AVAILABLE = "target_available"
    # what is old
    RETENTION_KEPT = "retention_kept"
    RETENTION_PAUSED = "retention_paused"
    RETENTION_REFUSED = "retention_refused"
    # the API
    API_CALLED = "api_called"
    TOKEN_REFRESHED = "token_refreshed"  # noqa: S105 - the name of an event
    API_REFUSED = "api_refused"
    API_STATUS_UNKNOWN = "api_status_unknown"
    BREAKER_OPENED = "breaker_opened"
    BREAKER_STILL_OPEN = "breaker_still_open"
    BREAKER_CLOSED = "breaker_closed"
    STORAGE_ERROR = "storage_error"
    STORAGE_RECOVERED = "storage_recovered"
    TEMPLATE_ERROR = "template_error"
    # the page
    PAGE_LISTENING = "page_listening"
    PAGE_FAILED = "page_failed"
    PAGE_ENDED = "page_ended"
    PAGE_USERS_UNAVAILABLE = "page_users_unavailable"
    PAGE_USERS_AVAILABLE = "page_users_available"
    PAGE_SIGNED_IN = "page_signed_in"
    PAGE_SIGN_IN_REFUSED = "page_sign_in_refused"
    # several hosts
    HOST_JOINED = "host_joined"
    HOST_TAKEN_OVER = "host_taken_over"
    FENCED = "fenced"
    QUEUE_ERROR = "queue_error"
    # the server
    LISTENING = "listening"
    WEBHOOK_ACCEPTED = "webhook_accepted"
    WEBHOOK_REFUSED = "webhook_refused"
    WEBHOOK_CONFLICTING = "webhook_conflicting"
    WEBHOOK_NOT_STORED = "webhook_not_stored"
    # the sandbox
    SANDBOX_ANSWERED = "sandbox_answered"


Level = Literal["debug", "info", "warning", "error"]
Fields = Mapping[str, Any]
Observer = Callable[[Event, Fields], None]
Writer = Callable[[Level, Event, Fields], None]

_LEVELS: Mapping[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """Logs events; safe for several threads. Until `write_to` is called, nothing is written.

    The front of structlog, which renders the lines: see `logs`. Here so that an event below the level costs
    nearly nothing, and a command that logs nothing does not wait for structlog's import.
    """

    def __init__(self) -> None:
        self._observer: Observer | None = None
        self._writer: Writer | None = None
        self._least = 0
        self._always: Fields = {}

    def debug(self, event: Event, **fields: Any) -> None:
        """Log a detail that helps to find a fault."""
        self._log("debug", event, fields)

    def info(self, event: Event, **fields: Any) -> None:
        """Log what goes well."""
        self._log("info", event, fields)

    def warning(self, event: Event, **fields: Any) -> None:
        """Log what may need attention, and what resolves by itself."""
        self._log("warning", event, fields)

    def error(self, event: Event, **fields: Any) -> None:
        """Log what needs attention."""
        self._log("error", event, fields)

    def subscribe(self, observer: Observer | None) -> None:
        """From now on call `observer`, and no other, with every event and its fields, whatever is written.

        It is called in the thread where the event arises, before anything is redacted: it must be quick, and
        must neither raise nor keep the fields.
        """
        self._observer = observer

    def write_to(self, writer: Writer | None, least: Level = "debug") -> None:
        """From now on have `writer`, and no other, write each event of level `least` and above."""
        self._writer, self._least = writer, _LEVELS[least]

    def name_host(self, host: str | None) -> None:
        """From now on begin the fields of each line with this host's name, if it is one of several."""
        self._always = {} if host is None else {"host": host}

    def _log(self, level: Level, event: Event, fields: Fields) -> None:
        if self._observer is not None:
            self._observer(event, fields)
        if self._writer is not None and _LEVELS[level] >= self._least:
            self._writer(level, event, {**self._always, **fields} if self._always else fields)


log = Log()
