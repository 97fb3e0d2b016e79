"""Shows the files of the demo, whether everything ended as expected, and what to try next."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.tree import Tree

from invox_watcher.demo.stage import CONFIGURATION, FOLDERS, LOG, Exhibit, invocation, shown
from invox_watcher.errors import ExitStatus
from invox_watcher.files import ERROR_SUFFIX
from invox_watcher.job import Job, State
from invox_watcher.logs import printable


@dataclass(frozen=True)
class Outcome:
    """The result of a demo: `jobs` by path, `calls` from `/sandbox/stats`, the daemon's exit status."""

    folder: Path
    exhibits: Sequence[Exhibit]
    jobs: Mapping[str, Job]
    calls: Mapping[str, Any]
    daemon_status: int
    webhook: bool


def report(console: Console, outcome: Outcome) -> ExitStatus:
    """Print everything; return OK if every expectation was met, else SOME_FAILED."""
    _show_tree(console, outcome.folder)
    _show_transcript(console, outcome)
    _show_failure(console, outcome)
    _show_calls(console, outcome)
    broken = _show_promises(console, outcome)
    _show_next(console, outcome)
    return ExitStatus.SOME_FAILED if broken else ExitStatus.OK


# ---- the files ---------------------------------------------------------------------------------------------


def _show_tree(console: Console, folder: Path) -> None:
    tree = Tree(shown(folder), style="bold", guide_style="dim")
    for name in FOLDERS:
        branch = tree.add(f"{name}/", style="bold")
        _grow(branch, folder / name)
        if not branch.children:
            branch.add("(empty)", style="dim not bold")
    console.print()
    console.print(tree)


