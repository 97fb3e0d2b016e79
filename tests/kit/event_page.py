"""docs/events.md and the source, both read into the same shape: which event has which levels and fields."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import invox_watcher
from invox_watcher.events import Event

PACKAGE = Path(invox_watcher.__file__).parent
PAGE = PACKAGE.parent / "docs" / "events.md"
_ROW = re.compile(r"^\| `(\w+)` \| ([a-z, ]+) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
_LOG_CALL = re.compile(r"(events\.)?log\.(debug|info|warning|error)")
_FIELD = re.compile(r"^\| `(\w+)` \| [^|]+ \|$", re.MULTILINE)


@dataclass
class Facts:
    """At which levels an event is logged, and with which fields."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


def of_page() -> dict[str, Facts]:
    """What the page says of each event."""
    rows = _ROW.findall(PAGE.read_text())
    found = {
        name: Facts(set(levels.split(", ")), set(re.findall(r"`(\w+)`", fields)))
        for name, levels, fields in rows
    }
    assert len(found) == len(rows), "an event has two rows"
    return found


def explained_fields() -> set[str]:
    """The fields that the page explains."""
    return set(_FIELD.findall(PAGE.read_text()))


def of_source() -> dict[str, Facts]:
    """What the calls `log.LEVEL(Event.NAME, field=…)` of the package say."""
    trees = [ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))]
    functions = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    returned = {function.name: _keys_returned(function) for function in functions}
    found: dict[str, Facts] = {}
    for function in functions:
        assigned = {
            target.id: node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in _log_calls(function):
            fields = set().union(*(_fields(keyword, assigned, returned) for keyword in call.keywords))
            for name in _events(call.args[0], assigned):
                facts = found.setdefault(Event[name].value, Facts())
                facts.levels.add(call.func.attr)  # type: ignore[attr-defined]
                facts.fields |= fields
    return found


def _log_calls(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _LOG_CALL.fullmatch(ast.unparse(node.func)):
            yield node


def _events(node: ast.expr, assigned: dict[str, ast.expr]) -> set[str]:
    """The members that an expression may be: `Event.X`, or a name that was given one of several."""
    if isinstance(node, ast.Name):
        node = assigned[node.id]
    return {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute) and ast.unparse(inner.value).rpartition(".")[2] == "Event"
    }


def _fields(keyword: ast.keyword, assigned: dict[str, ast.expr], returned: dict[str, set[str]]) -> set[str]:
    """The names of `field=…`, or of all that `**name` and `**function(…)` may hold."""
    if keyword.arg is not None:
        return {keyword.arg}
    value = keyword.value
    if isinstance(value, ast.Name):
        value = assigned[value.id]
    if isinstance(value, ast.Call):
        return returned[ast.unparse(value.func)]
    return _keys(value)


def _keys_returned(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    returns = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
    return set().union(*map(_keys, returns))


def _keys(node: ast.expr) -> set[str]:
    if not isinstance(node, ast.Dict):
        return set()
    return {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}


def check(lines: Iterable[Mapping[str, object]]) -> None:
    """Fail if a line of a log is not as the page says: its name, its level, one of its fields."""
    page = of_page()
    for line in lines:
        facts = page.get(str(line["event"]))
        assert facts is not None, f"not in docs/events.md: {line['event']}"
        assert line["level"] in facts.levels, line
        assert set(line) - facts.fields - {"host"} == {"at", "level", "event"}, line
