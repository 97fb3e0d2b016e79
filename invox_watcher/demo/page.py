"""The demo's page: on a free port of this machine, with a user of its own."""

from __future__ import annotations

import importlib.util
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from invox_watcher.demo.stage import CONFIGURATION, USERS, ExtraMissingError, free_address

_NAME = "demo"
_LIBRARIES = ("bcrypt", "jinja2")


@dataclass(frozen=True)
class DemoPage:
    """Where the page is, and how to sign in."""

    address: str
    password: str

    def section(self, folder: Path) -> Mapping[str, str]:
        """The section `page` of the demo's configuration."""
        return {"listen": self.address, "users_file": str(folder / USERS)}

    def invitation(self) -> str:
        """How to see it."""
        return f"Watch it at http://{self.address}/ too: name {_NAME}, password {self.password}"


def page_of_demo(*, needed: bool) -> DemoPage | None:
    """The page; None without the extra `page`, unless it is `needed`.

    Raises:
        ExtraMissingError: it is needed, and the extra is not installed.
    """
    if all(map(importlib.util.find_spec, _LIBRARIES)):
        return DemoPage(free_address(), secrets.token_hex(8))
    if not needed:
        return None
    raise ExtraMissingError(
        "`demo --page` needs the extra `page`.",
        hint="Run `make demo` in a clone of the repository, or install it: pip install 'PATH[sandbox,page]', "
        "where PATH is the wheel or the clone.",
    )


def add_user(page: DemoPage, folder: Path) -> None:
    """Write the users file, by the command that an administrator would use."""
    command = [
        sys.executable,
        "-m",
        "invox_watcher",
        "page",
        "user",
        _NAME,
        "--role",
        "listen",
        "--role",
        "act",
    ]
    subprocess.run(  # noqa: S603 - this interpreter
        [*command, "--config", str(folder / CONFIGURATION)],
        input=f"{page.password}\n".encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )
