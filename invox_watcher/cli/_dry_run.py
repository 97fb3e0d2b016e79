"""`run --once --dry-run`: what `run --once` would do."""

from __future__ import annotations

from collections import Counter

from invox_watcher.config import Config
from invox_watcher.diagnostics.explanation import Verdict
from invox_watcher.diagnostics.preview import preview, under_way
from invox_watcher.errors import ExitStatus
from invox_watcher.logs import printable

_THEN = {
    Verdict.TAKEN: "would get a known transcript without an upload",
    Verdict.FAILED: "would be moved to failed/",
    Verdict.LATER: "would have to wait",
    Verdict.LEFT: "would be ignored",
}


def dry_run(config: Config) -> ExitStatus:
    """Print each file of the inbox with what would become of it, and the sum."""
    uploads, uploaded_bytes, others = 0, 0, Counter[Verdict]()
    for one in preview(config):
        word = "upload" if one.uploaded else {Verdict.TAKEN: "reuse"}.get(one.verdict, str(one.verdict))
        print(f"{word:<6}  {printable(one.path)}: {printable(one.says)}")
        if one.uploaded:
            uploads, uploaded_bytes = uploads + 1, uploaded_bytes + one.size_bytes
        else:
            others[one.verdict] += 1
    parts = [f"{uploads} would be uploaded ({uploaded_bytes} bytes)"]
    parts += [f"{others[verdict]} {then}" for verdict, then in _THEN.items() if others[verdict]]
    if count := under_way(config):
        parts.append(f"{count} under way would be continued")
    print(f"{', '.join(parts)}. Nothing was moved, written or sent.")
    return ExitStatus.OK
