"""What the commands share: the configuration, the journal, a job by what a person types, times and JSON."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from invox_watcher.cli._parser import CONFIG_VARIABLE, DEFAULT_CONFIG
from invox_watcher.cli._streams import complain
from invox_watcher.config import Config, load, state_directory
from invox_watcher.errors import ConfigurationError, ExitStatus, InvoxError
from invox_watcher.job import Job
from invox_watcher.journal import Journal
from invox_watcher.times import rfc3339

_SHOWN_IDS = 5


class UsageError(InvoxError):
    """What was asked for can't be done, whatever the state of things: the person has to ask otherwise."""

    code = "usage"
    exit_status = ExitStatus.USAGE


def config_of(options: argparse.Namespace, *, credentials: bool = True) -> Config:
    """The configuration; without `credentials` for commands that need none of them.

    Raises:
        ConfigurationError: it can't be used.
    """
    return loader_of(options, credentials=credentials)()


def loader_of(options: argparse.Namespace, *, credentials: bool = True) -> Callable[[], Config]:
    """What loads the configuration, now and again, wherever the process has gone meanwhile."""
    return partial(load, config_file(options), credentials=credentials)


def state_directory_of(options: argparse.Namespace) -> Path:
    """The state directory, also by a configuration with mistakes in it, which are then told.

    Raises:
        ConfigurationError: it does not say which.
    """
    try:
        return config_of(options, credentials=False).state.directory
    except ConfigurationError as error:
        error.hint = "Mend it first: where the daemon's state is, and so whether it runs, is not clear."
        directory = state_directory(config_file(options))
        if directory is None:
            raise
        error.hint = f"That has to be mended before the next start. The state directory is {directory}."
        complain(error)
        return directory


def config_file(options: argparse.Namespace) -> Path:
    """Where the configuration is."""
    path: Path = options.config or Path(os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG)
    return path.absolute()


def journal_of(config: Config) -> Journal:
    """The journal that is there; JournalError where none is."""
    return Journal(config.state.directory, create=False)


def job_called(text: str, journal: Journal) -> Job:
    """The one job with that id, or whose id, or its second half, begins so.

    Raises:
        UsageError: there is none, or more than one.
    """
    if (job := journal.get(text)) is not None:
        return job
    found = journal.find(text, limit=_SHOWN_IDS + 1)
    if not found:
        raise UsageError(f"No job has the id {text}.", hint="`invox-watcher jobs --all` lists them.")
    if len(found) > 1:
        ids = [job.id for job in found[:_SHOWN_IDS]] + ["…"] * (len(found) > _SHOWN_IDS)
        raise UsageError(f"More than one id begins with {text}.", hint=f"Which one? {', '.join(ids)}")
    return found[0]


def facts_of(job: Job) -> dict[str, Any]:
    """What is known of a job, but for its failure and what only the daemon can use."""
    internal = ("payload", "refusal", "failure")
    known = (
        ("size_bytes", job.size_bytes) if name == "identity" else (name, value)
        for name, value in vars(job).items()
    )
    return {name: value for name, value in known if name not in internal}


def json_of(job: Job) -> dict[str, Any]:
    """A job for scripts: times in UTC as RFC 3339."""
    fields = {
        name: rfc3339(value) if isinstance(value, datetime) else value
        for name, value in facts_of(job).items()
    }
    return fields | {"failure": _failure_of(job)}


def _failure_of(job: Job) -> dict[str, Any] | None:
    if job.failure is None:
        return None
    facts: dict[str, Any] = dataclasses.asdict(job.failure)
    reason: dict[str, Any] = facts.pop("reason")
    return reason | facts


def local(time: datetime) -> str:
    """The time here, with its offset from UTC: `2026-11-23 19:50:56+01:00`."""
    return time.astimezone().isoformat(sep=" ", timespec="seconds")
