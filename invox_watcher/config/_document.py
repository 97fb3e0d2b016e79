"""Reads the configuration file into plain data, with the line of every key and the problems found.

The file is composed into YAML nodes first, because only nodes have line numbers and reveal duplicate keys.
`${VAR}` is replaced after parsing, so a variable's content can never become YAML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml
from yaml.constructor import SafeConstructor

from invox_watcher.errors import ConfigurationError, Problem

KeyPath = tuple[str | int, ...]

# `$${` is a literal `${`; `${NAME}` a variable; any other `${` is incomplete.
_VARIABLE = re.compile(r"\$(?P<literal>\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)\})?")
# PyYAML quotes names of anchors and tags in its messages; a secret that begins with * or ! looks like one.
_QUOTED_BY_YAML = re.compile(r" ?(['\"])(?![<\\])[^'\"]{2,}\1")
_TAG = "tag:yaml.org,2002:"


class Problems:
    """The problems of one file: at most one per key, none below a key that has one; where keys are."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.variables: dict[KeyPath, list[str]] = {}  # those in a value that are written as ${NAME}
        self._problems: list[Problem] = []
        self._settled: set[KeyPath] = set()

    def __bool__(self) -> bool:
        return bool(self._problems)

    def settled(self, path: KeyPath) -> bool:
        """Whether this key, or a section that contains it, has been reported already."""
        return any(path[:length] in self._settled for length in range(1, len(path) + 1))

    def add(self, path: KeyPath, message: str) -> None:
        """Report a key whose value is invalid, unless it has been reported already."""
        if not self.settled(path):
            self._settled.add(path)
            self.note(path, message, self._line(path))

    def forgive(self, section: str) -> None:
        """Drop the problems reported in one section."""
        self._problems = [one for one in self._problems if one.path.split(".")[0] != section]
        self._settled = {path for path in self._settled if path[:1] != (section,)}

    def note(self, path: KeyPath, message: str, line: int | None) -> None:
        """Report a problem other than the key's value, which may have a problem of its own."""
        self._problems.append(Problem(dotted(path), line, message))

    def withdraw(self, path: KeyPath) -> None:
        """Withdraw what was reported about a key: it turned out not to matter."""
        self._problems = [problem for problem in self._problems if problem.path != dotted(path)]

    def in_order(self) -> list[Problem]:
        """All problems by line; those without a line come first."""
        return sorted(self._problems, key=lambda problem: problem.line or 0)

    def _line(self, path: KeyPath) -> int | None:
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def read_document(path: Path, environ: Mapping[str, str], problems: Problems) -> dict[str, object]:
    """The file's content with its variables expanded; problems with single keys are added to `problems`.

    An invalid value is reported and replaced by a meaningless one. Raises ConfigurationError if the file as a
    whole is unusable: unreadable, not YAML, empty.
    """
    root = _compose(path)
    if root is None:
        raise _unusable(path, "the file is empty; `invox-watcher config example` prints a complete one")
    if not isinstance(root, yaml.MappingNode):
        raise _unusable(path, "the file must hold sections such as `api:`, not a list or a single value", 1)
    return _Builder(environ, problems).mapping(root, ())


def _compose(path: Path) -> yaml.Node | None:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise _unusable(
            path,
            "no such file. Give another path with --config FILE or $INVOX_WATCHER_CONFIG, or create it: "
            f"invox-watcher config example > {path}",
        ) from None
    except OSError as error:
        raise _unusable(path, f"can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise _unusable(path, "is not UTF-8 text", content[: error.start].count(b"\n") + 1) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        raise _unusable(path, f"contains the control character {character}", line) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = _QUOTED_BY_YAML.sub("", error.problem or error.context or "syntax error")
        raise _unusable(path, f"is not valid YAML: {what}", mark.line + 1 if mark else None) from None
    except RecursionError:
        raise _unusable(path, "is nested too deeply") from None


def _unusable(path: Path, message: str, line: int | None = None) -> ConfigurationError:
    return ConfigurationError(str(path), [Problem("", line, message)])


class _Builder:
    """Builds plain data from nodes."""

    def __init__(self, environ: Mapping[str, str], problems: Problems) -> None:
        self._environ = environ
        self._problems = problems
        self._constructor = SafeConstructor()
        self._seen: set[int] = set()

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        result: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != f"{_TAG}str":
                self._problems.note(path, "a key here is not text: put it in quotes", line)
                continue
            key = key_node.value
            here = (*path, key)
            if key in result:
                message = f"duplicate key; first defined in line {self._problems.lines[here]}"
                self._problems.note(here, message, line)
                continue
            self._problems.lines[here] = line
            result[key] = self._value(value_node, here)
        return result

    def _value(self, node: yaml.Node, path: KeyPath) -> object:
        self._problems.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self._seen:
            self._problems.add(path, "uses a YAML alias (*name): write the value itself")
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self._problems.add(path, "has a YAML tag (!…): write the plain value")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        return [self._value(item, (*path, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        try:
            value = self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError):
            self._problems.add(path, "is not a value that YAML can read: put it in quotes if it is text")
            return node.value
        return self._expanded(value, path) if isinstance(value, str) else value

    def _expanded(self, text: str, path: KeyPath) -> str:
        def replacement(match: re.Match[str]) -> str:
            name = match["name"]
            if match["literal"]:
                return "${"
            if name is not None:
                self._problems.variables.setdefault(path, []).append(name)
            if name is None:
                self._problems.add(path, "has an incomplete ${…}: write ${NAME}, or $${ for a literal ${")
            elif name not in self._environ:
                self._problems.add(
                    path,
                    f"the environment variable {name} is not set: set it where the daemon is started "
                    "(under systemd: Environment= or EnvironmentFile=)",
                )
            return self._environ.get(name or "", "")

        return _VARIABLE.sub(replacement, text)


def dotted(path: KeyPath) -> str:
    """`("api", "mime_types", 0)` as `api.mime_types[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
