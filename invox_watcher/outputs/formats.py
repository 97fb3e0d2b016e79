"""Renders a transcript in each output format: JSON, SRT, VTT, TXT and DOCX, as bytes.

The same `Delivery`, and for DOCX the same template, always give the same bytes, so files can be written again
after a crash. Text files are UTF-8 without a byte order mark, with LF line ends, which every current SRT
player reads.
"""

from __future__ import annotations

import importlib.util
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from invox_watcher.errors import TemplateError
from invox_watcher.outputs.captions import clean, prefix, srt, vtt
from invox_watcher.outputs.delivery import Delivery
from invox_watcher.outputs.document_fields import TemplateFields, label, words
from invox_watcher.outputs.transcript_json import transcript_json
from invox_watcher.transcript import Segment, Transcript

if TYPE_CHECKING:
    from invox_watcher.outputs.docx import Template

OutputFormat = Literal["json", "srt", "vtt", "txt", "docx"]
MEDIA_TYPES: Mapping[OutputFormat, str] = {
    "json": "application/json",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "txt": "text/plain",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
INSTALL_DOCX = (
    "pip install 'PATH[docx]', where PATH is the wheel or the clone that invox-watcher was installed from "
    "(the Debian package has it)"
)


def docx_is_installed() -> bool:
    """Whether the extra `docx` is. Imports nothing."""
    return importlib.util.find_spec("docxtpl") is not None


def render(
    delivery: Delivery,
    format: OutputFormat,
    speaker_names: Mapping[str, str],
    template: str | None = None,
) -> bytes:
    """The content of one output file. A transcript without words gives an empty SRT and TXT.

    `speaker_names` maps labels (`Speaker_00`) to the names shown instead; JSON keeps the labels. `template`
    is the path of the template for DOCX, None for the one in the package.

    Raises:
        TemplateError: the document can't be made with this template, or without the extra.
    """
    if format == "json":
        return transcript_json(delivery)
    if format == "docx":
        return _template(template).render(delivery, speaker_names)
    return _TEXT_FORMATS[format](spoken(delivery.transcript, speaker_names)).encode("utf-8")


def spoken(transcript: Transcript, speaker_names: Mapping[str, str]) -> list[Segment]:
    """The segments that have words, with the names of their speakers instead of labels."""
    return [
        Segment(segment.text, segment.start, segment.end, label(segment.speaker, speaker_names))
        for segment in transcript.segments
        if clean(segment.text)
    ]


def fields_of_template(template: str | None, example: Delivery) -> TemplateFields:
    """What a template for DOCX uses, found out by making a document of `example` with it.

    Raises:
        TemplateError: it can't be used at all.
    """
    return _template(template).fields(example)


def _template(path: str | None) -> Template:
    if not docx_is_installed():
        raise TemplateError("The format docx is not installed.", code="docx_not_installed", hint=INSTALL_DOCX)
    from invox_watcher.outputs.docx import Template  # noqa: PLC0415 - an extra

    return Template.read(path)


def is_document_of(content: bytes, job_id: str) -> bool:
    """Whether `content` is DOCX made for that job, with whatever template."""
    import zipfile  # noqa: PLC0415 - not for every recording

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            return f"<dc:identifier>{job_id}</dc:identifier>".encode() in package.read("docProps/core.xml")
    except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError, RuntimeError, EOFError):
        return False


def _txt(segments: Sequence[Segment]) -> str:
    """One paragraph for each turn of a speaker, with the line breaks of the API's text."""
    paragraphs = []
    for speaker, turn in groupby(segments, key=lambda segment: segment.speaker):
        paragraphs.append(f"{prefix(speaker)}{' '.join(map(words, turn))}\n")
    return "\n".join(paragraphs)


_TEXT_FORMATS: dict[str, Callable[[Sequence[Segment]], str]] = {"srt": srt, "vtt": vtt, "txt": _txt}
