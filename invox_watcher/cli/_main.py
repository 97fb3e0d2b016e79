"""The command line: parse, call, print, exit status. With `demo`, the only package that prints.

Each command is a function of a module of its own, imported only when it is called: `--help` needs none.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence

from invox_watcher import logs
from invox_watcher.cli import _streams
from invox_watcher.cli._parser import build
from invox_watcher.errors import ExitStatus, InvoxError, NotPermittedError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status. Every error of ours is one message on standard error."""
    _streams.open_closed()
    try:
        with _streams.printing():
            options = build().parse_args(arguments)
            logs.configure(format="console", level="warning")  # standard output is for what is asked for
            return _call(options)
    except InvoxError as error:
        _streams.complain(error)
        return int(error.exit_status)
    except PermissionError as error:
        what = error.filename or "Something"
        refused = NotPermittedError(f"{what} can't be looked at or changed: {error.strerror}")
        _streams.complain(refused)
        return int(refused.exit_status)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _streams.discard(sys.stdout)  # nobody reads on: not an error
        return 0
    except Exception as error:  # noqa: BLE001 - its text may quote a name, an address or a word
        with _streams.losing(sys.stderr):
            traceback.print_tb(error.__traceback__)
            print(f"invox-watcher: a defect: {type(error).__name__}", file=sys.stderr)
        return int(ExitStatus.SOFTWARE)


def _call(options: argparse.Namespace) -> int:
    module, function = options.command.split(":")
    command = getattr(importlib.import_module(f"invox_watcher.cli.{module}"), function)
    return int(command(options))
