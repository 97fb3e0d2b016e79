"""Turns pydantic's errors into messages for an administrator, without the value itself.

No value is ever shown: with `${VAR}`, any of them may be a secret in the wrong key.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from invox_watcher.config._document import KeyPath, dotted
from invox_watcher.config.targets import SECTIONS

_KIND = 2  # where it stands in the path of an error in a target: targets, its name, its kind

_WRONG_TYPE = {
    "bool_type": "must be true or false, without quotes",
    "int_type": "must be a whole number such as 4, without quotes",
    "float_type": "must be a number such as 2 or 0.5, without quotes",
    "finite_number": "must be a number that is neither infinite nor .nan",
    "string_type": "must be text: put it in quotes",
    "string_unicode": "is not valid UTF-8 text",
    "path_type": "must be a path: put it in quotes",
    "tuple_type": "must be a list, for example [a, b]",
    "dict_type": "must be a mapping (key: value)",
    "model_type": "must be a section with keys below it",
    "string_too_short": "must not be empty",
}


def explained(error: ErrorDetails, model: type[BaseModel]) -> tuple[KeyPath, str]:
    """The key of one pydantic error of `model`, and the message for it."""
    path, message = _explained(error, model)
    return _in_file(path), message


def _explained(error: ErrorDetails, model: type[BaseModel]) -> tuple[KeyPath, str]:
    path = tuple(part for part in error["loc"] if part != "[key]")
    context = error.get("ctx", {})
    kind, given = error["type"], error["input"]
    if kind.startswith("union_tag"):
        return path, f"must have a kind: one of {', '.join(SECTIONS)}"
    if kind == "extra_forbidden":
        return path, _unknown_key(path, model)
    if kind == "missing":
        return path, f"is missing{_for_example(path, model)}"
    if given is None:
        return path, f"has no value{_for_example(path, model)}"
    if kind == "literal_error":
        hint = " (YAML reads an unquoted on, off, yes or no as true or false)" if _is_bool(given) else ""
        return path, f"must be {context['expected']}{hint}"
    if kind in ("out_of_order", "incomplete"):
        return (*path, context["key"]), error["msg"]
    message = _WRONG_TYPE.get(kind) or error["msg"].removeprefix("Value error, ")
    return path, message.replace("Input should be", "must be")


def _unknown_key(path: KeyPath, model: type[BaseModel]) -> str:
    *parents, key = path
    siblings = _fields(tuple(parents), model)
    close = get_close_matches(str(key), siblings, n=1)
    elsewhere = [f"{name}.{key}" for name in model.model_fields if key in _fields((name,), model)]
    guesses = [dotted((*_in_file(tuple(parents)), *close))] if close else elsewhere[:1]
    return "is not a known key" + "".join(f": did you mean {guess}?" for guess in guesses)


def _for_example(path: KeyPath, model: type[BaseModel]) -> str:
    field = _fields(path[:-1], model).get(str(path[-1]))
    return f", for example {field.examples[0]}" if field is not None and field.examples else ""


def _fields(path: KeyPath, model: type[BaseModel]) -> Mapping[str, Any]:
    """The fields of a section of the model; empty if there is no such section."""
    if path[:1] == ("targets",):
        kind = path[_KIND] if len(path) > _KIND else ""
        path, model = path[_KIND + 1 :], SECTIONS.get(str(kind), BaseModel)
    for part in path:
        if isinstance(part, int):  # of a list of sections, which the name before it has led to
            continue
        field = _by_key(model).get(str(part))
        section = section_of(field.annotation) if field is not None else None
        if section is None:
            return {}
        model = section
    return _by_key(model)


def _by_key(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _in_file(path: KeyPath) -> KeyPath:
    """Without the kind of a target, which pydantic puts after its name: the file has no such key."""
    return (*path[:_KIND], *path[_KIND + 1 :]) if path[:1] == ("targets",) else path


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a section, or of each section in a list; None for a plain value."""
    kind = get_args(annotation)[0] if get_origin(annotation) is tuple else annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)
