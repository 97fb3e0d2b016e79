"""Any state that is not final → vanished, or done: the recording was removed from processing/."""

from __future__ import annotations

from invox_watcher.events import Event, log
from invox_watcher.job import Job, State
from invox_watcher.processing.context import Context, Next
from invox_watcher.processing.steps.file_as_done import close_as_done


def vanish(context: Context, job: Job) -> Next:
    """Close a job whose recording another program removed from processing/. Logged as an error, once."""
    context.folders.remove_payload(job.id)
    log.error(Event.VANISHED, job=job.id, recording=job.path, state=job.state)
    if job.state is State.DELIVERED:  # its transcript is safe
        return close_as_done(context, job, job.filed_as or job.path)
    return Next(context.reservations.release(job, State.VANISHED, detail=context.ending_detail))
