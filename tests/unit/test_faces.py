"""Packages are imported by their faces: what `__init__` exports, and no module behind it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import invox_watcher

PACKAGE = Path(invox_watcher.__file__).parent
# They export nothing: cli and daemon start quickly, diagnostics are tools, the sandbox is another program, as
# is half of formats.
WITHOUT_FACE = {"cli", "daemon", "diagnostics", "formats", "sandbox"}
# Its libraries are an extra's, so no face has it, and whoever needs it imports it late.
OF_AN_EXTRA = {"invox_watcher.journal.queue"}
FACES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - WITHOUT_FACE


def behind_faces(source: str, room: str) -> Iterator[str]:
    """The modules that `source`, which belongs to `room`, imports from behind another room's face."""
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            first, *inner = name.split(".")
            if (
                first == "invox_watcher"
                and len(inner) > 1
                and inner[0] in FACES - {room}
                and is_module(inner)
            ):
                yield ".".join(name.split(".")[:3])


def is_module(inner: list[str]) -> bool:
    return PACKAGE.joinpath(*inner[:2]).with_suffix(".py").exists()


def test_no_module_behind_a_face_is_imported() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        for name in behind_faces(path.read_text(), path.relative_to(PACKAGE).parts[0])
    }
    assert len(FACES) > 10
    assert {one for one in found if one.partition(": ")[2] not in OF_AN_EXTRA} == set()


def test_an_import_behind_a_face_is_found() -> None:
    wrong = "from invox_watcher.journal.tables import metadata\nfrom invox_watcher.files import names"
    names = {"invox_watcher.journal.tables", "invox_watcher.files.names"}
    assert set(behind_faces(wrong, "web")) == names
    assert set(behind_faces(wrong, "journal")) == {"invox_watcher.files.names"}
    assert set(behind_faces("from invox_watcher.files import Folders, numbered", "web")) == set()
