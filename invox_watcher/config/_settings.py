"""What is in effect: every key with its value and where that is from. Secrets are masked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from invox_watcher.config._document import KeyPath, Problems
from invox_watcher.config._example import as_yaml
from invox_watcher.config._secrets import with_credentials
from invox_watcher.config.schema import CredentialsSection

MASK = "********"
_COMMENT_COLUMN = 56
DEFAULT = "default"
_MASKABLE = ("headers", "form", "json", "presign_fields")
_SECRET_NAME = re.compile(r"auth|cookie|key|password|secret|token", re.IGNORECASE)
# The placeholders of credentials, which are filled in only when a request is sent.
_PLACEHOLDER = re.compile(r"\{(app_id|api_key|base64)\}")


@dataclass(frozen=True)
class Setting:
    """One key, such as `api.token.url`; `origin` says where its value is from."""

    key: str
    value: Any
    origin: str


class Origins:
    """Where the values of one file are from."""

    def __init__(self, given: Mapping[str, object], found: Problems) -> None:
        self._given, self._found = given, found

    def of(self, path: KeyPath) -> str:
        """`line 3`, `line 3, from $NAME` or `default`."""
        value: object = self._given
        for part in path:
            if not isinstance(value, Mapping) or part not in value:
                return DEFAULT
            value = value[part]
        names = self.variables(path)
        return f"line {self._found.lines[path]}" + (f", from {', '.join(names)}" if names else "")

    def variables(self, path: KeyPath) -> list[str]:
        """The variables in the value, as `$NAME`."""
        below = (names for place, names in self._found.variables.items() if place[: len(path)] == path)
        return [f"${name}" for names in below for name in names]


def settings_of(section: BaseModel, origins: Origins, path: KeyPath = ()) -> Iterator[Setting]:
    """Every key of a section and of those in it, except for the credentials."""
    for name, field in type(section).model_fields.items():
        value, here = getattr(section, name), (*path, field.alias or name)
        if isinstance(value, CredentialsSection):
            continue
        if isinstance(value, BaseModel):
            yield from settings_of(value, origins, here)
        else:
            yield Setting(".".join(map(str, here)), _masked(value, here, origins), origins.of(here))


def credentials_of(
    given: Mapping[str, object], origins: Origins, environ: Mapping[str, str]
) -> Iterator[Setting]:
    """Each credential: masked if it is here, else null."""
    for name in ("app_id", "api_key", "app_secret"):
        here, origin = _credential(name, given, origins, environ)
        yield Setting(f"credentials.{name}", MASK if here else None, origin)


def _credential(
    name: str, given: Mapping[str, object], origins: Origins, environ: Mapping[str, str]
) -> tuple[bool, str]:
    """Whether there is a usable one, and where it is from, or why there is none."""
    path = ("credentials", name)
    if given.get(name) is not None:
        absent = [one for one in origins.variables(path) if one.removeprefix("$") not in environ]
        return not absent, f"{origins.of(path)}{', which is not set here' if absent else ''}"
    problems = Problems()
    with_credentials(given, [name], environ, problems)
    trouble = next((f": {one.message}" for one in problems.in_order()), "")
    if (file := given.get(f"{name}_file")) is not None:
        return not trouble, f"{origins.of(('credentials', f'{name}_file'))}, file {file}{trouble}"
    if os.path.lexists(os.path.join(environ.get("CREDENTIALS_DIRECTORY", "/nowhere"), name)):
        return not trouble, f"systemd credential {name}{trouble}"
    return False, "not set here; a service may have it as a systemd credential"


def rendered(found: Iterable[Setting]) -> str:
    """YAML with the origins as comments."""
    lines: list[str] = []
    above: list[str] = []
    for one in found:
        *sections, name = one.key.split(".")
        for depth, section in enumerate(sections):
            if above[: depth + 1] != sections[: depth + 1]:
                lines.append(f"{'  ' * depth}{section}:")
        above = sections
        entry = f"{'  ' * len(sections)}{name}: {as_yaml(one.value)}"
        lines.append(f"{entry:<{_COMMENT_COLUMN}}  # {one.origin}")
    return "\n".join(lines) + "\n"


def _masked(value: Any, path: KeyPath, origins: Origins) -> Any:
    if isinstance(value, Mapping):
        return {name: _masked_entry(name, entry, path, origins) for name, entry in value.items()}
    if isinstance(value, tuple):
        return list(value)
    if (path[-1] in ("proxy", "public_url") or path == ("state", "url")) and value is not None:
        return _masked_url(value)
    return str(value) if hasattr(value, "__fspath__") else value


def _masked_entry(name: str, entry: Any, path: KeyPath, origins: Origins) -> Any:
    """An entry of what is sent with requests, unless it is plainly no secret."""
    if path[-1] not in _MASKABLE or not isinstance(entry, str) or _PLACEHOLDER.search(entry):
        return entry
    return MASK if _SECRET_NAME.search(name) or origins.variables((*path, name)) else entry


def _masked_url(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{MASK}@{host}" if "@" in parts.netloc else host
    return parts._replace(netloc=netloc, query=MASK if parts.query else "").geturl()
