"""`show`: the history of one recording, how long each stage took, and the paths of its files."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from invox_watcher.assembly import folders_of
from invox_watcher.cli._common import config_of, fields_of, job_called, journal_of, json_of, local, plan_of
from invox_watcher.diagnostics import timeline
from invox_watcher.diagnostics.display import duration
from invox_watcher.diagnostics.holds import Holds, until
from invox_watcher.diagnostics.timeline import FileLocation, StageDurations
from invox_watcher.errors import ExitStatus
from invox_watcher.job import Failure, Job
from invox_watcher.journal import HistoryEntry
from invox_watcher.logs import printable
from invox_watcher.processing import Held
from invox_watcher.times import rfc3339


def show(options: argparse.Namespace) -> ExitStatus:
    """Print everything that is known about one recording."""
    config = config_of(options, credentials=False)
    with closing(journal_of(config)) as journal:
        job = job_called(options.id, journal)
        history = journal.history(job.id)
        outputs = journal.finished.outputs(job.id)
        held = Holds(config, journal).of(job)
    took = timeline.durations(job, history)
    files = timeline.whereabouts(job, outputs, folders_of(config))
    if options.json:
        hold = {"held_until": rfc3339(held.until) if held else None}
        print(json.dumps(_as_json(job, history, took, files) | hold, indent=2))
    else:
        _print(job, history, took, files, held)
    return ExitStatus.OK


def _as_json(
    job: Job, history: Sequence[HistoryEntry], took: StageDurations, files: Sequence[FileLocation]
) -> dict[str, Any]:
    seconds = {f"{name}_seconds": value for name, value in dataclasses.asdict(took).items()}
    places = [{"what": file.what, "path": str(file.path), "present": file.present} for file in files]
    moments = [
        dataclasses.asdict(moment) | {"at": rfc3339(moment.at), "after_seconds": after}
        for moment, after in _with_gaps(history)
    ]
    return json_of(job) | {"durations": seconds, "files": places, "history": moments}


def _print(
    job: Job,
    history: Sequence[HistoryEntry],
    took: StageDurations,
    files: Sequence[FileLocation],
    held: Held | None,
) -> None:
    waits = {"held_until": f"{until(held)}: {held.reason}"} if held else {}
    for name, value in (
        fields_of(job) | waits | _reason(job.failure) | _suspicions(job) | _plan(job)
    ).items():
        if value not in (None, 0, ""):
            print(f"{name:<17} {printable(local(value) if isinstance(value, datetime) else value)}")
    print()
    for moment, after in _with_gaps(history):
        gap = "" if after is None else f"+{_exactly(after)}"
        detail = " ".join(f"{key}={_inline(value)}" for key, value in moment.detail.items())
        print(f"{local(moment.at)}  {gap:>12}  {moment.state:<11}  {detail}".rstrip())
    parts = {name: value for name, value in dataclasses.asdict(took).items() if value is not None}
    if parts:
        print("\ntook: " + ", ".join(f"{name} {_exactly(value)}" for name, value in parts.items()))
    if files:
        print()
    for file in files:
        print(f"{file.what:<10}  {printable(file.path)}" + ("" if file.present else "  (no longer exists)"))


def _with_gaps(history: Sequence[HistoryEntry]) -> Iterator[tuple[HistoryEntry, float | None]]:
    """Each entry, with the seconds since the previous one."""
    before: datetime | None = None
    for moment in history:
        yield moment, None if before is None else (moment.at - before).total_seconds()
        before = moment.at


def _exactly(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 1 else duration(seconds)


def _inline(value: object) -> str:
    """A detail on one line; of outputs only the names, the hashes are in the JSON."""
    return printable(", ".join(value) if isinstance(value, list | dict) else value)


def _suspicions(job: Job) -> dict[str, str]:
    """Where to listen to the recording, and why."""
    places = (f"{one.reason} {_clock(one.start)}–{_clock(one.end)}" for one in job.suspect or ())
    return {"suspect": ", ".join(places)}


def _plan(job: Job) -> dict[str, str]:
    """What the profile of a recording says; empty if there were no profiles."""
    shown = {}
    for name, value in (plan_of(job) or {}).items():
        text = (
            ", ".join(f"{key}: {item}" for key, item in value.items()) if isinstance(value, dict) else value
        )
        shown[name] = ", ".join(text) if isinstance(text, tuple) else text
    return shown


def _clock(seconds: float) -> str:
    """As players show it: `7:03`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _reason(failure: Failure | None) -> dict[str, str]:
    """Why a recording failed, with the keys of its error file; empty if it did not."""
    if failure is None:
        return {}
    return {
        "failed_at_stage": failure.stage,
        "code": failure.reason.code,
        "message": failure.reason.message,
        "hint": failure.reason.hint,
        "retry_can_help": "yes" if failure.retry_can_help else "no, unless you follow the hint first",
    }
