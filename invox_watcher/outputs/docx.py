"""DOCX from a template in Word's format with Jinja's tags, by docxtpl.

The template is the operator's, the words are anybody's: what is filled in is always escaped, whatever the
template says, and is never read as template code. The bytes depend on the delivery and the template alone,
not on when and in which process they are made.
"""

from __future__ import annotations

import functools
import html
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any, cast

from docxtpl import DocxTemplate
from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lxml import etree
from markupsafe import Markup, escape

from invox_watcher.errors import TemplateError
from invox_watcher.outputs.delivery import Delivery
from invox_watcher.outputs.document_fields import FIELDS, fields_of, for_xml

_DEFAULT = Path(__file__).parent / "templates" / "default.docx"
_NOTES = ("wordprocessingml.footnotes+xml", "wordprocessingml.endnotes+xml")
_PROPERTIES = ("author", "comments", "subject", "title")
_LONGEST_PROPERTY = 255  # of python-docx
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that ZIP has
_CONTENT_TYPES = "[Content_Types].xml"  # comes first in the package, by Office's convention
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
# What holds paragraphs, runs and rows, and never words themselves.
_CONTAINERS = frozenset(
    _WORD + name
    for name in (
        "body",
        "document",
        "p",
        "r",
        "tbl",
        "tr",
        "tc",
        "hdr",
        "ftr",
        "footnote",
        "endnote",
        "sdtContent",
    )
)
_MISSING = re.compile(r"'(\w+)' is undefined|has no attribute '(\w+)'")


@dataclass(frozen=True)
class TemplateFields:
    """The names that a template uses and does not define."""

    required: frozenset[str]  # without one of these a document can't be made
    optional: frozenset[str]  # only where `is defined` or `default` allows for their absence


class Template:
    """One template. Making a document does not change it."""

    def __init__(self, content: bytes, name: str) -> None:
        """`name` is what errors call it: its path."""
        self._content = content
        self._name = name

    @classmethod
    def read(cls, path: str | None) -> Template:
        """The template at `path`, as it is now; None for the one in the package.

        Raises:
            TemplateError: it can't be read.
        """
        try:
            return cls(Path(path or _DEFAULT).read_bytes(), path or "the default template")
        except OSError as error:
            problem = error.strerror
        raise TemplateError(
            f"The template {path} can't be read: {problem}.",
            hint="Put it back there, or let the daemon's user read it; nothing is uploaded again.",
        )

    def render(self, delivery: Delivery, speaker_names: Mapping[str, str]) -> bytes:
        """The document.

        Raises:
            TemplateError: the template is broken, or needs a field that the recording lacks.
        """
        document = self._filled(fields_of(delivery, speaker_names), optional=False)
        properties = document.docx.core_properties
        properties.identifier = delivery.job_id or ""
        properties.last_modified_by = "invox-watcher"
        made_at = (delivery.completed_at or delivery.received_at).astimezone(UTC)
        properties.created = properties.modified = made_at.replace(tzinfo=None, microsecond=0)
        written = io.BytesIO()
        document.save(written)
        return _repacked(written)

    def fields(self, example: Delivery) -> TemplateFields:
        """What it uses, found out by filling it in with `example`, and with any attribute that it asks for.

        Raises:
            TemplateError: it is broken.
        """
        document = self._filled(fields_of(example, {}), optional=True)
        used = frozenset().union(*map(meta.find_undeclared_variables, document.trees))
        optional = frozenset(name for tree in document.trees for name in _allowed_for(tree))
        return TemplateFields(used - optional, used & optional)

    def _filled(self, fields: Mapping[str, Any], *, optional: bool) -> _Document:
        document = _Document(io.BytesIO(self._content), with_examples=optional)
        try:
            document.render(dict(fields), _environment())
        except UndefinedError as error:
            problem = self._missing(str(error), document, fields)
        except TemplateSyntaxError as error:  # says what it found in the template, and no value
            problem = self._broken(error.message or "a tag is not complete")
        except SecurityError:
            problem = self._broken("it uses what templates may not use")
        except etree.XMLSyntaxError:
            problem = self._broken("what comes out is no document: a tag cuts through a paragraph or a table")
        except _MisplacedTextError:
            problem = self._broken("a value is outside of the text: write {{ NAME }}, without p, r, tr or tc")
        except Exception as error:  # noqa: BLE001 - whatever libraries make of a file that is no template
            problem = self._broken(f"it is no DOCX file, or an expression fails ({type(error).__name__})")
        else:
            return document
        raise problem

    def _broken(self, problem: str) -> TemplateError:
        return TemplateError(
            f"The template {self._name} is broken: {problem}.",
            hint="Correct it there; `invox-watcher check` tries it. Nothing is uploaded again.",
        )

    def _missing(self, message: str, document: _Document, fields: Mapping[str, Any]) -> TemplateError:
        """Its library's message may contain a value: only what the template itself says is shown."""
        match = _MISSING.search(message)
        name = (match[1] or match[2]) if match else ""
        if name not in document.words:
            return self._broken("it uses a field that does not exist")
        if name in fields or name not in frozenset().union(
            *map(meta.find_undeclared_variables, document.trees)
        ):
            return self._broken(f"there is no {name} where it uses one")
        return TemplateError(
            f"The template {self._name} uses {name}, which this recording does not have.",
            code="missing_attribute",
            hint=f"Write {{{{ {name} | default('') }}}} in the template, or correct the name. Nothing is "
            "uploaded again.",
            missing_field=name,
        )


