"""Templates for documents, and a reader of documents that is not the code under test."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

from docx import Document

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


def template(*paragraphs: str, header: str = "", title: str = "") -> bytes:
    """A template with these paragraphs."""
    document = Document()
    for text in paragraphs:
        document.add_paragraph(text)
    if header:
        document.sections[0].header.paragraphs[0].text = header
    document.core_properties.title = title
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def with_footnote(content: bytes, text: str) -> bytes:
    """The document with a footnote, and with a second section."""
    made = io.BytesIO()
    part = "word/footnotes.xml"
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
    name = WORD[1:-1]
    changes = {
        "[Content_Types].xml": ("</Types>", f'<Override PartName="/{part}" ContentType="{kind}"/></Types>'),
        "word/_rels/document.xml.rels": (
            "</Relationships>",
            f'<Relationship Id="rId99" Type="{relation}" Target="footnotes.xml"/></Relationships>',
        ),
        "word/document.xml": ("<w:sectPr ", "<w:p><w:pPr><w:sectPr/></w:pPr></w:p><w:sectPr "),
    }
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(made, "w") as target:
        for member in source.namelist():
            old, new = changes.get(member, ("", ""))
            xml = source.read(member)
            if old:
                assert old.encode() in xml
                xml = xml.replace(old.encode(), new.encode(), 1)
            target.writestr(member, xml)
        note = f'<w:footnote w:id="2"><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:footnote>'
        target.writestr(part, f'<w:footnotes xmlns:w="{name}">{note}</w:footnotes>')
    return made.getvalue()


def with_table(content: bytes, text: str) -> bytes:
    """The document with a table of one cell at its beginning."""
    document = Document(io.BytesIO(content))
    table = document.add_table(1, 1)
    table.cell(0, 0).text = text
    document.element.body.insert(0, table._tbl)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def text_of(content: bytes, part: str = "word/document.xml") -> str:
    """The text of one part, a line for each paragraph, read without python-docx."""
    with zipfile.ZipFile(io.BytesIO(content)) as package:
        root = ET.fromstring(package.read(part))
    marks = {f"{WORD}br": "\n", f"{WORD}tab": "\t"}
    return "\n".join(
        "".join(
            marks.get(child.tag, child.text or "")
            for child in paragraph.iter()
            if child.tag in (f"{WORD}t", *marks)
        )
        for paragraph in root.iter(f"{WORD}p")
    )


def save(path: Path, *paragraphs: str) -> Path:
    """Write a template with these paragraphs to `path`."""
    path.write_bytes(template(*paragraphs))
    return path
