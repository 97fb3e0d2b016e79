"""Makes the default template of the package: `python -m tests.kit.docx_template`.

The same content each time, so that a test can tell whether the file in the package is this one.
"""

from __future__ import annotations

import io
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

from docx import Document
from docx.enum.table import WD_TABLE_ALIGNMENT
from docx.enum.text import WD_TAB_ALIGNMENT
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Mm, Pt, RGBColor

TEMPLATE = Path(__file__).parents[2] / "invox_watcher" / "outputs" / "templates" / "default.docx"
_FONT = "Arial"
_GREY, _RED, _BLUE = RGBColor(0x59, 0x63, 0x6E), RGBColor(0x9A, 0x34, 0x12), RGBColor(0x1F, 0x3A, 0x5F)
_TEXT_WIDTH = Mm(210 - 25 - 20)
_WIDTHS = (Mm(32), Mm(133))
_FACTS = [
    ("Author", "{{ author }}", "author is defined"),
    ("Patient", "{{ patient_name }}", "patient_name is defined"),
    ("Patient ID", "{{ patient_id }}", "patient_id is defined"),
    ("Recorded", '{{ recorded_at.strftime("%Y-%m-%d %H:%M") }}', "recorded_at"),
    ("Received", '{{ received_at.strftime("%Y-%m-%d %H:%M") }}', "not recorded_at"),
    ("Recording", "{{ recording }}{% if duration %} ({{ duration }}){% endif %}", ""),
    ("Job", "{{ job_id }}", "job_id"),
]


def template() -> bytes:
    """The content of the template."""
    document = Document()
    _set_up(document)
    heading = document.add_paragraph(style="Title")
    heading.add_run("Dictation of {{ date }}")
    _add_facts(document)
    _add_notice(
        document,
        "",
        "Not reviewed by a person.",
        " Written by automatic speech recognition. Compare it with the recording before it is used.",
    )
    _add_notice(
        document,
        "truncated",
        "The recording was cut off.",
        " Its end is missing here, too.",
    )
    document.add_paragraph("{%p for doubt in doubts %}")
    _add_notice(
        document,
        "",
        "Listen to {{ doubt.start }} – {{ doubt.end }}:",
        " {{ doubt.reason }}.",
    )
    document.add_paragraph("{%p endfor %}")
    _add_turns(document)
    _add_footer(document)
    return _packed(document)


def _set_up(document: Any) -> None:
    section = document.sections[0]
    section.page_width, section.page_height = Mm(210), Mm(297)
    section.left_margin, section.right_margin = Mm(25), Mm(20)
    section.top_margin, section.bottom_margin = Mm(22), Mm(22)
    section.footer_distance = Mm(11)
    _font(document.styles["Normal"], 10.5)
    document.styles["Normal"].paragraph_format.line_spacing = 1.2
    document.styles["Normal"].paragraph_format.space_after = Pt(0)
    title = document.styles["Title"]
    _font(title, 19, _BLUE)
    title.paragraph_format.space_after = Pt(10)
    borders = title.element.pPr.find(qn("w:pBdr"))
    if borders is not None:
        title.element.pPr.remove(borders)
    properties = document.core_properties
    properties.title, properties.author, properties.comments = "Dictation {{ name }}", "", ""
    properties.created = properties.modified = datetime(2026, 11, 28)


def _font(style: Any, points: float, colour: RGBColor | None = None) -> None:
    style.font.name, style.font.size = _FONT, Pt(points)
    fonts = style.element.get_or_add_rPr().get_or_add_rFonts()
    for theme in ("asciiTheme", "hAnsiTheme", "eastAsiaTheme", "cstheme"):
        fonts.attrib.pop(qn(f"w:{theme}"), None)
    for script in ("ascii", "hAnsi", "cs"):
        fonts.set(qn(f"w:{script}"), _FONT)
    if colour is not None:
        style.font.color.rgb = colour


def _add_facts(document: Any) -> None:
    """A row for each fact that there is."""
    table = document.add_table(rows=0, cols=2)
    table.alignment = WD_TABLE_ALIGNMENT.LEFT
    table.autofit = False
    for column, width in zip(table.columns, _WIDTHS, strict=True):
        column.width = width
    for name, value, condition in _FACTS:
        if condition:
            _row(table, f"{{%tr if {condition} %}}", "")
        _row(table, name, value)
        if condition:
            _row(table, "{%tr endif %}", "")
    _border(table._tbl.tblPr, "w:tblBorders", ("top", "bottom"), "C8CED6")
    document.add_paragraph().paragraph_format.line_spacing = 0.6


