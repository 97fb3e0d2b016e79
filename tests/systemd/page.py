"""docs/install.md as an administrator follows it: its command blocks, and typing them into a container."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.systemd.container import Container

PAGE = Path(__file__).parent.parent.parent / "docs" / "install.md"
API_PORT = 8788
# What the page leaves to the reader: the address, and what the commands ask for.
_REPLACED = {"https://api.example.com": f"http://127.0.0.1:{API_PORT}"}
_TYPED = {
    "smbpasswd -s -a": "device password\n" * 2,
    "smbclient //localhost": "device password\n",
    "page user anna": "violet anchor seven tables\n",
}
# Asked for on a terminal, in this order.
_ASKS, _ANSWERS = "systemd-ask-password", "sandbox-app\nsandbox-key\n"
_BLOCK = re.compile(
    r"^## (?P<section>.*?)$|^```(?P<kind>sh.*?)\n(?P<script>.*?)^```$", re.MULTILINE | re.DOTALL
)
_RESULT = re.compile(r"^cat (\S*/outbox/\S*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One block of commands.

    `kind` is `sh`; or `sh clone` for what is done in a clone of the repository, `sh old` and `sh new` on the
    two servers of a move, `sh page` for what only some want.
    """

    section: str
    kind: str
    script: str


def blocks() -> list[Block]:
    """Every block of commands, in order."""
    return list(_blocks(PAGE.read_text()))


def _blocks(text: str) -> Iterator[Block]:
    section = ""
    for match in _BLOCK.finditer(text):
        if match["kind"] is None:
            section = match["section"]
        else:
            yield Block(section, match["kind"], match["script"])


def sections() -> list[str]:
    """The sections that have commands for the server, in order."""
    return list(dict.fromkeys(block.section for block in blocks() if block.kind == "sh"))


def in_clone(section: str) -> str:
    """The commands of one section for a clone of the repository."""
    [block] = [block for block in blocks() if (block.section, block.kind) == (section, "sh clone")]
    return block.script


def follow(container: Container, section: str, kind: str = "sh") -> str:
    """Type the commands of one section; what they printed. A command that fails ends the test."""
    chosen = [block for block in blocks() if (block.section, block.kind) == (section, kind)]
    assert chosen, section
    return "".join(_type(container, block.script) for block in chosen)


def _type(container: Container, script: str) -> str:
    for text, value in _REPLACED.items():
        script = script.replace(text, value)
    typed = [lines for command, lines in _TYPED.items() if command in script]
    if _ASKS in script:
        script = f"script --quiet --return --command {shlex.quote(script)} /dev/null"
        typed.append(_ANSWERS)
    for path in _RESULT.findall(script):
        container.wait_for(f"test -s {path}")
    done = container.run(script, stdin="".join(typed))
    return done.stdout + done.stderr
