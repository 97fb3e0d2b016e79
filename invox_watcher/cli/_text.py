"""Names and texts on a terminal: indented, wrapped at its width, never wrapped in a pipe."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap

from invox_watcher.logs import printable

_LEAST_COLUMNS = 40


def columns() -> int | None:
    """The width of the terminal; None if standard output is none."""
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return max(shutil.get_terminal_size().columns, _LEAST_COLUMNS)


def print_indented(first: str, text: str, *, indent: int) -> None:
    """`text` after `first`, which has at most `indent` columns; further lines begin below the text."""
    text, width = printable(text), columns()
    lines = (
        [text]
        if width is None
        else textwrap.wrap(text, max(width - indent, 1), break_on_hyphens=False, break_long_words=False)
    )
    for number, line in enumerate(lines or [""]):
        print(f"{first if number == 0 else '':<{indent}}{line}".rstrip())
