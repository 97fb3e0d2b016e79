"""`explain`: how a file would be handled."""

from __future__ import annotations

import argparse
import dataclasses
import json

from invox_watcher.cli._common import config_of
from invox_watcher.diagnostics.explain import Explanation, Verdict
from invox_watcher.diagnostics.explain import explain as explained
from invox_watcher.errors import ExitStatus
from invox_watcher.logs import printable


def explain(options: argparse.Namespace) -> ExitStatus:
    """Print each decision about one file, and the result."""
    found = explained(options.file, config_of(options, credentials=False))
    if options.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        for step in found.steps:
            fine = "note" if step.note else "ok"
            mark = fine if step.verdict is Verdict.TAKEN else step.verdict
            print(f"{mark:<6}  {step.about:<10}  {printable(step.says)}")
            if step.hint:
                print(f"{'':<20}{printable(step.hint)}")
        print(found.summary)
    return ExitStatus.OK if found.verdict is Verdict.TAKEN else ExitStatus.SOME_FAILED


def _as_json(found: Explanation) -> dict[str, object]:
    return {
        "file": str(found.file),
        "would_be_taken": found.verdict is Verdict.TAKEN,
        "verdict": found.verdict,
        "summary": found.summary,
        "steps": [dataclasses.asdict(step) for step in found.steps],
    }
