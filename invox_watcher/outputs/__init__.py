"""The delivered files as bytes: transcripts in each format, and error files. Pure functions."""

from __future__ import annotations

from invox_watcher.outputs.delivery import Delivery, Prepared, Source
from invox_watcher.outputs.error_file import FailureReport, render_error
from invox_watcher.outputs.formats import MEDIA_TYPES, OutputFormat, render

__all__ = [
    "MEDIA_TYPES",
    "Delivery",
    "FailureReport",
    "OutputFormat",
    "Prepared",
    "Source",
    "render",
    "render_error",
]
