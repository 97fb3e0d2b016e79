"""docs/commands.md and docs/troubleshooting.md: each command prints here what it prints there."""

from __future__ import annotations

from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.commands_page import PAGE, TROUBLESHOOTING, Session, alike, blocks


@pytest.mark.timeout(300)  # every command of the page, one after the other
@pytest.mark.parametrize("page", [PAGE, TROUBLESHOOTING], ids=lambda page: page.name)
def test_every_command_prints_what_the_page_says(page: Path, tmp_path: Path, api: Sandbox) -> None:
    session = Session(tmp_path, api.base_url, page)
    given = [pair for block in blocks(page.read_text()) for pair in block]
    assert len(given) > 15
    for command, says in given:
        assert alike(session.gives(command)) == alike(says), command