def _row(table: Any, name: str, value: str) -> None:
    cells = table.add_row().cells
    for cell, text, width in zip(cells, (name, value), _WIDTHS, strict=True):
        cell.width = width
        paragraph = cell.paragraphs[0]
        paragraph.paragraph_format.space_before = paragraph.paragraph_format.space_after = Pt(1.5)
        run = paragraph.add_run(text)
        run.font.size = Pt(9.5)
        if text == name:
            run.font.color.rgb = _GREY


def _add_notice(document: Any, condition: str, first: str, more: str) -> None:
    """A paragraph that nobody overlooks."""
    if condition:
        document.add_paragraph(f"{{%p if {condition} %}}")
    paragraph = document.add_paragraph()
    paragraph.paragraph_format.space_after = Pt(5)
    paragraph.paragraph_format.left_indent = Mm(3)
    _border(paragraph._p.get_or_add_pPr(), "w:pBdr", ("left",), str(_RED), size=24, space=7)
    run = paragraph.add_run(first)
    run.bold, run.font.color.rgb = True, _RED
    paragraph.add_run(more).font.color.rgb = _RED
    if condition:
        document.add_paragraph("{%p endif %}")


def _add_turns(document: Any) -> None:
    document.add_paragraph("{%p for turn in turns %}")
    label = document.add_paragraph()
    label.paragraph_format.space_before, label.paragraph_format.space_after = Pt(10), Pt(2)
    label.paragraph_format.keep_with_next = True
    speaker = label.add_run("{% if turn.speaker %}{{ turn.speaker }}  {% endif %}")
    speaker.bold, speaker.font.size, speaker.font.color.rgb = True, Pt(9.5), _BLUE
    time = label.add_run("{{ turn.start }} – {{ turn.end }}")
    time.font.size, time.font.color.rgb = Pt(8.5), _GREY
    document.add_paragraph("{{ turn.text }}").paragraph_format.widow_control = True
    document.add_paragraph("{%p endfor %}")
    document.add_paragraph("{%p if not turns %}")
    document.add_paragraph().add_run("There are no words in this recording.").italic = True
    document.add_paragraph("{%p endif %}")


def _add_footer(document: Any) -> None:
    footer = document.sections[0].footer.paragraphs[0]
    footer.paragraph_format.tab_stops.clear_all()
    footer.paragraph_format.tab_stops.add_tab_stop(_TEXT_WIDTH, WD_TAB_ALIGNMENT.RIGHT)
    footer.style = document.styles["Normal"]
    _small(footer, "{{ name }} · not reviewed by a person\tPage ")
    _field(footer, "PAGE")
    _small(footer, " of ")
    _field(footer, "NUMPAGES")


def _small(paragraph: Any, text: str) -> Any:
    run = paragraph.add_run(text)
    run.font.size, run.font.color.rgb = Pt(8), _GREY
    return run


def _field(paragraph: Any, instruction: str) -> None:
    """What Word fills in itself, such as the page's number."""
    for kind, text in (("begin", ""), ("", instruction), ("separate", ""), ("text", "1"), ("end", "")):
        run = _small(paragraph, text if kind == "text" else "")
        if kind == "text":
            continue
        element = OxmlElement("w:fldChar" if kind else "w:instrText")
        if kind:
            element.set(qn("w:fldCharType"), kind)
        else:
            element.text = f" {text} "
        run._r.append(element)


def _border(
    parent: Any, tag: str, sides: tuple[str, ...], colour: str, *, size: int = 4, space: int = 0
) -> None:
    borders = OxmlElement(tag)
    for side in sides:
        line = OxmlElement(f"w:{side}")
        for name, value in (("val", "single"), ("sz", str(size)), ("space", str(space)), ("color", colour)):
            line.set(qn(f"w:{name}"), value)
        borders.append(line)
    later = (
        "w:shd",
        "w:tabs",
        "w:spacing",
        "w:ind",
        "w:jc",
        "w:rPr",
        "w:tblLayout",
        "w:tblCellMar",
        "w:tblLook",
    )
    following = [child for child in parent if child.tag in map(qn, later)]
    if following:
        following[0].addprevious(borders)
    else:
        parent.append(borders)


def _packed(document: Any) -> bytes:
    package = document.part.package
    for key, relation in [*package.rels.items()]:
        if relation.reltype.endswith("/thumbnail"):  # a picture of python-docx's own template
            del package.rels[key]
    made, packed = io.BytesIO(), io.BytesIO()
    document.save(made)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(packed, "w") as repacked:
        for name in sorted(source.namelist()):
            repacked.writestr(zipfile.ZipInfo(name), source.read(name), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


if __name__ == "__main__":
    TEMPLATE.write_bytes(template())
