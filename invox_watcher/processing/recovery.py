"""At the start: make journal and processing/ agree, so that every job is back on the normal path.

Nothing is processed here. What lies in a folder that no job under way owns goes back to the inbox; every job
under way goes to the engine, which takes the interrupted step again.
"""

from __future__ import annotations

from invox_watcher.errors import StorageError
from invox_watcher.events import Event, log
from invox_watcher.files import Folders
from invox_watcher.job import Job
from invox_watcher.journal import Journal


def recover(journal: Journal, folders: Folders) -> list[Job]:
    """The jobs under way. One whose recording is gone is among them: its next step finds out and logs it.

    Raises:
        StorageError, JournalError: the folders or the journal can't be used; nothing is lost by that.
    """
    found = folders.processing_ids()  # first: another host may claim a recording meanwhile
    jobs = journal.active()
    owned = {job.id for job in jobs}
    for job_id in found:
        if job_id not in owned:
            try:
                for path in folders.unclaim(job_id):
                    log.warning(Event.RETURNED, job=job_id, recording=path)
            except StorageError as error:  # it stays where it is, and the others don't wait for it
                log.error(Event.STORAGE_ERROR, job=job_id, code=error.code, error=error.message)
    if jobs:
        log.info(Event.RECOVERED, jobs=len(jobs))
    return jobs


def return_stranded(stranded: set[str], folders: Folders) -> None:
    """Return to the inbox what claims had moved before their share became unavailable; empty `stranded`.

    Raises:
        StorageError: the share is still unavailable.
    """
    if stranded:
        for job_id in stranded.intersection(folders.processing_ids()):
            for path in folders.unclaim(job_id):
                log.warning(Event.RETURNED, job=job_id, recording=path)
        stranded.clear()
