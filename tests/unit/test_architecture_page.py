"""docs/architecture.md against the tree and the import contracts; and the links of all pages."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "invox_watcher"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def section(heading: str) -> str:
    """One section of the page, without its heading."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_package_is_described_and_no_other() -> None:
    described = dict(re.findall(r"^\| `(\w+)` \|.*\| `([\w/.]+)` \|$", section("Packages"), re.MULTILINE))
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    assert set(described) == packages | modules
    assert [path for path in described.values() if not (PACKAGE / path).is_file()] == []


def test_every_import_contract_has_its_reason() -> None:
    rows = re.findall(r"^\| ([A-Z][^|`]+) \| [^|]+ \|$", section("Rules"), re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert rows == [contract["name"] for contract in contracts]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if path.startswith("https:"):
            continue
        there = (page.parent / path) if path else page
        assert there.is_file(), target
        assert not heading or heading in anchors(there), target


def anchors(page: Path) -> set[str]:
    """Its headings, as GitHub makes anchors of them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
