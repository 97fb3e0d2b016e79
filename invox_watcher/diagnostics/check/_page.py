"""Checks of the page: where it listens, and its users file."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from invox_watcher.config import Config
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.diagnostics.daemon_status import query_daemon
from invox_watcher.errors import ExitStatus
from invox_watcher.host import User, is_loopback, owner_of


def page(config: Config) -> Iterator[Finding]:
    """Can the page listen there, and read who may see it?"""
    section = config.page
    if section.listen is None:
        return
    if section.address is not None:
        yield from _address(config, section.address)
    if section.socket is not None:
        yield from _socket(section.socket)
    if section.users_file is not None:
        yield from _users_file(section.users_file)


def _address(config: Config, address: tuple[str, int]) -> Iterator[Finding]:
    listen = config.page.listen
    if not is_loopback(address[0]):
        problem = f"{listen} can be reached from other machines, and speaks plain HTTP"
        yield warning("page.listen", problem, "Listen on 127.0.0.1 and put a web server with TLS in front.")
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and query_daemon(config.state.directory).daemon is not None:
                yield Finding(
                    "page.listen", seen=f"{listen} is in use; the daemon, which is running, may show it"
                )
                return
            problem = f"can't listen on {listen}: {error.strerror}"
            hint = "Choose another port."
            yield Finding("page.listen", "failed", problem, hint, ExitStatus.CONFIGURATION)
        else:
            yield Finding("page.listen", seen=f"{listen} is free")


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
