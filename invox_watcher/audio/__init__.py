"""What a file is: its format, its duration, and whether it is whole. Reads headers, never all of a file."""

from __future__ import annotations

from invox_watcher.audio._identify import current_mime_type, identify, mime_type
from invox_watcher.audio._info import AudioInfo, Completeness

__all__ = [
    "AudioInfo",
    "Completeness",
    "current_mime_type",
    "identify",
    "mime_type",
]
