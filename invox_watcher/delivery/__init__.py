"""Where transcripts go besides the outbox: one module for each kind of target, and what sends to them.

The kinds are not among these names: `target_of_kind` builds them, and each loads libraries of its own.
"""

from __future__ import annotations

from invox_watcher.delivery.command import Command, CommandResult, facts_of, run_command
from invox_watcher.delivery.dispatcher import Dispatcher, Pace, Send, TargetHealth
from invox_watcher.delivery.kinds import target_of_kind
from invox_watcher.delivery.orders import GIVE_UP, SEND_AGAIN, Orders
from invox_watcher.delivery.target import GIVEN_FIELDS, Document, Shipment, Target

__all__ = [
    "GIVEN_FIELDS",
    "GIVE_UP",
    "SEND_AGAIN",
    "Command",
    "CommandResult",
    "Dispatcher",
    "Document",
    "Orders",
    "Pace",
    "Send",
    "Shipment",
    "Target",
    "TargetHealth",
    "facts_of",
    "run_command",
    "target_of_kind",
]
