"""The log's thread: lines whole and in order, and no time lost if their sink hangs."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import socket
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from invox_watcher import logs
from invox_watcher.events import Event, log
from tests.kit.captured_log import LogStream
from tests.kit.waiting import wait_for

MANY = 20_000


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    logs.configure(stream=io.StringIO())  # ends the thread of the pipe
    log.write_to(None)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe with room for a page, which nobody reads yet."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with open(writing, "w", closefd=False) as stream:
        logs.configure(stream=stream)
    yield reading, writing
    os.close(reading)
    logs.flush()
    os.close(writing)


class Reader:
    """Reads a pipe to its end, in a thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._content = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while block := os.read(self._descriptor, 65536):
            self._content += block
            if b'"job": "last"' in block:
                return

    def has(self, text: bytes) -> bool:
        """Whether it has read that yet."""
        return text in self._content

    def lines(self) -> list[dict[str, Any]]:
        """Every line up to the one of job `last`."""
        self._thread.join(20)
        assert not self._thread.is_alive()
        return [json.loads(line) for line in self._content.splitlines()]


def ends(kind: str, file: Path) -> tuple[int, int]:
    """Descriptors to read from and to write to."""
    if kind == "pipe":
        return os.pipe()
    if kind == "socket":  # as systemd gives one
        ours, theirs = socket.socketpair()
        return ours.detach(), theirs.detach()
    if kind == "terminal":
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        return ours, theirs
    writing = os.open(file, os.O_WRONLY | os.O_CREAT)
    return os.open(file, os.O_RDONLY), writing


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal", "file"])
def test_a_line_is_written_when_the_call_returns(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_WRITE_SECONDS", 20)  # however late the log's thread gets a CPU
    reading, writing = ends(kind, tmp_path / "log")
    with open(reading, "rb", buffering=0), open(writing, "w") as stream:
        logs.configure(stream=stream)
        for number in range(100):
            log.info(Event.DONE, job=str(number))
            assert json.loads(os.read(reading, 4096))["job"] == str(number)
        logs.configure(stream=io.StringIO())


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_with_room_in_it_no_thread_is_needed(kind: str, tmp_path: Path) -> None:
    reading, writing = ends(kind, tmp_path / "log")
    with open(reading, "rb", buffering=0), open(writing, "w") as stream:
        assert threads_for(stream) == 0


@pytest.mark.parametrize(("needed", "threads"), [(True, 0), (False, 1)])
def test_a_file_needs_one_unless_its_disk_is_needed_anyway(
    needed: bool, threads: int, tmp_path: Path
) -> None:
    with open(tmp_path / "log", "w") as stream:
        device = os.fstat(stream.fileno()).st_dev
        assert threads_for(stream, device if needed else device + 1) == threads
    assert len((tmp_path / "log").read_text().splitlines()) == 100


def threads_for(stream: TextIO, needed_device: int | None = None) -> int:
    """How many threads are there for a hundred lines to `stream`."""
    before = set(threading.enumerate())
    logs.configure(stream=stream, needed_device=needed_device)
    for number in range(100):
        log.info(Event.DONE, job=number)
    more = set(threading.enumerate()) - before
    logs.configure(stream=io.StringIO())
    return len(more)


def test_a_full_pipe_costs_no_time_and_its_lines_are_counted(pipe: tuple[int, int]) -> None:
    began = time.monotonic()
    for number in range(MANY):
        log.info(Event.DONE, job=number)
    assert time.monotonic() - began < 10  # 0.25 s, and what twenty thousand lines take
    reader = Reader(pipe[0])
    logs.flush(20)
    wait_for("the count is written", lambda: reader.has(b"log_lines_dropped"))
    log.info(Event.DONE, job="last")
    *lines, last = reader.lines()
    jobs = [line["job"] for line in lines if line["event"] == "done"]
    assert jobs == list(range(len(jobs)))  # none is missing before the first that was dropped
    assert 2_000 < len(jobs) < MANY
    assert [line["event"] for line in lines[len(jobs) :]] == ["log_lines_dropped"]
    assert lines[-1]["count"] == MANY - len(jobs)
    assert last["job"] == "last"


def test_a_pipe_full_for_a_while_loses_nothing(pipe: tuple[int, int]) -> None:
    for number in range(1_000):
        log.info(Event.DONE, job=number)
    reader = Reader(pipe[0])
    log.info(Event.DONE, job="last")
    assert [line["job"] for line in reader.lines()] == [*range(1_000), "last"]


def test_lines_longer_than_the_pipe_come_whole(pipe: tuple[int, int]) -> None:
    long = "x" * 50_000
    log.info(Event.DONE, job=long)
    reader = Reader(pipe[0])
    log.info(Event.DONE, job="last")
    assert [line["job"] for line in reader.lines()] == [long, "last"]


def test_a_pipe_made_non_blocking_by_another_loses_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    for number in range(500):
        log.info(Event.DONE, job=number)
    reader = Reader(pipe[0])
    log.info(Event.DONE, job="last")
    assert [line["job"] for line in reader.lines()] == [*range(500), "last"]


def test_many_threads_wait_once_for_a_full_pipe(pipe: tuple[int, int]) -> None:
    for number in range(100):
        log.info(Event.DONE, job=number)  # it is full now
    threads = [threading.Thread(target=lambda: log.info(Event.DONE, job="x")) for _ in range(20)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 2


def test_a_reader_that_ended_loses_lines_and_no_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        logs.configure(stream=stream)
        for number in range(100):
            log.info(Event.DONE, job=number)
        later = LogStream()
        logs.configure(stream=later)
        log.info(Event.DONE, job="later")
        assert json.loads(later.getvalue())["job"] == "later"


def test_the_same_sink_keeps_its_queue_and_order(pipe: tuple[int, int]) -> None:
    for number in range(300):
        log.info(Event.DONE, job=number)
        if number % 100 == 99:
            with open(pipe[1], "w", closefd=False) as stream:  # as a reload does
                logs.configure(stream=stream)
    reader = Reader(pipe[0])
    log.info(Event.DONE, job="last")
    assert [line["job"] for line in reader.lines()] == [*range(300), "last"]


def test_another_sink_leaves_one_that_hangs_behind(pipe: tuple[int, int]) -> None:
    for number in range(300):
        log.info(Event.DONE, job=number)
    stream = LogStream()
    logs.configure(stream=stream)
    log.info(Event.DONE, job="here")
    assert json.loads(stream.getvalue())["job"] == "here"
    assert json.loads(os.read(pipe[0], 4096).splitlines()[0])["job"] == 0
