"""Reads one section of a configuration file that is otherwise invalid."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ValidationError

from invox_watcher.config._document import Problems, read_document


def salvaged(name: str, path: Path, environ: Mapping[str, str], model: type[BaseModel]) -> BaseModel | None:
    """The section `name` of `model`, without unknown keys; None if it is ambiguous.

    Raises ConfigurationError if the file can't be read at all.
    """
    problems = Problems()
    given = read_document(path, environ, problems)
    kind = model.model_fields[name].annotation
    section = given.get(name) or {}
    assert isinstance(kind, type)  # noqa: S101 - every section is a model
    assert issubclass(kind, BaseModel)  # noqa: S101
    invalid = any(problem.path.partition(".")[0] == name for problem in problems.in_order())
    if invalid or not isinstance(section, dict):
        return None
    known = {key: value for key, value in section.items() if key in kind.model_fields}
    # An omitted key has its default, unless an unknown key may be a misspelling of it.
    unknown = (given.keys() - model.model_fields.keys()) | (section.keys() - known.keys())
    omitted = [name, *(key for key in kind.model_fields if key not in known)]
    if len(omitted) > 1 and any(get_close_matches(str(key).lower(), omitted, cutoff=0.5) for key in unknown):
        return None
    try:
        return kind.model_validate(known)
    except ValidationError:
        return None
