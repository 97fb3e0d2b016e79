"""The entry point: parse, call, print, exit status. Only this package and `demo` print.

Commands are imported only when they are called: `--help` needs none of them.
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
    """Run one command; return its exit status. An InvoxError is one message on standard error."""
    _streams.open_closed()
    try:
        with _streams.printing():
            options = build().parse_args(arguments)
            logs.configure(format="console", level="warning")  # standard output is for results
            return _call(options)
    except InvoxError as error:
        _streams.complain(error)
        return int(error.exit_status)
    except PermissionError as error:
        what = error.filename or "a file"
        refused = NotPermittedError(f"Can't access {what}: {error.strerror}")
        _streams.complain(refused)
        return int(refused.exit_status)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _streams.discard(sys.stdout)  # the reader closed the pipe: not an error
        return 0
    except Exception as error:  # noqa: BLE001 - its text may quote a name, a URL or a transcript
        with _streams.losing(sys.stderr):
            traceback.print_tb(error.__traceback__)
            print(f"invox-watcher: internal error: {type(error).__name__}", file=sys.stderr)
        return int(ExitStatus.SOFTWARE)


def _call(options: argparse.Namespace) -> int:
    module, function = options.command.split(":")
    command = getattr(importlib.import_module(f"invox_watcher.cli.{module}"), function)
    return int(command(options))
