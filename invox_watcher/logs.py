"""Where the log goes and what its lines look like: sink, redaction, a JSON and a console renderer.

What must not be logged is stopped here as well as where it arises: fields that may carry secrets or words are
redacted by name, URLs lose their query, and names of recordings are hashed unless the operator asks for them.
A sink that blocks, such as a pipe that no process reads, costs lines, which are counted, but never delays the
daemon.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import re
import select
import stat
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

from invox_watcher.events import Event, Fields, Level, Writer, log

_Renderer = Callable[[Mapping[str, Any]], str]

_FORBIDDEN = frozenset(
    {"token", "authorization", "api_key", "app_secret", "secret", "password", "presigned_url", "signature"}
    | {"text", "words", "transcript", "reply", "body", "exc_info", "stack_info"}
)
_NAMES = frozenset({"recording", "path", "name", "file"})
_URL_QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*", re.IGNORECASE)
# The priorities of systemd's journal, which are syslog's; see sd-daemon(3).
_PRIORITIES: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
# ASCII only: control characters, direction marks and bytes that are not UTF-8 all stay in one line.
_JSON = json.JSONEncoder(ensure_ascii=True, default=str)

_MAX_QUEUED_BYTES = 1 << 20  # some four thousand lines
# How long a caller waits for its line to be written, and for how long no caller waits after that.
_WRITE_SECONDS = 0.25
_NO_WAIT_SECONDS = 10.0
_FLUSH_SECONDS = 1.0
_STDERR = 2
_AT_ITS_END = -1  # where the last write has ended: pwritev2(2)
_PACKAGE = os.path.dirname(__file__) + os.sep


def configure(
    *,
    format: Literal["auto", "json", "console"] = "json",
    level: Level = "info",
    filenames: Literal["hashed", "plain"] = "hashed",
    stream: TextIO | None = None,
    file: Path | None = None,
    needed_device: int | None = None,
) -> None:
    """Send all events to `file`, else to `stream` (standard error by default); silence libraries' loggers.

    The format `auto` is `console` on a terminal, else `json`. `needed_device` is a disk (`st_dev`) without
    which no job continues anyway: callers write to files on it themselves.

    `file` is appended to, and reopened by each call, so that a renamed one is released. Libraries are
    silenced because urllib3 at level debug prints presigned URLs with their signatures.

    Raises:
        OSError: `file` can't be opened. Then everything stays as it was.
    """
    if file is not None:
        _log_file.open(file)
    if format == "auto":
        format = "console" if file is None and (stream or sys.stderr).isatty() else "json"
    render: _Renderer = _JSON.encode if format == "json" else _render_console
    if file is None and is_journal(stream or sys.stderr):
        render = _with_priority(render)
    _direct_to(_log_file if file is not None else _sink_of(stream or sys.stderr), needed_device)
    log.write_to(_writer_of(render, hash_names=filenames == "hashed"), level)
    for library in ("urllib3", "requests", "watchdog", "uvicorn", "asyncio"):
        logging.getLogger(library).handlers[:] = [logging.NullHandler()]
        logging.getLogger(library).propagate = False


# Tells a name from a job's id; `show` and `explain` take it as it is.
NAME_PREFIX = "name:"
_names_key = os.urandom(32)


def hash_names_with(key: bytes) -> None:
    """From now on names are hashed with `key`, of at most 64 bytes; before that, with one of this process."""
    global _names_key  # noqa: PLW0603 - as the logger itself, one for the process
    _names_key = key


def hashed_name(name: str) -> str:
    """A stand-in for a recording's name, `name:` and 12 digits, the same in all logs of an installation.

    Without the key, names can't be tried out on a log (RFC 7693, keyed BLAKE2b).
    """
    text = name.encode("utf-8", "surrogateescape")
    return NAME_PREFIX + hashlib.blake2b(text, key=_names_key, digest_size=6).hexdigest()


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
    """`value` as one line of harmless text: no escape sequences, line breaks or direction marks.

    Bytes of a name that are not UTF-8 are shown as `\\xff`.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(value))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":
        return rf"\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def is_journal(stream: TextIO) -> bool:
    """Whether `stream` is systemd's journal: $JOURNAL_STREAM has its device and inode; systemd.exec(5)."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):  # in memory, or closed
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def priority(level: str) -> str:
    """What a line for systemd's journal begins with, which stores it as the priority and removes it."""
    return f"<{_PRIORITIES[level]}>"


# ---- writing -----------------------------------------------------------------------------------------------


