"""Text with fields in braces, such as `{ward}/{name}`, filled in from what is known of a recording.

Not `str.format`, in which a field may reach into objects; here a field is a name and nothing else, and what
is filled in is never read again: braces in a value stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

FIELD_NAME = "[A-Za-z_][A-Za-z0-9_]*"  # as the named groups of a regular expression
_PARTS = re.compile(rf"(?P<literal>[^{{}}]+|\{{\{{|\}}\}})|\{{(?P<field>{FIELD_NAME})\}}")


class MissingFieldError(LookupError):
    """A recording has no value for a field; `field` is its name."""

    def __init__(self, field: str) -> None:
        super().__init__(f"no value for {{{field}}}")
        self.field = field


class Pattern:
    """A text and its fields; `{{` and `}}` stand for single braces."""

    def __init__(self, text: str) -> None:
        """Raises ValueError if a brace is not part of a field."""
        self.text = text
        self._parts: list[tuple[str, bool]] = []  # the text or the name of a field, and whether it is a field
        at = 0
        while at < len(text):
            part = _PARTS.match(text, at)
            if part is None:
                raise ValueError(
                    "has a brace that is not part of a field: a field is {name}, of letters, digits and _; "
                    "write {{ or }} for a single brace"
                )
            literal = part["literal"] or ""
            doubled = literal in ("{{", "}}")
            self._parts.append((part["field"] or (literal[0] if doubled else literal), bool(part["field"])))
            at = part.end()

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields."""
        return frozenset(part for part, is_field in self._parts if is_field)

    def fill(self, values: Mapping[str, str], clean: Callable[[str], str] = str) -> str:
        """The text with every field replaced by what `clean` makes of its value.

        Raises:
            MissingFieldError: `values` has none for a field.
        """
        filled = []
        for part, is_field in self._parts:
            if is_field and part not in values:
                raise MissingFieldError(part)
            filled.append(clean(values[part]) if is_field else part)
        return "".join(filled)
