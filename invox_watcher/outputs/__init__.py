"""The delivered files as bytes: transcripts in each format, and error files. Pure functions."""

from __future__ import annotations

from invox_watcher.outputs.delivery import Delivery, Prepared, Source
from invox_watcher.outputs.error_file import FailureReport, render_error
from invox_watcher.outputs.formats import (
    INSTALL_DOCX,
    MEDIA_TYPES,
    OutputFormat,
    docx_is_installed,
    is_document_of,
    render,
)

__all__ = [
    "INSTALL_DOCX",
    "MEDIA_TYPES",
    "Delivery",
    "FailureReport",
    "OutputFormat",
    "Prepared",
    "Source",
    "docx_is_installed",
    "is_document_of",
    "render",
    "render_error",
]
