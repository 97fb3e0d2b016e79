"""The command line: `main`, and one module per group of commands."""

from __future__ import annotations

from invox_watcher.cli._main import main

__all__ = ["main"]
