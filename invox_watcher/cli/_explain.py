"""`explain`: how files would be handled."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from invox_watcher.cli._common import config_of, journal_of
from invox_watcher.cli._text import print_indented
from invox_watcher.config import Config
from invox_watcher.diagnostics import timeline
from invox_watcher.diagnostics.explain import explain as explained
from invox_watcher.diagnostics.explanation import Explanation, Verdict
from invox_watcher.diagnostics.names import file_named, is_hashed_name, job_named, unknown_name
from invox_watcher.errors import ExitStatus, JournalError
from invox_watcher.layout import folders_of
from invox_watcher.logs import printable

_INDENT = 20


def explain(options: argparse.Namespace) -> ExitStatus:
    """Print each decision about each file, and the result."""
    config = config_of(options, credentials=False)
    paths = list(_paths(options.file, config))
    found = []
    for one in explained(paths, config):
        found.append(one)
        if not options.json:
            if len(found) > 1:
                print()
            _print(one, named=len(paths) > 1 or one.file != paths[0] or paths != options.file)
    if options.json:
        shown = [_as_json(one) for one in found]
        single = len(found) == 1 and paths == [found[0].file]
        print(json.dumps(shown[0] if single else shown, indent=2))
    return ExitStatus.OK if all(one.is_fine for one in found) else ExitStatus.SOME_FAILED


def _paths(given: list[Path], config: Config) -> Iterator[Path]:
    """The files that are meant: a name from the log is that of a file in the inbox, or of a recording."""
    for path in given:
        text = str(path)
        yield _path_of(text, config) if is_hashed_name(text) and not path.exists() else path


def _path_of(hashed: str, config: Config) -> Path:
    if (file := file_named(hashed, config.state.directory, config.folders.inbox)) is not None:
        return file
    try:
        with closing(journal_of(config)) as journal:
            job = job_named(hashed, config.state.directory, journal)
    except JournalError as error:
        if error.code != "journal_missing":
            raise
        job = None
    if job is None:
        raise unknown_name(hashed)
    places = timeline.whereabouts(job, (), folders_of(config))
    return next(
        (place.path for place in places if place.what == "recording"), config.folders.inbox / job.path
    )


def _print(found: Explanation, *, named: bool) -> None:
    if named:
        print(f"{printable(found.file)}:")
    for step in found.steps:
        fine = "note" if step.note else "ok"
        mark = fine if step.verdict in (Verdict.TAKEN, Verdict.UNDER_WAY) else step.verdict
        print_indented(f"{mark:<6}  {step.about:<10}", step.says, indent=_INDENT)
        if step.hint:
            print_indented("", step.hint, indent=_INDENT)
    print(found.summary)


def _as_json(found: Explanation) -> dict[str, object]:
    return {
        "file": str(found.file),
        "would_be_taken": found.is_fine,
        "verdict": found.verdict,
        "summary": found.summary,
        "steps": [dataclasses.asdict(step) for step in found.steps],
    }