def _grow(branch: Tree, folder: Path) -> None:
    visible = (entry for entry in os.scandir(folder) if not entry.name.startswith("."))  # not the marks
    for entry in sorted(visible, key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            _grow(branch.add(f"{printable(entry.name)}/", style="not bold"), folder / entry.name)
        else:
            branch.add(printable(entry.name), style="not bold")


def _show_transcript(console: Console, outcome: Outcome) -> None:
    copied = next(exhibit.copy_of for exhibit in outcome.exhibits if exhibit.copy_of)
    path = _output(outcome, copied, ".srt")
    if path.exists():
        _heading(console, "What was recognized", path)
        _quote(console, path.read_text().rstrip().splitlines())


def _show_failure(console: Console, outcome: Outcome) -> None:
    for exhibit in outcome.exhibits:
        path = _error_file(outcome, exhibit)
        if path.exists():
            reason = json.loads(path.read_text())
            _heading(console, "Why it failed", path)
            _quote(console, (f"{key}: {reason[key]}" for key in ("code", "message", "hint")))


def _show_calls(console: Console, outcome: Outcome) -> None:
    calls = outcome.calls
    console.print(
        f"\nThe API counted {calls['presigns']} upload URLs and {calls['uploads']} uploads "
        f"for {len(outcome.jobs)} files."
    )
    if outcome.webhook:
        console.print(
            f"It sent {calls['webhooks_delivered']} results by webhook, "
            f"and was polled {calls['status_calls']} times, to confirm them."
        )


def _heading(console: Console, title: str, path: Path) -> None:
    console.print(f"\n{title}: {shown(path)}", style="bold")


def _quote(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(f"  {printable(line)}".rstrip())


# ---- whether it ended as expected --------------------------------------------------------------------------


def _show_promises(console: Console, outcome: Outcome) -> bool:
    """Print each expectation and whether it was met; True if any was not."""
    console.print()
    broken = False
    for promise, problems in _promises(outcome):
        broken = broken or bool(problems)
        mark, style = ("NO", "bold red") if problems else ("ok", "green")
        console.print(f"{mark}  ", style=style, end="")
        console.print(promise)
        _quote(console, (f"  {problem}" for problem in problems))
    return broken


def _webhook_problems(outcome: Outcome, expected: int) -> list[str]:
    counts = {name: outcome.calls[name] for name in ("webhooks_delivered", "status_calls")}
    return [f"{name} is {count}, not {expected}" for name, count in counts.items() if count != expected]


def _promises(outcome: Outcome) -> Iterator[tuple[str, list[str]]]:
    spoken = [exhibit for exhibit in outcome.exhibits if exhibit.is_audio]
    originals = [exhibit for exhibit in spoken if not exhibit.copy_of]
    copies = [exhibit for exhibit in spoken if exhibit.copy_of]
    others = [exhibit for exhibit in outcome.exhibits if not exhibit.is_audio]
    yield (
        f"{len(spoken)} recordings are in done/, their transcripts in outbox/",
        [problem for exhibit in spoken for problem in _transcript_problems(outcome, exhibit)],
    )
    yield (
        f"{len(others)} file that is not a recording is in failed/, with an error file",
        [problem for exhibit in others for problem in _failure_problems(outcome, exhibit)],
    )
    if outcome.webhook:
        yield (
            "every result came by webhook, and was confirmed by one poll",
            _webhook_problems(outcome, len(originals)),
        )
    yield (
        f"{len(originals)} recordings were uploaded, each exactly once",
        [problem for exhibit in originals for problem in _upload_problems(outcome, exhibit, 1)],
    )
    yield (
        "the copy got its original's transcript; it and the letter were not uploaded",
        [problem for exhibit in copies for problem in _copy_problems(outcome, exhibit)]
        + [problem for exhibit in others for problem in _upload_problems(outcome, exhibit, 0)],
    )
    status = outcome.daemon_status
    yield "the daemon stopped on request", [f"it exited with status {status}"] if status else []


def _transcript_problems(outcome: Outcome, exhibit: Exhibit) -> Iterator[str]:
    yield from _place_problems(outcome, exhibit, State.DONE)
    transcript, captions = (_output(outcome, exhibit.path, suffix) for suffix in (".json", ".srt"))
    if not transcript.exists() or not json.loads(transcript.read_text())["text"].strip():
        yield f"{exhibit.path}: {shown(transcript)} has no words"
    if not captions.exists() or " --> " not in captions.read_text():
        yield f"{exhibit.path}: {shown(captions)} has no captions"


def _failure_problems(outcome: Outcome, exhibit: Exhibit) -> Iterator[str]:
    yield from _place_problems(outcome, exhibit, State.FAILED)
    if not _error_file(outcome, exhibit).exists():
        yield f"{exhibit.path}: there is no {shown(_error_file(outcome, exhibit))}"


def _place_problems(outcome: Outcome, exhibit: Exhibit, state: State) -> Iterator[str]:
    job = outcome.jobs.get(exhibit.path)
    if job is None or job.state is not state:
        yield f"{exhibit.path}: it is {job.state if job else 'not claimed'}, not {state}"
    if not (outcome.folder / state / exhibit.path).is_file():
        yield f"{exhibit.path}: it is not in {state}/"
    if (outcome.folder / "inbox" / exhibit.path).exists():
        yield f"{exhibit.path}: it is still in the inbox"


def _upload_problems(outcome: Outcome, exhibit: Exhibit, expected: int) -> Iterator[str]:
    uploads = sum(
        request["uploads"] for request in outcome.calls["requests"] if request["sha256"] == exhibit.sha256
    )
    if uploads != expected:
        yield f"{exhibit.path}: the API received it {uploads} times"


def _copy_problems(outcome: Outcome, exhibit: Exhibit) -> Iterator[str]:
    job = outcome.jobs.get(exhibit.path)
    if job is None or job.delivered_by != "reuse":
        yield f"{exhibit.path}: its transcript did not come from {exhibit.copy_of}"


def _output(outcome: Outcome, path: str, suffix: str) -> Path:
    return outcome.folder / "outbox" / Path(path).with_suffix(suffix)


def _error_file(outcome: Outcome, exhibit: Exhibit) -> Path:
    return outcome.folder / "failed" / f"{exhibit.path}{ERROR_SUFFIX}"


# ---- what to do next ---------------------------------------------------------------------------------------


def _show_next(console: Console, outcome: Outcome) -> None:
    folder, program = outcome.folder, invocation()
    quoted = shlex.quote(shown(folder))
    failed = next((job.id for job in outcome.jobs.values() if job.state is State.FAILED), "ID")
    done = next((job.id for job in outcome.jobs.values() if job.state is State.DONE), "ID")
    console.print(f"\nAll files are in {shown(folder)}, the daemon's log is {shown(folder / LOG)}")
    _commands(
        console,
        "Inspect the recordings:",
        f"export INVOX_WATCHER_CONFIG={shlex.quote(str(folder / CONFIGURATION))}",
        f"{program} jobs --all",
        f"{program} show {done}",
    )
    _commands(
        console,
        "Retry the letter (it is still not a recording, and will fail again):",
        f"{program} retry {failed}",
    )
    _commands(
        console,
        "Try your own recording, with these commands in three terminals:",
        f"{program} sandbox --folder {quoted}",
        f"{program} run --config {quoted}/{CONFIGURATION}",
        f"cp RECORDING {quoted}/inbox/",
    )


def _commands(console: Console, title: str, *commands: str) -> None:
    console.print(f"\n{title}", style="bold")
    for command in commands:
        console.print(f"  {command}")
