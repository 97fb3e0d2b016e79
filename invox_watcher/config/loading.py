"""Loads the configuration, and prints its example file and JSON schema.

`load` reports all problems at once, each with its key and line. The result is immutable, and shows no secret
when printed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import (
    ValidationError,
)

from invox_watcher.config._document import Problems, read_document
from invox_watcher.config._example import render
from invox_watcher.config._messages import explained
from invox_watcher.config._salvage import salvaged
from invox_watcher.config._secrets import with_credentials
from invox_watcher.config._settings import Origins, Setting, credentials_of, settings_of
from invox_watcher.config.schema import REQUIRED_CREDENTIALS, Config, StateSection
from invox_watcher.errors import ConfigurationError

# What a section is, or a list of sections, if it has no key or is missing.
_EMPTY: Mapping[str, object] = {
    key: () if get_origin(field.annotation) is tuple else {} for key, field in Config.model_fields.items()
}


def load(
    path: Path, environ: Mapping[str, str] = os.environ, *, credentials: bool = True, folders: bool = True
) -> Config:
    """The configuration in the file at `path`, with `${VAR}` and credentials resolved from `environ`.

    Without `credentials` they are neither read nor checked: for commands that an administrator runs in a
    shell without them. Without `folders` the file need not name any: for commands that use none.

    Raises ConfigurationError with every problem of the file, including those of the credentials.
    """
    problems = Problems()
    given = read_document(path, environ, problems)
    # A section with all keys commented out is null in YAML, and has its defaults.
    data: dict[str, object] = dict(_EMPTY) | {
        key: _EMPTY.get(key, {}) if value is None else value for key, value in given.items()
    }
    if not folders and not data["folders"]:
        data["folders"] = {"root": "/var/empty"}
    if not credentials:
        problems.forgive("credentials")
        data["credentials"] = dict.fromkeys(REQUIRED_CREDENTIALS, "not read")
    elif isinstance(data["credentials"], dict):
        webhook = data["webhook"]
        enabled = isinstance(webhook, dict) and webhook.get("enabled") is True
        names = (*REQUIRED_CREDENTIALS, "app_secret") if enabled else REQUIRED_CREDENTIALS
        data["credentials"] = with_credentials(data["credentials"], names, environ, problems)
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] != "default_factory_not_called":  # a consequence of another invalid key
                problems.add(*explained(detail, Config))
    if config is None or problems:
        raise ConfigurationError(str(path), problems.in_order())
    config.read_from(path)
    return config


def state_directory(path: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """`state.directory` of a file that is otherwise invalid; None if it is ambiguous.

    Raises ConfigurationError if the file can't be read at all.
    """
    state = salvaged("state", path, environ, Config)
    return state.directory if isinstance(state, StateSection) else None


def settings(path: Path, environ: Mapping[str, str] = os.environ) -> list[Setting]:
    """Every key of the configuration in the file at `path` in effect, secrets masked, with where it is from.

    Credentials that are missing here don't matter: the daemon may have them.

    Raises ConfigurationError as `load` without credentials.
    """
    config = load(path, environ, credentials=False)
    found = Problems()
    given = read_document(path, environ, found)
    origins = Origins(given, found)
    section = given.get("credentials")
    secrets = credentials_of(section if isinstance(section, dict) else {}, origins, environ)
    in_order = list(Config.model_fields)
    everything = [*settings_of(config, origins), *secrets]
    return sorted(everything, key=lambda one: in_order.index(one.key.partition(".")[0]))


def example_yaml() -> str:
    """The example configuration, every key with its description and default: `config.example.yaml`."""
    return render(Config)


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the configuration file, for editors that validate while you type."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "Configuration of invox-watcher",
    }
