"""The configuration file: schema, loading, example file."""

from __future__ import annotations

from invox_watcher.config.loading import example_yaml, json_schema, load, state_directory
from invox_watcher.config.schema import Config
from invox_watcher.config.targets import PACE_KEYS, TargetSection, secret_files

__all__ = [
    "PACE_KEYS",
    "Config",
    "TargetSection",
    "example_yaml",
    "json_schema",
    "load",
    "secret_files",
    "state_directory",
]