class _Sink(Protocol):
    """Where lines go."""

    def rely_on(self, device: int | None) -> None:
        """From now on take a file on `device` for one that never blocks."""

    def offer(self, line: bytes) -> bool:
        """Write one line if that is certain not to block; whether it was written."""

    def write(self, line: bytes) -> None:
        """Write one line; may block. Raises OSError if it is lost."""


class _Writer:
    """Writes lines to one sink, in order: the caller itself, or where that may block, a thread.

    A caller waits until its line is written, so that the log is complete even if the process is killed next.
    If that takes longer than a moment, the sink hangs: then lines are queued, no caller waits, and lines that
    find the queue full are dropped. Once the sink accepts lines again, the number of lost ones is logged.
    """

    def __init__(self, sink: _Sink) -> None:
        self.sink = sink
        self.reset()

    def reset(self) -> None:
        """Start with an empty queue and no thread; also in a child process, which inherits no thread."""
        lock = threading.Lock()
        self._queued = threading.Condition(lock)
        self._progress = threading.Condition(lock)
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._accepted = self._written = 0
        self._lost = 0
        self._dropping = False
        self._closed = False
        self._no_wait_until = 0.0
        self._thread: threading.Thread | None = None

    def write(self, line: bytes) -> None:
        """Write one line at once; or queue it, and wait a moment for it to be written; or drop it."""
        with self._queued:
            if not self._lines and not self._lost and self.sink.offer(line):
                return
            full = self._queued_bytes + len(line) > _MAX_QUEUED_BYTES
            self._dropping = self._dropping or (full and bool(self._lines))
            if self._dropping or not self._has_thread():
                self._lost += 1
                return
            self._lines.append(line)
            self._queued_bytes += len(line)
            self._accepted += 1
            self._queued.notify()
            if self._thread is threading.current_thread() or time.monotonic() < self._no_wait_until:
                return
            if not self._wait_for(self._accepted, _WRITE_SECONDS):
                self._no_wait_until = time.monotonic() + _NO_WAIT_SECONDS

    def flush(self, seconds: float) -> None:
        """Wait until all accepted lines are written, for `seconds` at most."""
        with self._progress:
            self._wait_for(self._accepted, seconds)

    def close(self) -> None:
        """End the thread once all accepted lines are written."""
        with self._queued:
            self._closed = True
            self._queued.notify()

    def _wait_for(self, count: int, seconds: float) -> bool:
        return self._progress.wait_for(lambda: self._written >= count, seconds)

    def _has_thread(self) -> bool:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads are allowed
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        while (line := self._next()) is not None:
            try:
                self.sink.write(line)
            except (OSError, ValueError):  # its disk is full, or its reader has ended; a stream is closed
                count = self._settle(line, lost=True)
            else:
                count = self._settle(line, lost=False)
            if count:
                log.warning(Event.LOG_LINES_DROPPED, count=count)

    def _next(self) -> bytes | None:
        with self._queued:
            self._queued.wait_for(lambda: self._lines or self._closed)
            if self._lines:
                return self._lines[0]
            self._thread = None  # a line that comes all the same begins another
            return None

    def _settle(self, line: bytes, *, lost: bool) -> int:
        """Remove the line that was written or `lost`; return how many lost lines are to be logged now."""
        with self._progress:
            self._lines.popleft()
            self._queued_bytes -= len(line)
            self._written += 1
            self._lost += lost
            self._progress.notify_all()
            if self._lines:
                return 0
            self._dropping = False
            if lost:
                return 0
            found, self._lost = self._lost, 0
            return found


def _writer_of(render: _Renderer, *, hash_names: bool) -> Writer:
    """What renders an event and writes its line."""

    @cache
    def logger() -> Any:
        import structlog  # noqa: PLC0415 - commands that log nothing need not wait for it

        return structlog.wrap_logger(
            _LineLogger(),
            processors=[_Line(render, hash_names=hash_names)],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        ).bind()

    def write(level: Level, event: Event, fields: Fields) -> None:
        getattr(logger(), level)(event, **fields)

    return write


class _LineLogger:
    """What structlog passes each rendered line to. Its own ones take one lock for all threads."""

    def __init__(self) -> None:
        self.debug = self.info = self.warning = self.error = _write_line


def _write_line(text: str) -> None:
    if _writer is not None:
        _writer.write((text + "\n").encode("utf-8", "backslashreplace"))


_writer: _Writer | None = None


def _direct_to(sink: _Sink, needed_device: int | None) -> None:
    global _writer  # noqa: PLW0603 - as the logger itself, one for the process
    if _writer is None or _writer.sink != sink:  # one that hangs keeps its queue, and the order of its lines
        if _writer is not None:
            _writer.close()
        _writer = _Writer(sink)
    _writer.sink.rely_on(needed_device)


