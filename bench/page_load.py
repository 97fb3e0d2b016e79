"""Recordings are processed while a hundred people watch the page.

A hundred browsers have the page open: half of them *Now*, a quarter each *Needs you* and *Find*. Each does
what the page's script does: it keeps a stream of events open, and after every event it fetches what it shows,
at most once at a time. They are ten users, each with ten browsers.

In turns, recordings of 100 kB are put into the inbox of a daemon without a page, and of one with its page and
the hundred browsers. Seconds are counted until the last one is in `done/`. Then the browsers stay while
recordings arrive one after the other, and memory and CPU of both processes are read; CPU as a share of one
core.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench.processes import cpu_seconds, resident_mib, tree
from bench.recordings import write_wavs
from bench.scenario import Bench, Scenario
from bench.site import AT_ONCE, Site, files, wait_for
from invox_watcher.accounts import Role, User, write_users
from tests.kit.clinic import free_port
from tests.kit.page_clinic import HASH, PASSWORD

USERS = 10
_PAGES = ("/", "/", "/needs", "/find")
_KINDS = (b"event: changed", b"event: health", b"event: signed-out")
_START_SECONDS = 60.0


@dataclass
class Browsers:
    """People who watch, in a thread with an event loop of its own. `fetches` are seconds."""

    host: str
    port: int
    count: int
    names: Sequence[str] = tuple(f"user{number}" for number in range(USERS))
    fetches: list[float] = field(default_factory=list)
    bytes_read: int = 0
    failures: int = 0
    open: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """All of them watch while the block lasts."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=(self._all(),), name="browsers")
        thread.start()
        try:
            wait_for("all browsers are connected", lambda: self.open == self.count, seconds=_START_SECONDS)
            yield
        finally:
            loop.call_soon_threadsafe(self._stop.set)
            thread.join()
            loop.close()

    async def _all(self) -> None:
        cookies = [await self._sign_in(name) for name in self.names[: self.count]]
        tasks = [
            asyncio.create_task(self._one(cookies[number % len(cookies)], _PAGES[number % len(_PAGES)]))
            for number in range(self.count)
        ]
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, cookie: str, page: str) -> None:
        """One browser: its stream, and the fetches that follow its events."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        writer.write(self._head("GET", "/live", cookie))
        self.open += 1
        news = asyncio.Event()
        fetching = asyncio.create_task(self._follow(cookie, page, news))
        news.set()
        try:
            while line := await reader.readline():
                self.bytes_read += len(line)
                if line.startswith(_KINDS):
                    news.set()
            self.failures += 1  # the stream has ended
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
            await _close(writer)
            self.open -= 1

    async def _follow(self, cookie: str, page: str, news: asyncio.Event) -> None:
        """Fetch the page's part after news, on one connection as long as it lasts."""
        while True:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            try:
                while True:
                    await news.wait()
                    news.clear()
                    began = time.perf_counter()
                    writer.write(self._head("GET", f"{page}?part=1", cookie))
                    status, _headers, body = await _answer(reader)
                    self.failures += status != 200
                    self.bytes_read += len(body)
                    self.fetches.append(time.perf_counter() - began)
            except (OSError, asyncio.IncompleteReadError):
                self.failures += 1
            finally:
                await _close(writer)

    async def _sign_in(self, name: str) -> str:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        form = urlencode({"name": name, "password": PASSWORD}).encode()
        writer.write(self._head("POST", "/sign-in", "", len(form)) + form)
        status, headers, _body = await _answer(reader)
        await _close(writer)
        if status != 303:
            raise RuntimeError(f"Signing in was answered with {status}.")
        return headers["set-cookie"].partition(";")[0]

    def _head(self, method: str, path: str, cookie: str, length: int = 0) -> bytes:
        form = (
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n"
            if length
            else ""
        )
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nCookie: {cookie}\r\n{form}\r\n"
        return head.encode()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and body of an answer with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers.get("content-length", 0)))


@dataclass
class Clinic:
    """A site, with a page or without."""

    site: Site
    port: int | None

    @classmethod
    def in_folder(cls, bench: Bench, name: str, *, with_page: bool) -> Clinic:
        """A new one."""
        root, port = bench.folder / name, free_port()
        changes: dict[str, Any] = dict(AT_ONCE)
        if with_page:
            root.mkdir()
            users = {f"user{n}": User(f"user{n}", HASH, frozenset(Role), None) for n in range(USERS)}
            write_users(root / "users.yaml", users)
            changes["page"] = {"listen": f"127.0.0.1:{port}", "users_file": str(root / "users.yaml")}
        return cls(Site(root, bench.server.base_url, **changes), port if with_page else None)

    def drained_seconds(self, pool: Path) -> float:
        """How long the recordings of `pool`, moved to the inbox, take until all are done."""
        names = {path.name for path in pool.iterdir()}
        began = time.monotonic()
        for name in sorted(names):
            os.rename(pool / name, self.site.inbox / name)
        wait_for("all are done", lambda: names <= set(os.listdir(self.site.done)), seconds=300, pause=0.05)
        return time.monotonic() - began


def page_process(daemon: subprocess.Popen[bytes]) -> int:
    """The page's process."""
    for pid in tree(daemon.pid):
        with contextlib.suppress(OSError):
            if b"invox_watcher.page" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise RuntimeError("There is no page.")


