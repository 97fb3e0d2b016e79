"""The configuration: one schema gives types, defaults, checks, the example file and the JSON schema.

`load` reports everything that is wrong at once, each problem with its key and its line. What it returns can't
be changed, and shows no secret when printed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    ValidationError,
)

from invox_watcher.config._document import Problems, read_document
from invox_watcher.config._example import render
from invox_watcher.config._messages import explained
from invox_watcher.config._salvage import salvaged
from invox_watcher.config._secrets import with_credentials
from invox_watcher.config.schema import REQUIRED_CREDENTIALS, Config, StateSection
from invox_watcher.errors import ConfigurationError


def load(path: Path, environ: Mapping[str, str] = os.environ, *, credentials: bool = True) -> Config:
    """The configuration in the file at `path`, with `${VAR}` and credentials resolved from `environ`.

    Without `credentials` they are not looked for, and what is wrong with them is no problem: for commands
    that an administrator gives in a shell that has none.

    Raises ConfigurationError with every problem of the file, those of the credentials included.
    """
    problems = Problems()
    given = read_document(path, environ, problems)
    # A section whose keys are all commented out is null to YAML, and means its defaults.
    data: dict[str, object] = {key: {} for key in Config.model_fields} | {
        key: {} if value is None else value for key, value in given.items()
    }
    if not credentials:
        problems.forgive("credentials")
        data["credentials"] = dict.fromkeys(REQUIRED_CREDENTIALS, "not looked for")
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
            if detail["type"] != "default_factory_not_called":  # only says that another key is wrong
                problems.add(*explained(detail, Config))
    if config is None or problems:
        raise ConfigurationError(str(path), problems.in_order())
    return config


def state_directory(path: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """`state.directory` of a file that may be wrong in all else; None where it is not clear what is meant.

    Raises ConfigurationError where the file can't be read at all.
    """
    state = salvaged("state", path, environ, Config)
    return state.directory if isinstance(state, StateSection) else None


def example_yaml() -> str:
    """The example configuration, every key with its description and default: `config.example.yaml`."""
    return render(Config)


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the configuration file, for editors that check while one types."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "Configuration of invox-watcher",
    }
