"""From the configuration to finished parts: one function for each, and `assemble` for all of a daemon's.

`check` and other commands use single parts. Nothing else in the package takes the configuration apart.
"""

from __future__ import annotations

from invox_watcher.assembly.api import api_of, client_of
from invox_watcher.assembly.delivery import (
    ON_DONE,
    ON_FAILED,
    commands_of,
    target_names_of,
    target_of,
    targets_of,
)
from invox_watcher.assembly.parts import Parts, assemble
from invox_watcher.assembly.processing import decoder_of, single_of
from invox_watcher.assembly.storage import (
    claim_folders,
    fleet_to_join,
    release_others,
    require_no_other_journal,
    waits_of,
)

__all__ = [
    "ON_DONE",
    "ON_FAILED",
    "Parts",
    "api_of",
    "assemble",
    "claim_folders",
    "client_of",
    "commands_of",
    "decoder_of",
    "fleet_to_join",
    "release_others",
    "require_no_other_journal",
    "single_of",
    "target_names_of",
    "target_of",
    "targets_of",
    "waits_of",
]
