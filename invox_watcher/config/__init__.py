"""The configuration file: schema, loading, example file."""

from __future__ import annotations

from invox_watcher.config._profiles import ProfileSection
from invox_watcher.config._settings import Setting, rendered
from invox_watcher.config._types import database_url, is_database_url
from invox_watcher.config.loading import example_yaml, json_schema, load, settings, state_directory
from invox_watcher.config.schema import Config
from invox_watcher.config.targets import PACE_KEYS, TargetSection, secret_files

__all__ = [
    "PACE_KEYS",
    "Config",
    "ProfileSection",
    "Setting",
    "TargetSection",
    "database_url",
    "example_yaml",
    "is_database_url",
    "json_schema",
    "load",
    "rendered",
    "secret_files",
    "settings",
    "state_directory",
]
