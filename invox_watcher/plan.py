"""`Plan`: what is to be done with one recording, fixed when it is claimed.

A reload of the configuration changes it for no recording under way, and what is rendered depends on the
journal and the template alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from invox_watcher.priority import Priority

DEFAULT = "default"  # the profile of what matches none


@dataclass(frozen=True)
class Plan:
    """What the profile of a recording says about it, with the options that it leaves to the configuration."""

    profile: str
    formats: tuple[str, ...]
    speaker_names: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(
        default_factory=dict
    )  # the recording's own, its name's, the profile's
    priority: Priority = Priority.ROUTINE
    template: str | None = None  # path of a document's template
    targets: tuple[str, ...] = ()  # names
    # Added to the request for an upload address. Placeholders for credentials are filled in only there.
    presign_fields: Mapping[str, Any] = field(default_factory=dict)
