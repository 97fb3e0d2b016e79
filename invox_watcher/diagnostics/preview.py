"""What a run would do with each file of the inbox now; nothing is moved, written or sent."""

from __future__ import annotations

import filecmp
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from invox_watcher.config import Config
from invox_watcher.diagnostics.explain import explain
from invox_watcher.diagnostics.explanation import Explanation, Verdict
from invox_watcher.errors import JournalError
from invox_watcher.job import ACTIVE
from invox_watcher.journal import Journal
from invox_watcher.layout import database_of


@dataclass(frozen=True)
class Preview:
    """One file: what would become of it, and whether that needs an upload."""

    path: str  # relative to the inbox
    size_bytes: int
    verdict: Verdict
    says: str
    uploaded: bool


def preview(config: Config) -> Iterator[Preview]:
    """Every file below the inbox, in the order of the names.

    Raises:
        NotPermittedError, JournalError: a file or the journal can't be read.
    """
    inbox = config.folders.inbox
    earlier: defaultdict[int, list[Path]] = defaultdict(list)  # by size
    for explanation in explain([inbox], config):
        file, verdict, says = explanation.file, explanation.verdict, _reason(explanation)
        size_bytes = os.lstat(file).st_size
        path, uploaded = os.path.relpath(file, inbox), verdict is Verdict.TAKEN
        if uploaded and config.intake.on_duplicate in ("reuse", "skip"):
            same = [one for one in earlier[size_bytes] if filecmp.cmp(one, file, shallow=False)]
            says = f"Same content as {os.path.relpath(same[0], inbox)}." if same else says
            earlier[size_bytes].append(file)
            known = any(step.about == "duplicate" and step.note for step in explanation.steps)
            uploaded = not same and not known
        yield Preview(path, size_bytes, verdict, says, uploaded)


def under_way(config: Config) -> int:
    """How many recordings a run would continue, which are in processing/ already."""
    try:
        with closing(Journal(config.state.directory, create=False, server=database_of(config))) as journal:
            counts = journal.counts()
    except JournalError as error:
        if error.code == "journal_missing":
            return 0
        raise
    return sum(counts.get(state, 0) for state in ACTIVE)


def _reason(explanation: Explanation) -> str:
    """The decisions that count: what it is, and its duplicate, or what is against it."""
    against = [step.says for step in explanation.steps if step.verdict is not Verdict.TAKEN]
    known = [step.says for step in explanation.steps if step.about == "duplicate" and step.note]
    content = [step.says for step in explanation.steps if step.about == "content"]
    return " ".join(against or known or content)
