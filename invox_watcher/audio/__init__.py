"""Identifies audio: format, duration, and whether a file is complete. Reads headers, never a whole file."""

from __future__ import annotations

from invox_watcher.audio._attributes import attributes
from invox_watcher.audio._identify import current_mime_type, identify, mime_type
from invox_watcher.audio._info import AudioInfo, Completeness

__all__ = [
    "AudioInfo",
    "Completeness",
    "attributes",
    "current_mime_type",
    "identify",
    "mime_type",
]
