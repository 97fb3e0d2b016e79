"""Where transcripts go besides the outbox: one module for each kind of target."""

from __future__ import annotations

from invox_watcher.delivery.hooks import Commands, Hooks, facts_of, run_command

__all__ = [
    "Commands",
    "Hooks",
    "facts_of",
    "run_command",
]
