"""Documents from templates: every field, hostile words, equal bytes, and what a broken template says."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invox_watcher.errors import TargetRefusedError, TargetUnavailableError, TemplateError
from invox_watcher.job import Job, State
from invox_watcher.outputs import Delivery, Prepared, is_document_of, render
from invox_watcher.outputs.document_fields import FIELDS, for_xml
from invox_watcher.outputs.docx import Template
from invox_watcher.plan import Plan
from invox_watcher.processing import shipment_of
from invox_watcher.recording import FileIdentity
from invox_watcher.suspicion import Doubt, Suspicion
from invox_watcher.transcript import Segment
from tests.kit.captions import CONVERSATION, NAMES, delivery
from tests.kit.documents import save, template, text_of, with_footnote, with_table
from tests.kit.docx_template import TEMPLATE
from tests.kit.docx_template import template as default_template

PAGE = Path(__file__).parent.parent.parent / "docs" / "docx.md"
DICTATION = delivery(
    *CONVERSATION,
    completed_at=datetime(2026, 11, 23, 18, 55, tzinfo=UTC),
    suspect=(Suspicion(Doubt.TOO_FEW_WORDS, 61.0, 3700.5),),
    prepared=Prepared("audio/flac", 1, "0" * 64, truncated=True),
    attributes={"author": "Dr. Öberg", "recorded_at": "2026-11-22T12:00:00+00:00", "date": "never"},
)


def made(content: bytes, of: Delivery = DICTATION) -> bytes:
    return Template(content, "letter.docx").render(of, NAMES)


def shown(*paragraphs: str, of: Delivery = DICTATION) -> str:
    return text_of(made(template(*paragraphs), of))


EXPECTED: dict[str, str] = {
    "text": "Doctor: Hello, how are you?\n\nSpeaker_01: Better. The swelling is gone.",
    "turn.speaker": "Doctor",
    "turn.text": "Hello, how are you?",
    "turn.start": "0:00",
    "turn.end": "0:02",
    "turn.start_seconds": "0.5",
    "turn.end_seconds": "2.2",
    "speakers": "('Doctor', 'Speaker_01')",
    "recording": "smith.wav",
    "name": "smith",
    "folder": "ward3",
    "job_id": "20261123t185056-9f2c41d07ab3",
    "date": "2026-11-22",
    "duration": "0:06",
    "duration_seconds": "6.25",
    "truncated": "True",
    "doubt.reason": "there may be words missing",
    "doubt.start": "1:01",
    "doubt.end": "1:01:40",
    "attributes": str(DICTATION.attributes),
    "turns": "2",
    "doubts": "1",
}


def documented() -> list[str]:
    return re.findall(r"^\| `([\w.]+)` \| .+ \|$", PAGE.read_text(), re.MULTILINE)


def test_the_page_names_every_field_and_no_other() -> None:
    assert sorted(name for name in documented() if "." not in name) == sorted(FIELDS)
    assert documented()


@pytest.mark.parametrize("field", documented())
def test_every_documented_field_is_filled_in(field: str) -> None:
    before = {"turn": "{%p for turn in turns[:1] %}", "doubt": "{%p for doubt in doubts %}"}
    loop = before.get(field.partition(".")[0]) if "." in field else None
    value = f"{field} | length" if field in ("turns", "doubts") else field
    text = shown(*([loop] if loop else []), f"{{{{ {value} }}}}", *(["{%p endfor %}"] if loop else []))
    if field in EXPECTED:
        assert text == EXPECTED[field]
    else:
        assert datetime.fromisoformat(text).tzinfo is not None
        assert shown(f"{{{{ {field}.strftime('%Y') }}}}") == "2026"


def test_attributes_are_fields_too() -> None:
    assert shown("{{ author }} {{ attributes.date }} {{ unit | default('-') }}") == "Dr. Öberg never -"


HOSTILE = {
    "an element": "</w:t></w:r></w:p><w:p><w:r><w:t>x",
    "an entity": "&lt; &#60; &nope; & < > \" '",
    "the end of CDATA": "]]> <![CDATA[ <!-- -->",
    "a value": "{{ 7 * 7 }} {{ job_id }}",
    "a tag": "{% raw %} {%p for x in y %} {# gone #}",
    "escapes of docxtpl": "{_{ x }_} {_% y %_}",
    "a processing instruction": '<?xml version="1.0"?>',
    "other scripts": "スミス עברית 🙂 é",
}


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE.keys())
def test_words_and_names_stay_what_they_are(words: str) -> None:
    spoken = delivery(Segment(words, 0.0, 1.0, "Speaker_01"), attributes={"author": words})
    of = replace(spoken, source=replace(spoken.source, name=f"ward3/{words.replace('/', '|')}.wav"))
    lines = ("{{ turns[0].text }}", "{{ author }}", "{% autoescape false %}{{ author }}{% endautoescape %}")
    content = with_footnote(template(*lines, header="{{ name }}", title="{{ author }}"), "{{ author }}")
    document = made(content, of)
    assert text_of(document).split("\n")[:3] == [words] * 3
    assert text_of(document, "word/header1.xml") == words.replace("/", "|")
    assert text_of(document, "word/footnotes.xml") == words
    with zipfile.ZipFile(io.BytesIO(document)) as package:
        properties = package.read("docProps/core.xml").decode()
    assert words in re.sub("&lt;", "<", re.sub("&gt;", ">", properties)).replace("&amp;", "&")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x00b\x0b\x0c\x1f\x7fc", "abc\x7f".replace("c\x7f", "\x7fc")),
        ("\ufffe\uffff\ud800x", "x"),
        ("a\r\nb\rc\td", "a\nb\nc\td"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_what_xml_does_not_have_is_left_out(text: str, expected: str) -> None:
    assert for_xml(text) == expected
    assert shown("{{ author }}", of=delivery(attributes={"author": text})).replace("\ufffd", "") == expected


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters() | st.sampled_from(list("{}%#<>&\x00\x0b\ud800\n")), max_size=80))
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    of = delivery(attributes={"author": text})
    expected = for_xml(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    assert shown("<{{ author }}>", of=of) == f"<{expected}>"


def test_nothing_of_the_time_is_in_a_document() -> None:
    with zipfile.ZipFile(io.BytesIO(render(DICTATION, "docx", NAMES))) as package:
        assert {member.date_time for member in package.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert package.namelist()[0] == "[Content_Types].xml"
        assert b"2026-11-23T18:55:00Z" in package.read("docProps/core.xml")  # when the text was there


def test_a_document_is_known_by_its_job() -> None:
    content = made(template("a"))
    assert is_document_of(content, "20261123t185056-9f2c41d07ab3")
    assert not is_document_of(content, "20261123t185056-9f2c41d07ab4")
    assert not is_document_of(content[:200], "20261123t185056-9f2c41d07ab3")
    assert not is_document_of(template("a"), "20261123t185056-9f2c41d07ab3")


class TestDefault:
    def test_it_is_what_the_script_makes(self) -> None:
        with zipfile.ZipFile(TEMPLATE) as kept, zipfile.ZipFile(io.BytesIO(default_template())) as now:
            for part in ("word/document.xml", "word/footer1.xml", "word/styles.xml"):
                assert kept.read(part) == now.read(part)

    def test_it_says_all_that_is_known(self) -> None:
        lines = text_of(render(DICTATION, "docx", NAMES)).split("\n")
        assert lines[0] == "Dictation of 2026-11-22"
        assert [line for line in lines if line.startswith("Not reviewed by a person.")]
        for line in ("Dr. Öberg", "smith.wav (0:06)", "20261123t185056-9f2c41d07ab3", "Doctor  0:00 – 0:02"):
            assert line in lines
        assert "Listen to 1:01 – 1:01:40: there may be words missing." in lines
        assert "The recording was cut off. Its end is missing here, too." in lines
        assert lines[-3:] == [
            "Hello, how are you?",
            "Speaker_01  0:02 – 0:06",
            "Better. The swelling is gone.",
        ]

    def test_it_needs_no_attribute_and_no_words(self) -> None:
        lines = text_of(render(delivery(job_id=None), "docx", {})).split("\n")
        assert "Author" not in lines
        assert "Job" not in lines
        assert lines[-1] == "There are no words in this recording."
        assert Template.read(None).fields(DICTATION).required <= {*FIELDS}


BROKEN = [
    (template("{% if %}"), "is broken: Expected an expression"),
    (template("{%p fro x in turns %}"), "is broken: Encountered unknown tag 'fro'"),
    (template("{{ text | safe }}"), "is broken: No filter named 'safe'"),
    (template("{{ ''.__class__.__mro__ }}"), "is broken"),
    (template("{% if text %}</w:p>", "{% for turn in turns %}", "x"), "is broken"),
    (with_table(template("{% endif %}"), "{% if not text %}"), "is broken: what comes out is not a document"),
    (template("{{p text }}"), "is broken: a value is outside of the text"),
    (template("a {{r text }}", header="{{r text }}"), "is broken: a value is outside of the text"),
    (template("{{ turns[0].speeker }}"), "is broken: there is no speeker where it uses one"),
    (template("{{ attributes[author] }}"), "is broken: it uses a field that does not exist"),
    (template("{{ 1 / 0 }}"), "is broken: it is not a DOCX file, or an expression fails (ZeroDivisionError)"),
    (b"no ZIP at all", "is broken: it is not a DOCX file"),
    (b"", "is broken: it is not a DOCX file"),
    (template("{{ patient_id }}"), "uses patient_id, which this recording does not have"),
    (template("x", header="{{ patient_id }}"), "uses patient_id, which this recording does not have"),
]


@pytest.mark.parametrize(("content", "problem"), BROKEN, ids=[problem for _content, problem in BROKEN])
def test_a_broken_template_says_what_is_wrong(content: bytes, problem: str) -> None:
    with pytest.raises(TemplateError) as caught:
        made(content)
    assert problem in caught.value.message
    assert caught.value.message.startswith("The template letter.docx ")
    assert caught.value.hint
    assert "Öberg" not in caught.value.message
    assert (caught.value.missing_field == "patient_id") == ("patient_id" in problem)


@pytest.mark.parametrize(
    ("paragraph", "required", "optional"),
    [
        ("{{ text }} {{ patient }}", {"text", "patient"}, set()),
        ("{% if patient is defined %}{{ patient }}{% endif %}", set(), {"patient"}),
        ("{{ patient | default('-') }} {{ unit | d }}", set(), {"patient", "unit"}),
        ("{% for turn in turns %}{{ turn.text }}{{ loop.index }}{% endfor %}", {"turns"}, set()),
        ("{% set x = name %}{{ x }}", {"name"}, set()),
    ],
)
def test_the_names_that_a_template_uses(paragraph: str, required: set[str], optional: set[str]) -> None:
    used = Template(template(paragraph), "letter.docx").fields(DICTATION)
    assert used.required == required
    assert used.optional == optional


def shipment(path: str, attributes: dict[str, str]) -> Any:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    plan = Plan("default", ("docx",), attributes=attributes)
    job = Job("1", State.DONE, "smith.wav", FileIdentity(1, 1, 1, 1), now, plan=plan, filed_as="smith.wav")
    payload = {
        "status": "COMPLETED",
        "text": "Hello.",
        "segments": [{"start": 0, "end": 1, "text": "Hello."}],
    }
    return shipment_of(job, "ehr", ["docx"], payload, {}, template=path)


def test_a_target_waits_for_a_template(tmp_path: Path) -> None:
    path = tmp_path / "letter.docx"
    with pytest.raises(TargetUnavailableError, match="can't be read"):
        shipment(str(path), {})
    save(path, "{{ text }} for {{ unit }}")
    with pytest.raises(TargetRefusedError, match="uses unit") as caught:
        shipment(str(path), {})
    assert caught.value.code == "missing_attribute"
    (document,) = shipment(str(path), {"unit": "ward 3"}).documents
    assert (document.name, text_of(document.content)) == ("smith.docx", "Hello. for ward 3")
