"""Answers "would it work?" before the daemon runs: a list of findings, one subject after the other."""

from __future__ import annotations

from invox_watcher.diagnostics.check._finding import Finding
from invox_watcher.diagnostics.check._findings import findings

__all__ = ["Finding", "findings"]
