"""Where transcripts go besides the outbox: one module for each kind of target, and what sends to them."""

from __future__ import annotations

from invox_watcher.delivery.command import Command, CommandResult, facts_of, run_command
from invox_watcher.delivery.dispatcher import Dispatcher, Pace, Send, TargetHealth

__all__ = [
    "Command",
    "CommandResult",
    "Dispatcher",
    "Pace",
    "Send",
    "TargetHealth",
    "facts_of",
    "run_command",
]
