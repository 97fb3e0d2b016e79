"""`show`: the history of one recording, how long each stage took, and the paths of its files."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from invox_watcher.cli._common import config_of, fields_of, job_called, journal_of, json_of, local, plan_of
from invox_watcher.cli._text import print_indented
from invox_watcher.diagnostics import timeline
from invox_watcher.diagnostics.daemon_status import query_daemon
from invox_watcher.diagnostics.figures import duration
from invox_watcher.diagnostics.holds import Holds, until
from invox_watcher.diagnostics.prospect import prospect_of
from invox_watcher.diagnostics.timeline import FileLocation, StageDurations
from invox_watcher.errors import ExitStatus
from invox_watcher.job import Failure, Job
from invox_watcher.journal import HistoryEntry, QueuedDelivery
from invox_watcher.layout import folders_of
from invox_watcher.logs import printable
from invox_watcher.times import rfc3339

_INDENT = 18
_SENTENCES = ("message", "hint")


def show(options: argparse.Namespace) -> ExitStatus:
    """Print everything that is known about one recording."""
    config = config_of(options, credentials=False)
    with closing(journal_of(config)) as journal:
        job = job_called(options.id, journal, config)
        related = {
            one: found
            for one in (job.predecessor_id, job.successor_id)
            if one and (found := journal.get(one))
        }
        history = journal.history(job.id)
        outputs = journal.finished.outputs(job.id)
        deliveries = journal.deliveries.of(job.id)
        held = Holds(config, journal).of(job)
    if job.state.is_final:
        ahead = None
    else:
        status = query_daemon(config.state.directory)
        ahead = prospect_of(job, status, max_attempts=config.retry.max_attempts)
    took = timeline.durations(job, history)
    files = timeline.whereabouts(job, outputs, folders_of(config))
    if options.json:
        more = {
            "ahead": None if ahead is None else ahead.as_json(),
            "held_until": rfc3339(held.until) if held else None,
            "deliveries": [dataclasses.asdict(one) for one in deliveries],
        }
        print(json.dumps(_as_json(job, history, took, files) | more, indent=2, default=_text))
    else:
        _print_fields(job, related)
        if held is not None:
            print_indented("held_until", f"{until(held)}: {held.reason}", indent=_INDENT)
        for name, text in ahead.lines() if ahead is not None else ():
            print_indented(name, text, indent=_INDENT)
        _print(history, took, files)
        _print_deliveries(deliveries)
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


def _print_fields(job: Job, related: Mapping[str, Job]) -> None:
    ahead = () if job.state.is_final else ("attempts",)  # said with what is ahead
    for name, value in (fields_of(job) | _reason(job.failure) | _suspicions(job) | _plan(job)).items():
        if value in (None, 0, "") or name in ahead:
            continue
        text = local(value) if isinstance(value, datetime) else str(value)
        if (other := related.get(text)) is not None:
            text += f" ({other.state})"
        if name in _SENTENCES:
            print_indented(name, text, indent=_INDENT)
        else:  # to be copied as a whole
            print(f"{name:<{_INDENT - 1}} {printable(text)}")


def _print(history: Sequence[HistoryEntry], took: StageDurations, files: Sequence[FileLocation]) -> None:
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


def _text(value: datetime) -> str:
    return rfc3339(value)


def _print_deliveries(deliveries: Sequence[QueuedDelivery]) -> None:
    """What each target got or is owed, in the words of the target."""
    for delivery in deliveries:
        receipt, fault = delivery.receipt, delivery.fault
        at = f"  {local(datetime.fromisoformat(receipt.at))}" if receipt else ""
        attempts = f", {delivery.attempts} attempts" if delivery.attempts > 1 else ""
        print(f"\nto {printable(delivery.target)}: {delivery.state}{attempts}{at}")
        if fault is not None:
            print(f"  {printable(fault.reason.message)} ({fault.reason.code}, since {local(fault.since)})")
            print(f"  {printable(fault.reason.hint)}")
        elif receipt is not None:
            print(f"  {printable(receipt.text)}")
        for line in receipt.output.splitlines() if receipt else ():
            print(f"  | {printable(line)}")


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
