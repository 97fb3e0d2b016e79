"""Where the log goes and what its lines look like: sink, redaction, a JSON and a console renderer.

What must not be logged is stopped here as well as where it arises: fields that may carry secrets or words are
redacted by name, URLs lose their query, and names of recordings are hashed unless the operator asks for them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Literal, TextIO

import structlog

from invox_watcher.events import notify

Level = Literal["debug", "info", "warning", "error"]

_FORBIDDEN = frozenset(
    {"token", "authorization", "api_key", "app_secret", "secret", "password", "presigned_url", "signature"}
    | {"text", "words", "transcript", "reply", "body", "exc_info", "stack_info"}
)
_NAMES = frozenset({"recording", "path", "name", "file"})
_URL_QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*", re.IGNORECASE)
_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_STDERR = 2
_PACKAGE = os.path.dirname(__file__) + os.sep


def configure(
    *,
    format: Literal["json", "console"] = "json",
    level: Level = "info",
    filenames: Literal["hashed", "plain"] = "hashed",
    stream: TextIO | None = None,
    file: Path | None = None,
) -> None:
    """Send all events to `file`, else to `stream` (standard error by default); silence libraries' loggers.

    `file` is appended to, and reopened by each call, so that a renamed one is released. Libraries are
    silenced because urllib3 at level debug prints presigned URLs with their signatures.

    Raises:
        OSError: `file` can't be opened. Then everything stays as it was.
    """
    if file is not None:
        _log_file.open(file)
    sink = stream or sys.stderr if file is None else _log_file
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _notify_subscriber,
        _Threshold(level),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        _Redactor(hash_names=filenames == "hashed"),
        _render_json if format == "json" else _render_console,
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(0),  # the subscriber gets what is not logged, too
        logger_factory=structlog.WriteLoggerFactory(_LossyStream(sink)),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    for library in ("urllib3", "requests", "watchdog", "uvicorn", "asyncio", "sqlalchemy"):
        logging.getLogger(library).handlers[:] = [logging.NullHandler()]
        logging.getLogger(library).propagate = False


_names_key = secrets.token_bytes(32)


def hash_names_with(key: bytes) -> None:
    """From now on names are hashed with `key`, of at most 64 bytes; before that, with one of this process."""
    global _names_key  # noqa: PLW0603 - as the logger itself, one for the process
    _names_key = key


def hashed_name(name: str) -> str:
    """A 12-digit stand-in for a recording's name, the same in every line of an installation's logs.

    Without the key, names can't be tried out on a log (RFC 7693, keyed BLAKE2b).
    """
    text = name.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, key=_names_key, digest_size=6).hexdigest()


def where(error: BaseException) -> str:
    """Type and place of an exception: its text may quote a name, an address or a word."""
    frames = traceback.extract_tb(error.__traceback__)
    at = f" at {place(frames[-1].filename, frames[-1].lineno)}" if frames else ""
    return f"{type(error).__name__}{at}"


def place(file: str, line: int | None) -> str:
    """A line of source: `processing/engine.py:12` in this package, `socket.py:12` in a library."""
    name = file.removeprefix(_PACKAGE) if is_ours(file) else os.path.basename(file)
    return f"{name}:{line}"


def is_ours(file: str) -> bool:
    """Whether a source file belongs to this package."""
    return file.startswith(_PACKAGE)


def printable(value: object) -> str:
    """`value` as one line of harmless text: no escape sequences, line breaks or direction marks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(value))


class _LossyStream:
    """A stream that loses lines rather than stop the daemon if its disk is full or its reader has ended."""

    def __init__(self, stream: TextIO | _LogFile) -> None:
        self._stream = stream
        self._cut_off = False  # the last line: the next one must not continue it

    def write(self, line: str) -> None:
        cut_off, self._cut_off = self._cut_off, False
        with self._losing():
            self._stream.write("\n" + line if cut_off else line)

    def flush(self) -> None:
        with self._losing():
            self._stream.flush()

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self._cut_off = True


class _LogFile:
    """A file that lines are appended to, each in one write.

    Once open, its descriptor is never closed, only redirected: a thread in the middle of a line would write
    the rest into whatever file got that number next.
    """

    def __init__(self) -> None:
        self._descriptor = -1

    def open(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC
        new = os.open(path, flags, 0o600)
        if self._descriptor == -1:
            self._descriptor = new
            return
        if os.path.sameopenfile(self._descriptor, _STDERR):  # as for a daemon without a terminal
            os.dup2(new, _STDERR)
        os.dup2(new, self._descriptor, inheritable=False)
        os.close(new)

    def write(self, line: str) -> None:
        content = line.encode("utf-8", "backslashreplace")
        if os.write(self._descriptor, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        """Nothing is buffered."""


_log_file = _LogFile()


def _notify_subscriber(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    notify(event["event"], event)
    return event


class _Threshold:
    def __init__(self, level: Level) -> None:
        self._least = _LEVELS[level]

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        if _LEVELS[event["level"]] < self._least:
            raise structlog.DropEvent
        return event


class _Redactor:
    def __init__(self, *, hash_names: bool) -> None:
        self._hash_names = hash_names

    def __call__(
        self, _logger: Any, _method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        for key in list(event):
            if key in _FORBIDDEN:
                event[key] = "[redacted]"
            elif self._hash_names and key in _NAMES and event[key] is not None:
                event[key] = hashed_name(str(event[key]))
            elif isinstance(event[key], str):
                event[key] = _URL_QUERY.sub(r"\1?[redacted]", event[key])
        return event


def _render_json(_logger: Any, _method: str, event: Mapping[str, Any]) -> str:
    # ASCII only: control characters, direction marks and bytes that are not UTF-8 all stay in one line.
    ordered = {key: event[key] for key in ("at", "level", "event")} | dict(event)
    return json.dumps(ordered, ensure_ascii=True, default=str)


def _render_console(_logger: Any, _method: str, event: Mapping[str, Any]) -> str:
    fields = " ".join(
        f"{key}={_quoted(value)}" for key, value in event.items() if key not in ("at", "level", "event")
    )
    return f"{event['at'][:19]}Z {event['level']:<7} {event['event']!s:<18} {fields}".rstrip()


def _quoted(value: object) -> str:
    safe = printable(value)
    return f'"{safe}"' if " " in safe else safe
