"""The baton: one thread at a time continues, and none is ever stopped by another that hangs."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from invox_watcher.baton import on_any_cpu, running, share_cpu, waiting

LONG_SECONDS = 5.0


def test_threads_continue_in_turn_and_wait_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invox_watcher.baton._PATIENCE_SECONDS", LONG_SECONDS)  # however busy the machine is
    at_work, alone, meet = 0, 0, threading.Barrier(3)

    def steps() -> None:
        nonlocal at_work, alone
        for _ in range(20):
            with running:
                at_work += 1
                time.sleep(0.001)  # a system call that is not worth a change of thread
                alone += at_work == 1
                at_work -= 1
                with waiting, waiting:  # the inner one changes nothing
                    meet.wait(LONG_SECONDS)  # none of them comes through alone

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(steps) for _ in range(3)]:
            done.result()
    assert alone == 60


def test_a_thread_that_hangs_with_the_baton_stops_no_other() -> None:
    hangs, over = threading.Event(), threading.Event()

    def hang() -> None:
        with running:
            hangs.set()
            over.wait(LONG_SECONDS)

    with ThreadPoolExecutor() as pool:
        hanging = pool.submit(hang)
        hangs.wait(LONG_SECONDS)
        began = time.monotonic()
        with running, waiting:
            pass
        assert time.monotonic() - began < LONG_SECONDS
        assert not hanging.done()
        over.set()


def test_threads_in_turn_share_a_cpu_except_to_start_a_process() -> None:
    everywhere = os.sched_getaffinity(0)

    def work() -> tuple[set[int], set[int], set[int]]:
        share_cpu()
        before = os.sched_getaffinity(0)
        with on_any_cpu():
            inherited = os.sched_getaffinity(0)
        return before, inherited, os.sched_getaffinity(0)

    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        found = [thread.submit(work).result() for thread in (first, second)]
    cpu = found[0][0]
    assert len(cpu) == 1
    assert found == [(cpu, everywhere, cpu)] * 2
    with on_any_cpu():
        pass
    assert os.sched_getaffinity(0) == everywhere


def test_a_process_starts_on_the_cpus_that_an_administrator_has_chosen() -> None:
    everywhere = os.sched_getaffinity(os.getpid())

    def start() -> tuple[set[int], set[int]]:
        with on_any_cpu():
            inherited = os.sched_getaffinity(0)
        return inherited, os.sched_getaffinity(0)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(share_cpu).result()
        try:
            for cpu in everywhere:
                os.sched_setaffinity(os.getpid(), {cpu})  # taskset --pid
                assert pool.submit(start).result() == ({cpu}, {cpu})
        finally:
            os.sched_setaffinity(os.getpid(), everywhere)
        assert pool.submit(start).result()[0] == everywhere