def flush(seconds: float = _FLUSH_SECONDS) -> None:
    """Wait until everything logged so far is written, for `seconds` at most."""
    if _writer is not None:
        _writer.flush(seconds)


def _after_fork() -> None:
    if _writer is not None:
        _writer.reset()


atexit.register(flush)
os.register_at_fork(after_in_child=_after_fork)


def _sink_of(stream: TextIO) -> _Sink:
    try:
        return _Descriptor(stream.fileno())
    except (OSError, ValueError, AttributeError):  # in memory, or closed
        return _Stream(stream)


class _Stream:
    """A stream without a descriptor."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Stream) and other._stream is self._stream

    __hash__ = None  # type: ignore[assignment]

    def rely_on(self, device: int | None) -> None:
        pass

    def offer(self, line: bytes) -> bool:
        self.write(line)
        return True

    def write(self, line: bytes) -> None:
        self._stream.write(line.decode("utf-8", "backslashreplace"))
        self._stream.flush()


class _Descriptor:
    """An open descriptor. Not by way of `sys.stderr`, which a write that blocks would lock for all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._is_needed = False
        self._may_offer = True
        self._cut_off = False  # the last line: the next one must not continue it

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._descriptor == self._descriptor

    __hash__ = None  # type: ignore[assignment]

    def rely_on(self, device: int | None) -> None:
        self._may_offer = True
        try:
            status = os.fstat(self._descriptor)
        except OSError:  # it is closed
            self._is_needed = False
        else:
            self._is_needed = stat.S_ISREG(status.st_mode) and status.st_dev == device

    def offer(self, line: bytes) -> bool:
        if self._cut_off:
            return False
        try:
            written = os.write(self._descriptor, line) if self._is_needed else self._written_at_once(line)
        except OSError:  # the thread meets it too, and counts what is lost
            return False
        self._cut_off = 0 < written < len(line)
        return written == len(line)

    def _written_at_once(self, line: bytes) -> int:
        """Up to PIPE_BUF bytes a pipe or socket takes as a whole or not at all (pipe(7)).

        Files on a disk know no such writes, except for those of XFS and Btrfs; nor do pipes before Linux 6.4,
        sockets before 6.5, and terminals.
        """
        if not self._may_offer or len(line) > select.PIPE_BUF:
            return 0
        try:
            return os.pwritev(self._descriptor, (line,), _AT_ITS_END, os.RWF_NOWAIT)
        except BlockingIOError:  # it is full
            return 0
        except OSError:
            self._may_offer = False
            return 0

    def write(self, line: bytes) -> None:
        content = b"\n" + line if self._cut_off else line
        while content:
            try:
                written = os.write(self._descriptor, content)
            except BlockingIOError:  # another process has made it non-blocking
                self._wait_until_writable()
                continue
            content = content[written:]
            self._cut_off = bool(content)

    def _wait_until_writable(self) -> None:
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLOUT)
        waiting.poll()


class _LogFile(_Descriptor):
    """A file that lines are appended to.

    Once open, its descriptor is never closed, only redirected: a thread in the middle of a line would write
    the rest into whatever file got that number next.
    """

    def __init__(self) -> None:
        super().__init__(-1)

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


_log_file = _LogFile()


# ---- what is in a line -------------------------------------------------------------------------------------


class _Line:
    """Makes a line of an event: with its time and level, and without what must not be logged."""

    def __init__(self, render: _Renderer, *, hash_names: bool) -> None:
        self._render = render
        self._hash_names = hash_names

    def __call__(self, _logger: Any, level: str, fields: MutableMapping[str, Any]) -> str:
        now = datetime.now(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
        line: dict[str, Any] = {"at": now, "level": level, "event": fields["event"]}
        for key, value in fields.items():
            if key in _FORBIDDEN:
                line[key] = "[redacted]"
            elif self._hash_names and key in _NAMES and value is not None:
                line[key] = hashed_name(str(value))
            elif isinstance(value, str) and "://" in value:
                line[key] = _URL_QUERY.sub(r"\1?[redacted]", value)
            else:
                line[key] = value
        return self._render(line)


def _with_priority(render: _Renderer) -> _Renderer:
    return lambda line: priority(line["level"]) + render(line)


def _render_console(line: Mapping[str, Any]) -> str:
    fields = " ".join(
        f"{key}={_quoted(value)}" for key, value in line.items() if key not in ("at", "level", "event")
    )
    return f"{line['at'][:19]}Z {line['level']:<7} {line['event']!s:<18} {fields}".rstrip()


def _quoted(value: object) -> str:
    safe = printable(value)
    return f'"{safe}"' if " " in safe else safe
