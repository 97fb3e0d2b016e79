"""`invox-watcher demo`: the whole workflow with the built-in sandbox, and its result."""

from __future__ import annotations

from invox_watcher.demo._run import run_demo

__all__ = [
    "run_demo",
]
