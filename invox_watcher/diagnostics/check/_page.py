"""Checks of the page: where it listens, and its users file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from invox_watcher.config import Config
from invox_watcher.diagnostics.check._addresses import address_to_listen_on, of_another
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.diagnostics.daemon_status import query_daemon
from invox_watcher.errors import ExitStatus
from invox_watcher.host import User, owner_of


def page(config: Config) -> Iterator[Finding]:
    """Can the page listen there, and read who may see it?"""
    section = config.page
    if section.listen is None:
        return
    if section.address is not None:
        in_use = partial(_in_use, config, section.listen)
        yield from address_to_listen_on("page.listen", section.listen, section.address, in_use)
    if section.socket is not None:
        yield from _socket(section.socket)
    if section.users_file is not None:
        yield from _users_file(section.users_file)


def _in_use(config: Config, listen: str) -> Finding:
    if query_daemon(config.state.directory).daemon is None:
        return of_another("page.listen", listen)
    return Finding("page.listen", seen=f"{listen} is in use; the daemon, which is running, may show it")


def _socket(path: Path) -> Iterator[Finding]:
    user, folder = User.current(), path.parent
    if not folder.is_dir():
        hint = "Create it. For systemd's unit: RuntimeDirectory=, see docs/install.md."
        yield Finding("page.listen", "failed", f"there is no folder {folder}", hint, ExitStatus.CONFIGURATION)
    elif not user.may(folder, os.W_OK | os.X_OK):
        problem = f"{user.name} may not write to {folder}, which is {owner_of(folder)}"
        yield Finding(
            "page.listen", "failed", problem, "Make the daemon's user its owner.", ExitStatus.PERMISSION
        )
    else:
        yield Finding("page.listen", seen=f"unix:{path}")


def _users_file(path: Path) -> Iterator[Finding]:
    user = User.current()
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        yield warning("page.users_file", f"there is no {path}", "`invox-watcher page user NAME` creates it.")
        return
    if not user.may(path, os.R_OK):
        problem = f"{user.name} may not read {path}, which is {owner_of(path)}"
        yield Finding(
            "page.users_file", "failed", problem, f"chown {user.name} {path}", ExitStatus.PERMISSION
        )
    elif mode & (stat.S_IWGRP | stat.S_IWOTH):
        yield Finding(
            "page.users_file", "failed", f"others may change {path}", f"chmod 600 {path}",
            ExitStatus.CONFIGURATION,
        )  # fmt: skip
    else:
        yield Finding("page.users_file", seen=str(path))
