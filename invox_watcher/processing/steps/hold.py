"""Before an upload: a recording for which today's audio minutes are used up is held until the next day."""

from __future__ import annotations

from invox_watcher.budget import Held, held
from invox_watcher.job import Job
from invox_watcher.processing.context import Context, Next
from invox_watcher.spending import day_of
from invox_watcher.times import utc_now

# Some of the minutes may be given back, or the clock set.
_CHECK_AGAIN_SECONDS = 300.0
_SHORTEST_SECONDS = 0.1


def hold(context: Context, job: Job) -> Next | None:
    """The same step again later, if `job` is held; None if it may be uploaded now."""
    limits = context.options.limits
    if not limits:
        return None
    now = utc_now()
    found = held(job, limits, context.journal.spent(day_of(now)), now)
    return None if found is None else _later(job, found)


def hold_again(job: Job) -> Next:
    """Others were quicker to reserve what was left: check again, and be held if nothing is."""
    return Next(job, _SHORTEST_SECONDS)


def _later(job: Job, found: Held) -> Next:
    left = (found.until - utc_now()).total_seconds()
    wait = min(max(left, _SHORTEST_SECONDS), _CHECK_AGAIN_SECONDS)
    return Next(job, wait, asked_api=False, held=found)
