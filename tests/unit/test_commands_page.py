"""docs/commands.md: no command, option or exit status is missing."""

from __future__ import annotations

import argparse
import re

import pytest

from invox_watcher.cli._parser import build
from invox_watcher.errors import ExitStatus
from tests.kit.commands_page import PAGE, blocks


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text()


def commands() -> dict[str, argparse.ArgumentParser]:
    """Every command of the program, with its parser."""
    subparsers = next(action for action in build()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def test_every_command_and_option_is_on_the_page(page: str) -> None:
    sections = re.split(r"^## (.*)\n", page, flags=re.MULTILINE)
    by_command = {
        name: text
        for heading, text in zip(sections[1::2], sections[2::2], strict=True)
        for name in heading.split(", ")
    }
    assert set(by_command) == set(commands())
    for name, parser in commands().items():
        for action in parser._actions:
            for option in action.option_strings:
                common = option in ("-h", "--help", "--config")
                assert f"`{option}" in (sections[0] if common else by_command[name]) or option == "-h", (
                    name,
                    option,
                )
    assert "`--version`" in sections[0]


def test_every_command_but_the_endless_ones_is_run(page: str) -> None:
    run = {
        word
        for block in blocks(page)
        for command, _says in block
        for word in re.findall(r"invox-watcher ([a-z]+)", command)
    }
    assert set(commands()) - run == {"sandbox", "demo"}  # the README's own test starts them


def test_the_exit_statuses_are_those_of_the_program(page: str) -> None:
    named = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert named == {status.value for status in ExitStatus}
