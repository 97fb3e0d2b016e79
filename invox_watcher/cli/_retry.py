"""`retry`: move failed recordings back into the inbox."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing

from invox_watcher.cli._common import UsageError, config_of, job_called, journal_of
from invox_watcher.cli._deliveries import send_again
from invox_watcher.cli._identity import act_as_owner
from invox_watcher.cli._streams import complain
from invox_watcher.config import Config
from invox_watcher.diagnostics.attention import open_failures
from invox_watcher.diagnostics.retrying import can_help, move_back
from invox_watcher.errors import ExitStatus, InvoxError
from invox_watcher.files import LOCK_FILE, Folders, check_mounted
from invox_watcher.host import holder_of
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal
from invox_watcher.layout import folders_of, host_of
from invox_watcher.logs import printable


def retry(options: argparse.Namespace) -> ExitStatus:
    """Move the chosen recordings back; if one can't be moved, the others still are."""
    if bool(options.id) + options.all + bool(options.code) != 1:
        options.parser.error("give one of: ids, --all, --code CODE")
    if options.target is not None:
        return send_again(options)
    config = config_of(options, credentials=False)
    act_as_owner(config)
    check_mounted(config.state.directory, (config.folders.failed, config.folders.inbox))
    folders, left = folders_of(config), []
    with closing(journal_of(config, to_act=True)) as journal:
        if options.id:
            jobs = _named(options.id, journal, config)
        else:
            jobs = _in_failed(journal, folders, options.code)
        if options.all:
            left = [job for job in jobs if not can_help(job)]
            jobs = [job for job in jobs if can_help(job)]
        written = {job.id: journal.finished.outputs(job.id) for job in jobs}
    ending, back = ExitStatus.OK, 0
    for job in jobs:
        try:
            name = move_back(job, written[job.id], folders)
        except InvoxError as error:
            ending = ExitStatus(ending or error.exit_status)
            complain(error, f"{job.id}: ")
            continue
        back += 1
        print(f"{job.id}: back in the inbox as {printable(name)}{_doubt(job)}")
    _report_left(left)
    if not jobs and not left:
        why = f" with code {printable(options.code)}" if options.code else ""
        print(f"There is no failed recording{why} in the failed folder.")
    elif back and holder_of(config.state.directory / LOCK_FILE) is None:
        host = host_of(config)
        print(
            "No daemon is running: they stay in the inbox until it is started."
            if host is None
            else f"No daemon is running on this host, {host}: another one takes them, if one is running."
        )
    return ending


def _report_left(left: Sequence[Job]) -> None:
    """Those that would only fail again."""
    for job in left:
        code = job.failure.reason.code if job.failure else ""
        print(f"{job.id}: left in failed/, since a retry can't help ({code}): {printable(job.path)}")
    if left:
        print(
            "`invox-watcher show ID` has what to do about each. Once that is done, or to retry one anyway:"
            " `invox-watcher retry ID`."
        )


def _named(ids: list[str], journal: Journal, config: Config) -> list[Job]:
    jobs = list({job.id: job for job in (job_called(text, journal, config) for text in ids)}.values())
    for job in jobs:
        if job.state is not State.FAILED:
            raise UsageError(f"{job.id} is {job.state}, not failed.", hint="Nothing was moved.")
    return jobs


def _in_failed(journal: Journal, folders: Folders, code: str | None) -> list[Job]:
    """The jobs whose recording is in the failed folder and was not retried, the oldest first.

    Of a code only those with it.
    """
    failed = [
        job
        for job in open_failures(journal, folders)
        if code is None or (job.failure is not None and job.failure.reason.code == code)
    ]
    return failed[::-1]


def _doubt(job: Job) -> str:
    """A note if the same recording will fail again."""
    if job.failure is None or can_help(job):
        return ""
    return f" (it will fail again unless it is fixed: {job.failure.reason.code})"
