"""The table of docs/reliability.md against the tests: which tests stand for which line.

`python -m tests.faults.page` writes the table's last column, and the table of pairs.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.faults.pairs import CROSSINGS, ROWS

FAULTS = Path(__file__).parent
# Here tests without a number have their line elsewhere, or none.
ACCEPTANCE = FAULTS.parent / "acceptance"
PAGE = FAULTS.parent.parent / "docs" / "reliability.md"
_PAIRS_BEGIN, _PAIRS_END = "<!-- Pairs: written by the same command. -->", "<!-- End of the pairs. -->"
_ROW = re.compile(r"^\| (\d\d) \|([^|]*)\|([^|]*)\|[^|]*\|$", re.MULTILINE)


def tests_by_line() -> dict[str, list[str]]:
    """Every test of this folder by the two digits after `test_`; "" for one without.

    Those of acceptance/, too, if they have a number.
    """
    found = defaultdict(list)
    for module in [*sorted(FAULTS.glob("test_*.py")), *sorted(ACCEPTANCE.glob("test_*.py"))]:
        for node in ast.walk(ast.parse(module.read_text())):
            name = _test_name(node)
            if name is None:
                continue
            number = re.match(r"test_(\d\d)_", name)
            if number or module.parent == FAULTS:
                found[number[1] if number else ""].append(name)
    return dict(found)


def _test_name(node: ast.AST) -> str | None:
    names = []
    if isinstance(node, ast.FunctionDef):
        names = [node.name]
    elif isinstance(node, ast.Assign):  # a state machine's TestCase
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    return next((name for name in names if name.startswith("test_")), None)


def lines(page: str) -> list[str]:
    """The numbers of the table's lines, in their order."""
    return [row[0] for row in _ROW.findall(page)]


def with_tests(page: str, tests: dict[str, list[str]]) -> str:
    """`page` with the names of its tests in every line of the table."""

    def row(match: re.Match[str]) -> str:
        names = "<br>".join(f"`{name}`" for name in tests.get(match[1], []))
        return f"| {match[1]} |{match[2]}|{match[3]}| {names} |"

    return _ROW.sub(row, page)


def with_pairs(page: str) -> str:
    """`page` with the table of the faults that are crossed, and what is found in each cell."""
    head = ["No.", "In the middle of", *CROSSINGS]
    lines = [_line(head), _line(["---"] * len(head))]
    for number, row in ROWS.items():
        found = "both done" if row.ends_as == "done" else f"`{row.ends_as}`, other done"
        lines.append(_line([number, row.what, *[found] * len(CROSSINGS)]))
    before, _, rest = page.partition(_PAIRS_BEGIN)
    _, _, after = rest.partition(_PAIRS_END)
    return "\n".join([before + _PAIRS_BEGIN, "", *lines, "", _PAIRS_END + after])


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def written(page: str) -> str:
    """`page` as it has to be."""
    return with_pairs(with_tests(page, tests_by_line()))


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
