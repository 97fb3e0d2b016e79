"""`invox-watcher demo`: the main job against the embedded sandbox, and what came of it."""

from __future__ import annotations

from invox_watcher.demo._run import run_demo

__all__ = [
    "run_demo",
]
