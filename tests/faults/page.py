"""The table of docs/reliability.md against the tests: which tests stand for which line.

`python -m tests.faults.page` writes the table's last column.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

FAULTS = Path(__file__).parent
# Here tests without a number have their line elsewhere, or none.
ACCEPTANCE = FAULTS.parent / "acceptance"
PAGE = FAULTS.parent.parent / "docs" / "reliability.md"
_ROW = re.compile(r"^\| (\d\d) \|([^|]*)\|([^|]*)\|[^|]*\|$", re.MULTILINE)


def tests_by_line() -> dict[str, list[str]]:
    """Every test of this folder by the two digits after `test_`; "" for one without. Those of acceptance/, too,
    if they have a number.
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


if __name__ == "__main__":
    PAGE.write_text(with_tests(PAGE.read_text(), tests_by_line()))
