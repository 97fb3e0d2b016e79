"""The configuration file: schema, loading, example file."""

from __future__ import annotations

from invox_watcher.config.loading import example_yaml, json_schema, load, state_directory
from invox_watcher.config.schema import Config

__all__ = [
    "Config",
    "example_yaml",
    "json_schema",
    "load",
    "state_directory",
]
