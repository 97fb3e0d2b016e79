"""The queue of jobs that no host owns: procrastinate's, in the database of the journal.

A task says "take care of this job": it ends once a host has written itself into the job's row, which only one
can. What follows is due at that host, in its own lanes. Tasks are added in the transaction that leaves a job
without an owner, so that neither is without the other; those of a host that died are given to another one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import procrastinate
from procrastinate import jobs, retry, schema
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector
from psycopg import Connection

from invox_watcher.events import Event, log
from invox_watcher.heartbeat import beat
from invox_watcher.logs import where
from invox_watcher.priority import Priority

_UNOWNED = "jobs"
_TAKE, _WAKE = "take", "wake"
# Due at once by the clock of the database, whatever this host's clock says.
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_AT_ONCE = 4  # jobs that a host is about to take
_CHECK_SECONDS = 0.2
_FETCH_SECONDS = 2.0  # how often it looks although it was not notified
_AGAIN_SECONDS = 2.0
_CONNECTIONS = 3
# Its lines are for the programs of its users; what matters of them is an event of ours.
for _name in ("procrastinate", "psycopg.pool"):
    logging.getLogger(_name).propagate = False
    logging.getLogger(_name).addHandler(logging.NullHandler())

_manager = procrastinate.App(connector=SyncPsycopgConnector()).job_manager


class _Again(retry.BaseRetryStrategy):
    """A task that could not be ended is another host's, at once."""

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> retry.RetryDecision:  # noqa: ARG002
        return retry.RetryDecision(retry_at=_LONG_AGO)


# What `install` and `send_wake` are, for those who must not load this module.
Install = Callable[["Connection[Any]"], None]


class Send(Protocol):
    """`send_wake`."""

    def __call__(self, connection: Connection[Any], *, host: str, request_id: str) -> None: ...


@dataclass(frozen=True)
class Calls:
    """What the queue calls, from its own threads."""

    has_room: Callable[[], bool]  # whether this host can do something with one more job
    take: Callable[[str], None]  # write this host into the job's row, and continue it, if no other host has
    wake: Callable[[str], None]  # a webhook for that request came, at another host


def install(connection: Connection[Any]) -> None:
    """Create its tables and functions if they are missing; in the transaction of the caller."""
    found = connection.execute("SELECT to_regclass('procrastinate_jobs') IS NOT NULL").fetchone()
    if found is None or not found[0]:
        connection.execute(schema.SchemaManager.get_schema())


def place(connection: Connection[Any], unowned: Iterable[tuple[str, Priority]]) -> None:
    """Let some host take care of these jobs; in the transaction of the caller."""
    tasks = [
        jobs.Job(
            queue=_UNOWNED,
            lock=job_id,
            queueing_lock=None,
            task_name=_TAKE,
            priority=-priority,
            task_kwargs={"job_id": job_id},
        )
        for job_id, priority in unowned
    ]
    if tasks:
        _manager.batch_defer_jobs(tasks, connection=connection)


def send_wake(connection: Connection[Any], *, host: str, request_id: str) -> None:
    """Tell `host` that a webhook for that request came; in the transaction of the caller."""
    task = jobs.Job(
        queue=_queue_of(host),
        lock=None,
        queueing_lock=None,
        task_name=_WAKE,
        task_kwargs={"request_id": request_id},
    )
    _manager.defer_job(task, connection=connection)


def _queue_of(host: str) -> str:
    return f"host {host}"


class Queue:
    """The side of one host; `run` is the body of a thread, with an event loop of its own."""

    def __init__(self, conninfo: Callable[[], str], host: str, calls: Calls, *, limit_seconds: float) -> None:
        """`host` identifies this one. One that was silent for longer than `limit_seconds` counts as dead.

        `conninfo` is asked for each new connection, and may raise.
        """
        self._conninfo = conninfo
        self._host = host
        self._calls = calls
        self._limit_seconds = limit_seconds

    def run(self, stop: threading.Event) -> None:
        """Take jobs until `stop` is set; while the database is unavailable, try again and again."""
        while not stop.is_set():
            try:
                asyncio.run(self._work(stop))
            except Exception as error:  # noqa: BLE001 - whatever it was, its worker is started again
                log.debug(Event.QUEUE_ERROR, error=where(error))
            beat()
            stop.wait(_AGAIN_SECONDS)

    async def _work(self, stop: threading.Event) -> None:
        connector = PsycopgConnector(conninfo=self._conninfo(), min_size=1, max_size=_CONNECTIONS, timeout=5)
        app, ending = procrastinate.App(connector=connector), asyncio.Event()
        self._add_tasks(app, ending)
        async with app.open_async():
            worker = asyncio.create_task(
                app.run_worker_async(
                    queues=[_UNOWNED, _queue_of(self._host)],
                    name=self._host,
                    concurrency=_AT_ONCE,
                    fetch_job_polling_interval=_FETCH_SECONDS,
                    delete_jobs="always",
                    install_signal_handlers=False,
                    update_heartbeat_interval=self._limit_seconds / 3,
                    stalled_worker_timeout=self._limit_seconds,
                )
            )
            rescue = asyncio.create_task(self._rescue(app))
            try:
                while not stop.is_set() and not worker.done() and not rescue.done():
                    beat()
                    await asyncio.wait({worker, rescue}, timeout=_CHECK_SECONDS)
            finally:
                ending.set()
                rescue.cancel()
                worker.cancel()
                await asyncio.gather(worker, rescue, return_exceptions=True)

    def _add_tasks(self, app: procrastinate.App, ending: asyncio.Event) -> None:
        calls = self._calls

        @app.task(name=_TAKE, retry=_Again())
        async def take(job_id: str) -> None:
            while not calls.has_room():
                if ending.is_set():
                    raise asyncio.CancelledError  # another host has room, or will
                await asyncio.sleep(_CHECK_SECONDS)
            await asyncio.to_thread(calls.take, job_id)

        @app.task(name=_WAKE)
        async def wake(request_id: str) -> None:
            await asyncio.to_thread(calls.wake, request_id)

    async def _rescue(self, app: procrastinate.App) -> None:
        """Again and again: what a host was about to take when it died is for another one."""
        manager = app.job_manager
        while True:
            await asyncio.sleep(self._limit_seconds / 3)
            await manager.prune_stalled_workers(self._limit_seconds)
            for task in await manager.get_stalled_jobs(
                queue=_UNOWNED, seconds_since_heartbeat=self._limit_seconds
            ):
                await manager.retry_job(task, retry_at=_LONG_AGO)
