"""Where transcripts go besides the outbox: one module for each kind of target, and commands.

The kinds are not among these names: only the assembly needs them, and each loads libraries of its own.
"""

from __future__ import annotations

from invox_watcher.delivery.hooks import Commands, Hooks
from invox_watcher.delivery.target import GIVEN_FIELDS, Document, Shipment, Target

__all__ = [
    "GIVEN_FIELDS",
    "Commands",
    "Document",
    "Hooks",
    "Shipment",
    "Target",
]
