"""Writes the commented example configuration from the schema's descriptions, defaults and examples."""

from __future__ import annotations

import textwrap
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

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
        lines = [*_comment(field.description or "", indent=""), f"{section}:"]
        for key, entry in field.annotation.model_fields.items():  # type: ignore[union-attr]
            lines += _entry(key, entry)
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _entry(key: str, field: FieldInfo) -> list[str]:
    comment = _comment(field.description or "", indent="  ") + _choices(field.annotation)
    example = _yaml(field.examples[0]) if field.examples else ""
    if field.is_required():
        return [*comment, f"  {key}: {example}"]
    if field.default_factory is not None:  # the default depends on other keys
        return [*comment, f"  # {key}: {example}"]
    if example:
        comment.append(f"  # Example: {example}")
    return [*comment, f"  {key}: {_yaml(field.default)}"]


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [f"  # One of: {', '.join(get_args(annotation))}."]
    if get_origin(annotation) is tuple and get_origin(get_args(annotation)[0]) is Literal:
        return [f"  # Any of: {', '.join(get_args(get_args(annotation)[0]))}."]
    return []


def _comment(text: str, *, indent: str) -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(
        text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False
    )


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else str(value) if hasattr(value, "__fspath__") else value
    dumped: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000)
    return dumped.removesuffix("...\n").rstrip("\n")
