"""The configuration file: schema, loading, example file."""

from __future__ import annotations

from invox_watcher.config._settings import Setting, rendered
from invox_watcher.config.loading import example_yaml, json_schema, load, settings, state_directory
from invox_watcher.config.schema import Config

__all__ = [
    "Config",
    "Setting",
    "example_yaml",
    "json_schema",
    "load",
    "rendered",
    "settings",
    "state_directory",
]