class _MisplacedTextError(Exception):
    """Words where a document has none: programs would not show them."""


class _Document(DocxTemplate):  # type: ignore[misc] # docxtpl has no types
    """A template being filled in; corrects what docxtpl does with hostile values."""

    def __init__(self, template: io.BytesIO, *, with_examples: bool) -> None:
        """`with_examples`: an attribute that the recording lacks gets an example as its value."""
        super().__init__(template)
        self._with_examples = with_examples
        self.trees: list[nodes.Template] = []  # the template code of each part

    @property
    def words(self) -> frozenset[str]:
        """Every name in the template code."""
        found = [
            node for tree in self.trees for node in tree.find_all((nodes.Name, nodes.Getattr, nodes.Const))
        ]
        return frozenset(
            str(
                node.name
                if isinstance(node, nodes.Name)
                else getattr(node, "attr", getattr(node, "value", ""))
            )
            for node in found
        )

    def render_xml_part(self, src_xml: str, part: Any, context: dict[str, Any], jinja_env: Any) -> str:
        """Without docxtpl's own escapes such as `{_{`, which would change words."""
        self.current_rendering_part = part
        xml = cast(str, self.resolve_listing(self._text(src_xml, context, jinja_env)))
        # docxtpl and Word leave out what is not in its place: it has to be whole.
        for container in etree.fromstring(xml.encode()).iter(*_CONTAINERS):
            texts = (container.text, *(child.tail for child in container))
            if any(text and not text.isspace() for text in texts):
                raise _MisplacedTextError
        return xml

    def render_properties(self, context: dict[str, Any], jinja_env: Any = None) -> None:
        """These are no XML: neither escaped nor longer than python-docx takes."""
        properties = self.docx.core_properties
        for name in _PROPERTIES:
            text = self._text(getattr(properties, name), context, jinja_env)
            setattr(properties, name, html.unescape(text)[:_LONGEST_PROPERTY])

    def render_footnotes(self, context: dict[str, Any], jinja_env: Any = None) -> None:
        """Each part once: docxtpl fills in what it has filled in again, once for each section."""
        for part in self.docx.part.package.iter_parts():
            if part.content_type.endswith(_NOTES):
                source = self.patch_xml(part.blob.decode("utf-8"))
                part._blob = self.render_xml_part(source, part, context, jinja_env).encode("utf-8")

    def _text(self, source: str, context: Mapping[str, Any], environment: Any) -> str:
        tree = environment.parse(source)
        self.trees.append(tree)
        examples = {}
        if self._with_examples:
            examples = {
                name: "example" for name in meta.find_undeclared_variables(tree) if name not in FIELDS
            }
        return cast(str, environment.from_string(tree).render({**examples, **context}))


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        autoescape=True, undefined=StrictUndefined, finalize=_shown, cache_size=0
    )
    del environment.filters["safe"]  # the words of a dictation never are
    return environment


def _shown(value: object) -> Markup:
    """What is written for a value. Escaped here, so that no tag of a template can turn it off."""
    if isinstance(value, Markup):
        return Markup(for_xml(value))  # noqa: S704 - escaped already
    return escape(for_xml(str(value)))


def _allowed_for(tree: nodes.Template) -> set[str]:
    """The names whose absence the template allows for."""
    tests = [test.node for test in tree.find_all(nodes.Test) if test.name == "defined"]
    defaults = [f.node for f in tree.find_all(nodes.Filter) if f.name in ("default", "d")]
    return {node.name for node in [*tests, *defaults] if isinstance(node, nodes.Name)}


def _repacked(written: io.BytesIO) -> bytes:
    """The same package with its members in a fixed order, and without the time at which they were packed."""
    packed = io.BytesIO()
    with zipfile.ZipFile(written) as made, zipfile.ZipFile(packed, "w") as package:
        for name in sorted({*made.namelist()}, key=lambda name: (name != _CONTENT_TYPES, name)):
            member = zipfile.ZipInfo(name, _ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            package.writestr(member, made.read(name))
    return packed.getvalue()
