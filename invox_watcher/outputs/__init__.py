"""The delivered files as bytes: transcripts in each format, and error files. Pure functions."""

from __future__ import annotations

from invox_watcher.outputs.delivery import Delivery, Source
from invox_watcher.outputs.error_file import error_file
from invox_watcher.outputs.formats import OutputFormat, render

__all__ = [
    "Delivery",
    "OutputFormat",
    "Source",
    "error_file",
    "render",
]
