"""docs/demo.svg: what `invox-watcher demo` prints, in colours, from a real run.

`python -m tests.kit.demo_picture` runs the demo, which takes a minute, and writes the picture. It shows an
excerpt: how each recording ended, the first words of a transcript, and the result.
"""

from __future__ import annotations

import html
import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).parent.parent.parent / "docs" / "demo.svg"
_COLUMNS = 100
_CELL = 12.2  # the width of a character in rich's SVG
_PROGRESS = re.compile(r"^ +\d+\.\d s  .{27} (\w+)")
_SHOWN_STATES = {"done", "failed"}
_LAST_LINE = "ok  the daemon stopped on request"
_STYLES = {
    r"^\$ .*": "bold",
    r"(?<= )done(?= |$)": "green",
    r"(?<= )failed(?= |$)": "red",
    r"^ +\d+\.\d s": "dim",
    r"^ok  ": "green",
}
# No font from another server: a page that shows the picture must load nothing else.
_FONT_FACES = re.compile(r"@font-face \{\{.*?\}\}\n", re.DOTALL)


def excerpt(printed: str) -> list[str]:
    """The lines of a demo's output that the picture shows."""
    progress, _, rest = printed.partition("\ninvox-demo\n")
    states = ((line, _PROGRESS.match(line)) for line in progress.splitlines())
    lines = [line for line, state in states if state is None or state[1] in _SHOWN_STATES]
    result = rest[rest.index("What was recognized") : rest.index(_LAST_LINE)] + _LAST_LINE
    before, reason = result.split("Why it failed", 1)
    words = before.partition("\n  3\n")[0].rstrip()
    return [*lines, "", *words.splitlines(), "  …", "", *f"Why it failed{reason}".splitlines()]


def shown(picture: str) -> list[str]:
    """The lines of the picture, without its title."""
    texts = re.findall(r'<text class="demo-r\d+" x="([\d.]+)" y="([\d.]+)"[^>]*>(.*?)</text>', picture)
    rows: dict[float, str] = {}
    for x, y, text in texts:
        said = html.unescape(text).replace("\xa0", " ")
        rows[float(y)] = rows.get(float(y), "").ljust(round(float(x) / _CELL)) + said
    return [row.rstrip() for _y, row in sorted(rows.items()) if row.strip()]


def drawn(lines: list[str]) -> str:
    """An SVG of these lines in a terminal."""
    console = Console(record=True, width=_COLUMNS, file=io.StringIO(), color_system="truecolor")
    for line in lines:
        text = Text(line)
        for pattern, style in _STYLES.items():
            text.highlight_regex(pattern, style)
        console.print(text)
    form = _FONT_FACES.sub("", CONSOLE_SVG_FORMAT)
    return console.export_svg(title="invox-watcher", code_format=form, unique_id="demo")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "invox_watcher", "demo"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    PICTURE.write_text(drawn(["$ invox-watcher demo", *excerpt(done.stdout)]))
