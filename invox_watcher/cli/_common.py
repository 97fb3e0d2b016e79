"""What the commands share: configuration, journal, looking up a job, times and JSON."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from invox_watcher.cli._commands import CONFIG_VARIABLE, DEFAULT_CONFIG
from invox_watcher.cli._streams import complain
from invox_watcher.config import Config, load, state_directory
from invox_watcher.diagnostics.names import (
    UnknownNameError,
    file_named,
    is_hashed_name,
    job_named,
    unknown_name,
)
from invox_watcher.errors import ConfigurationError, ExitStatus, InvoxError, WrongJournalError
from invox_watcher.files import recorded_fleet
from invox_watcher.job import Job
from invox_watcher.journal import Journal, moved
from invox_watcher.layout import database_of
from invox_watcher.times import rfc3339

_SHOWN_IDS = 5


class UsageError(InvoxError):
    """The command line is wrong: the same command can never succeed."""

    code = "usage"
    exit_status = ExitStatus.USAGE


def config_of(options: argparse.Namespace, *, credentials: bool = True, folders: bool = True) -> Config:
    """The configuration; without `credentials` or `folders` for commands that don't need them.

    Raises:
        ConfigurationError: it is invalid.
    """
    return loader_of(options, credentials=credentials, folders=folders)()


def loader_of(
    options: argparse.Namespace, *, credentials: bool = True, folders: bool = True
) -> Callable[[], Config]:
    """A function that loads the configuration, also later and after a change of directory."""
    return partial(load, config_file(options), credentials=credentials, folders=folders)


def state_directory_of(options: argparse.Namespace) -> Path:
    """The state directory, even if the configuration has errors, which are then printed.

    Raises:
        ConfigurationError: the errors leave it unclear which directory is meant.
    """
    try:
        return config_of(options, credentials=False).state.directory
    except ConfigurationError as error:
        error.hint = "Fix it first: without a state directory it is unknown whether a daemon is running."
        directory = state_directory(config_file(options))
        if directory is None:
            raise
        error.hint = f"Fix it before the next start. Continuing with the state directory {directory}."
        complain(error)
        return directory


def config_file(options: argparse.Namespace) -> Path:
    """The path of the configuration."""
    path: Path = options.config or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    return path.absolute()


def journal_of(config: Config, *, to_act: bool = False) -> Journal:
    """The existing journal. If another one is used instead, that is said on standard error.

    Raises:
        JournalError: there is none.
        WrongJournalError: another one is used instead, and the command is `to_act` on what it says.
    """
    journal = Journal(config.state.directory, create=False, server=database_of(config))
    error = why_not_used(journal, config)
    if error is not None and to_act:
        journal.close()
        raise error
    if error is not None:
        complain(error, "what follows is out of date. ")
    return journal


def why_not_used(journal: Journal, config: Config) -> WrongJournalError | None:
    """The error if another journal is used instead; None if there is none."""
    if journal.moved_to is not None:
        return moved(journal.name, journal.moved_to)
    if config.state.url is None and recorded_fleet(config.state.directory) is not None:
        return WrongJournalError(
            f"The journal {journal.name} is not the daemon's: that was started last with state.url, as one "
            "of several hosts.",
            code="journal_moved",
            hint="Give this command the daemon's configuration, with --config; or start the daemon first, if "
            "its journal was just copied back.",
        )
    return None


def job_called(text: str, journal: Journal, config: Config) -> Job:
    """The one job whose id, or the second half of its id, begins with `text`; or the newest one of a name.

    Raises:
        UnknownNameError: there is none.
        UsageError: more than one id begins so.
    """
    if is_hashed_name(text):
        return _job_named(text, journal, config)
    if (job := journal.get(text)) is not None:
        return job
    found = journal.lookup.by_id(text, limit=_SHOWN_IDS + 1)
    if not found:
        raise UnknownNameError(
            f"No job has the id {text}.", hint="List all ids with `invox-watcher jobs --all`."
        )
    if len(found) > 1:
        ids = [job.id for job in found[:_SHOWN_IDS]] + ["…"] * (len(found) > _SHOWN_IDS)
        raise UsageError(f"More than one id begins with {text}.", hint=f"Give one of {', '.join(ids)}")
    return found[0]


def _job_named(hashed: str, journal: Journal, config: Config) -> Job:
    if (job := job_named(hashed, config.state.directory, journal)) is not None:
        return job
    if (file := file_named(hashed, config.state.directory, config.folders.inbox)) is not None:
        raise UnknownNameError(
            f"{hashed} is not in the journal yet: it is {file}.",
            hint=f"See what keeps it there: invox-watcher explain {hashed}",
        )
    raise unknown_name(hashed)


def fields_of(job: Job) -> dict[str, Any]:
    """The fields of a job, except its failure and what is internal to the daemon; its size after its path."""
    internal = ("identity", "payload", "refusal", "failure", "suspect", "last_fault", "plan", "reservation")
    shown: dict[str, Any] = {}
    for name, value in vars(job).items():
        if name not in internal:
            shown[name] = value
        if name == "path":
            shown["size_bytes"] = job.size_bytes
    return shown


def json_of(job: Job) -> dict[str, Any]:
    """A job for scripts: times in UTC as RFC 3339."""
    fields = {
        name: rfc3339(value) if isinstance(value, datetime) else value
        for name, value in fields_of(job).items()
    }
    suspect = [dataclasses.asdict(one) for one in job.suspect or ()]
    return fields | {"failure": _failure_of(job), "suspect": suspect, "plan": plan_of(job)}


def plan_of(job: Job) -> dict[str, Any] | None:
    """What the profile of a job says; None if there were no profiles."""
    if job.plan is None:
        return None
    fields = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(job.plan).items()
    }
    return fields | {"priority": job.plan.priority.name.lower()}


def reasons_of(job: Job) -> list[str]:
    """Why its transcript is suspect, each reason once; empty if it is not."""
    return list(dict.fromkeys(str(one.reason) for one in job.suspect or ()))


def _failure_of(job: Job) -> dict[str, Any] | None:
    if job.failure is None:
        return None
    failure: dict[str, Any] = dataclasses.asdict(job.failure)
    reason: dict[str, Any] = failure.pop("reason")
    return reason | failure


def local(time: datetime) -> str:
    """The local time, with its offset from UTC: `2026-11-23 19:50:56+01:00`."""
    return time.astimezone().isoformat(sep=" ", timespec="seconds")
