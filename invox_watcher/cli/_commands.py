"""argparse as this program wants it: its errors, its help, and what all commands share."""

from __future__ import annotations

import argparse
import difflib
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from invox_watcher.cli._arguments import path
from invox_watcher.errors import ExitStatus
from invox_watcher.logs import printable

CONFIG_VARIABLE = "INVOX_WATCHER_CONFIG"
DEFAULT_CONFIG = Path("/etc/invox-watcher/config.yaml")
_HELP_COLUMNS = 80
# How a shell completes files and folders: as shtab says it, for whose import no command shall wait.
FILE = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
DIRECTORY = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/", "tcsh": "d"}


class Parser(argparse.ArgumentParser):
    """argparse's own exit status for a wrong command line is 2; the documented one is EX_USAGE.

    For a command or an option that does not exist, it names the closest that does.
    """

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            chosen: Parser = getattr(options, "parser", self)
            chosen.error(f"unrecognized arguments: {' '.join(unknown)}" + chosen._guess_for(unknown[0]))
        return options

    def _guess_for(self, unknown: str) -> str:
        return _did_you_mean(unknown.partition("=")[0], self._option_string_actions)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            guess = _did_you_mean(value, action.choices) or ", see `invox-watcher help`"
            raise argparse.ArgumentError(None, f"there is no command {value}{guess}")
        super()._check_value(action, value)

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitStatus.USAGE, f"{self.prog}: {printable(message)}\n")


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(given, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


class Help(argparse.RawDescriptionHelpFormatter):
    """Texts unchanged, and columns wide enough for the longest command name."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = 14  # argparse's own calculation ignores the indentation of commands


class Commands:
    """Adds commands to a parser, with the options that many share."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        self,
        name: str,
        help: str,
        *,
        call: str,
        more: str = "",
        examples: Sequence[str] = (),
        config: bool = True,
        as_json: bool = False,
    ) -> argparse.ArgumentParser:
        """Add a command; `call` is a module of this package and a function in it: `_jobs:jobs`."""
        lines = [f"  invox-watcher {example}" for example in examples]
        parser: argparse.ArgumentParser = self._commands.add_parser(
            name,
            help=help,
            description=_described(help, more),
            epilog="\n".join(["examples:", *lines]) if lines else None,
            formatter_class=Help,
        )
        if config:
            completed(
                parser.add_argument(
                    "--config",
                    type=path,
                    metavar="FILE",
                    help=f"the configuration file (default: ${CONFIG_VARIABLE}, else {DEFAULT_CONFIG})",
                ),
                FILE,
            )
        if as_json:
            parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
        parser.set_defaults(command=call, parser=parser)
        return parser


def _described(help: str, more: str) -> str:
    sentence = f"{help[0].upper()}{help[1:]}" + ("" if help.endswith("?") else ".")
    return "\n".join(textwrap.fill(part, _HELP_COLUMNS) for part in (sentence, *more.splitlines()))


def completed(argument: argparse.Action, how: Mapping[str, str]) -> None:
    """Have shells complete `argument` by FILE or DIRECTORY."""
    argument.complete = how  # type: ignore[attr-defined] # read by shtab
