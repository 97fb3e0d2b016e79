"""The delivered files as bytes: transcripts in each format, and error files. Pure functions."""

from __future__ import annotations

from invox_watcher.outputs.delivery import Delivery, Prepared, Source
from invox_watcher.outputs.document_fields import DOUBTS, FIELDS, HEADER_ATTRIBUTES
from invox_watcher.outputs.error_file import FailureReport, render_error
from invox_watcher.outputs.formats import (
    INSTALL_DOCX,
    MEDIA_TYPES,
    OutputFormat,
    docx_is_installed,
    fields_of_template,
    is_document_of,
    render,
    spoken,
)

__all__ = [
    "DOUBTS",
    "FIELDS",
    "HEADER_ATTRIBUTES",
    "INSTALL_DOCX",
    "MEDIA_TYPES",
    "Delivery",
    "FailureReport",
    "OutputFormat",
    "Prepared",
    "Source",
    "docx_is_installed",
    "fields_of_template",
    "is_document_of",
    "render",
    "render_error",
    "spoken",
]
