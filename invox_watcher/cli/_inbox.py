"""`inbox`: what is in the inbox and was not taken, with the reason and what to do."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Sequence

from invox_watcher.cli._common import config_of, local
from invox_watcher.cli._text import columns, print_indented
from invox_watcher.diagnostics.figures import duration
from invox_watcher.diagnostics.inbox_list import STAGES, Entry, list_inbox
from invox_watcher.errors import ExitStatus
from invox_watcher.logs import printable
from invox_watcher.times import rfc3339, seconds_since

_INDENT = 12


def inbox(options: argparse.Namespace) -> ExitStatus:
    """Print each file with its stage, reason and age."""
    found = list_inbox(config_of(options, credentials=False)).entries
    if options.json:
        rows = [dataclasses.asdict(entry) | {"since": rfc3339(entry.since)} for entry in found]
        print(json.dumps(rows, indent=2))
    elif not found:
        print("Nothing is waiting in the inbox.")
    elif columns() is None:
        for entry in found:
            line = f"{entry.stage:<10}  {local(entry.since)}  {printable(entry.path)}"
            print(f"{line}  {entry.code}: {printable(entry.reason)}")
    else:
        _print(found)
    return ExitStatus.OK


def _print(found: Sequence[Entry]) -> None:
    for entry in found:
        print(f"{entry.stage:<{_INDENT}}{printable(entry.path)}")
        age = f"since {local(entry.since)} ({duration(seconds_since(entry.since))})"
        print_indented("", f"{age}. {entry.reason}", indent=_INDENT)
        if entry.hint:
            print_indented("", entry.hint, indent=_INDENT)
    counts = Counter(entry.stage for entry in found)
    print(", ".join(f"{counts[stage]} {stage}" for stage in STAGES if counts[stage]))
