"""The command line: parse, call, print, exit status. With `demo`, the only package that prints.

Each command is a function of a module of its own, imported only when it is called: `--help` needs none.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from invox_watcher import events
from invox_watcher.cli._parser import build
from invox_watcher.errors import ExitStatus, InvoxError, NotPermittedError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status. Every error of ours is one message on standard error."""
    options = build().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr] # names may not be UTF-8
    events.configure(format="console", level="warning")  # standard output belongs to what a command prints
    try:
        return _call(options)
    except InvoxError as error:
        return _say(error)
    except PermissionError as error:
        what = error.filename or "Something"
        return _say(NotPermittedError(f"{what} can't be looked at or changed: {error.strerror}."))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: not an error
        return 0
    except Exception as error:  # noqa: BLE001 - its text may quote a name, an address or a word
        traceback.print_tb(error.__traceback__)
        print(f"invox-watcher: a defect: {type(error).__name__}", file=sys.stderr)
        return int(ExitStatus.SOFTWARE)


def _say(error: InvoxError) -> int:
    print(f"invox-watcher: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)
    return int(error.exit_status)


def _call(options: argparse.Namespace) -> int:
    module, function = options.command.split(":")
    command = getattr(importlib.import_module(f"invox_watcher.cli.{module}"), function)
    return int(command(options))