@contextlib.contextmanager
def watched(clinic: Clinic, count: int) -> Iterator[Browsers]:
    """So many browsers look at the clinic's page."""
    assert clinic.port is not None
    wait_for("the page listens", lambda: clinic.site.count("page_listening") > 0, seconds=_START_SECONDS)
    browsers = Browsers("127.0.0.1", clinic.port, count)
    with browsers.watching():
        yield browsers


def pair(bench: Bench, turn: int, recordings: int, browsers: int) -> tuple[float, float, Browsers]:
    """Seconds of the same drain without a page, and watched."""
    found = []
    looking = Browsers("", 0, 0)
    for with_page in (False, True) if turn % 2 == 0 else (True, False):
        pool = bench.folder / "pool"
        write_wavs(pool, recordings)
        clinic = Clinic.in_folder(bench, "clinic", with_page=with_page)
        with clinic.site.daemon(), contextlib.ExitStack() as stack:
            if with_page:
                looking = stack.enter_context(watched(clinic, browsers))
            time.sleep(1)
            found.append((with_page, clinic.drained_seconds(pool)))
        shutil.rmtree(clinic.site.root)
        shutil.rmtree(pool)
    seconds = dict(found)
    bench.progress(f"{turn + 1}: {seconds[False]:.1f} s without a page, {seconds[True]:.1f} s watched")
    return seconds[False], seconds[True], looking


def steady(bench: Bench, *, browsers: int, seconds: float, every: float) -> None:
    """Recordings arrive one after the other while all watch."""
    clinic = Clinic.in_folder(bench, "steady", with_page=True)
    pool = bench.folder / "pool"
    write_wavs(pool, int(seconds / every) + 1)
    waiting = sorted(pool.iterdir())
    with clinic.site.daemon() as daemon, watched(clinic, browsers) as looking:
        page = page_process(daemon)
        time.sleep(min(5.0, seconds / 10))  # all have what they show
        began, memory = time.monotonic(), {"page": resident_mib(page), "daemon": resident_mib(daemon.pid)}
        cpu = {"page": cpu_seconds(page), "both": cpu_seconds(daemon.pid)}
        looking.fetches.clear()
        while (passed := time.monotonic() - began) < seconds:
            while len(waiting) > 1 and passed >= every * (int(seconds / every) + 1 - len(waiting)):
                os.rename(waiting[0], clinic.site.inbox / waiting.pop(0).name)
            time.sleep(0.05)
        passed = time.monotonic() - began
        page_share = (cpu_seconds(page) - cpu["page"]) / passed * 100
        both_share = (cpu_seconds(daemon.pid) - cpu["both"]) / passed * 100
        bench.add("watched: browsers that are connected at the end", looking.open, "", at_least=browsers)
        bench.add("watched: fetches a second", len(looking.fetches) / passed, "")
        ordered = sorted(looking.fetches)
        bench.add("watched: a fetch, median", statistics.median(ordered) * 1000, "ms")
        bench.add("watched: a fetch, of 100 the slowest", ordered[int(len(ordered) * 0.99)] * 1000, "ms")
        bench.add("watched: fetches that failed", looking.failures, "", at_most=0)
        bench.add("watched: CPU of the page", page_share, "%")
        bench.add("watched: CPU of the daemon", both_share - page_share, "%")
        bench.add("watched: memory of the page", resident_mib(page), "MiB")
        bench.add(
            "watched: growth of the page's memory", resident_mib(page) - memory["page"], "MiB", at_most=20
        )
        bench.add("watched: memory of the daemon", resident_mib(daemon.pid), "MiB")
        bench.add(
            "watched: growth of the daemon's memory", resident_mib(daemon.pid) - memory["daemon"], "MiB"
        )
        done = len(files(clinic.site.done))
        bench.add("watched: recordings done", done, "", at_least=int(seconds / every) * 0.98)


def measure(
    bench: Bench, *, browsers: int, recordings: int, rounds: int, seconds: float, every: float
) -> None:
    """Pairs of drains, then a steady stream of recordings."""
    pair(bench, -1, max(recordings // 10, 3), browsers)  # warms caches up
    pairs = [pair(bench, turn, recordings, browsers) for turn in range(rounds)]
    alone = statistics.median(one for one, _, _ in pairs)
    bench.add("alone", recordings / alone, "recordings/s")
    bench.add("watched", recordings / statistics.median(two for _, two, _ in pairs), "recordings/s")
    ratio = statistics.median(one / two for one, two, _ in pairs)
    bench.add("watched beside alone", ratio, "×", at_least=0.9)
    steady(bench, browsers=browsers, seconds=seconds, every=every)


SCENARIO = Scenario(
    "a hundred people watch the page",
    measure,
    {
        "full": {"browsers": 100, "recordings": 2000, "rounds": 5, "seconds": 600, "every": 1.0},
        "quick": {"browsers": 100, "recordings": 600, "rounds": 2, "seconds": 30, "every": 1.0},
        "smoke": {"browsers": 3, "recordings": 4, "rounds": 1, "seconds": 2, "every": 0.5},
    },
    1200,
)
