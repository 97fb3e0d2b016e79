"""Writes the commented example configuration from the schema's descriptions, defaults and examples."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from invox_watcher.config.targets import PACE_KEYS, SECTIONS

_HEAD = """\
# Configuration of invox-watcher: every key, with its default. An omitted key has the value shown here.
# `invox-watcher check` reports what is wrong with a configuration.
#
# ${NAME} in a text is replaced by the environment variable NAME; write $${ for a literal ${.
"""
_WIDTH = 106


def render(model: type[BaseModel]) -> str:
    """The example file of a model whose fields are sections; valid as it is once its variables are set."""
    parts = [_HEAD]
    for section, field in model.model_fields.items():
        is_list = get_origin(field.annotation) is tuple
        render_field = _targets if section == "targets" else _list if is_list else _section
        parts.append("\n".join(render_field(section, field, indent="")) + "\n")
    return "\n".join(parts)


def _section(name: str, field: FieldInfo, *, indent: str) -> list[str]:
    lines = [*_comment(field.description or "", indent=indent), f"{indent}{name}:"]
    for key, entry in field.annotation.model_fields.items():  # type: ignore[union-attr]
        lines += _entry(entry.alias or key, entry, indent=f"{indent}  ")
    return lines


def _targets(name: str, field: FieldInfo, *, indent: str) -> list[str]:
    """No target, with every key of each kind in a comment."""
    lines = [*_comment(field.description or "", indent=indent), f"{indent}{name}: {{}}"]
    for kind, section in SECTIONS.items():
        # What all kinds have comes last.
        fields = sorted(section.model_fields.items(), key=lambda field: field[0] in PACE_KEYS)
        keys = [line for key, entry in fields for line in _key(key, entry, kind)]
        lines += [f"{indent}#   my-{kind}:", *(f"{indent}#     {line}" for line in keys)]
    return lines


def _key(key: str, field: FieldInfo, kind: str) -> list[str]:
    if key == "kind":
        return [*_comment(field.description or "", indent=""), f"kind: {kind}"]
    return _entry(field.alias or key, field, indent="")


def _list(name: str, field: FieldInfo, *, indent: str) -> list[str]:
    """A list of sections: empty, with every key of one section in a comment."""
    keys = [f"{indent}# The keys of each:"]
    for key, entry in get_args(field.annotation)[0].model_fields.items():
        keys += [f"{indent}#   {line}" for line in _entry(entry.alias or key, entry, indent="")]
    block = yaml.safe_dump(field.examples[0] if field.examples else [], sort_keys=False)
    example = [f"{indent}#   {line}" for line in block.splitlines()]
    head = _comment(field.description or "", indent=indent)
    return [*head, *keys, f"{indent}# Example:", *example, f"{indent}{name}: []"]


def _entry(key: str, field: FieldInfo, *, indent: str) -> list[str]:
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return _section(key, field, indent=indent)
    comment = _comment(field.description or "", indent=indent)
    comment += [f"{indent}# {line}" for line in _choices(field.annotation)]
    example = as_yaml(field.examples[0]) if field.examples else ""
    if field.is_required():
        return [*comment, f"{indent}{key}: {example}"]
    if field.default_factory is not None:  # the default depends on other keys
        return [*comment, f"{indent}# {key}: {example}"]
    if example:
        comment.append(f"{indent}# Example: {example}")
    return [*comment, f"{indent}{key}: {as_yaml(field.default)}"]


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [f"One of: {', '.join(get_args(annotation))}."]
    if get_origin(annotation) is tuple and get_origin(get_args(annotation)[0]) is Literal:
        return [f"Any of: {', '.join(get_args(get_args(annotation)[0]))}."]
    return []


def _comment(text: str, *, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False
    )


def as_yaml(value: Any) -> str:
    """A value on one line."""
    plain = str(value) if hasattr(value, "__fspath__") else value
    if isinstance(value, tuple):
        plain = list(value)
    elif isinstance(value, Mapping):
        plain = dict(value)
    dumped: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return dumped.removesuffix("...\n").rstrip("\n")
