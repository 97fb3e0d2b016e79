"""What `check` looks at: each thing that a run needs is tried, and each problem says what to do.

Folders that are missing are made, as by the daemon. Nothing is taken or moved, and only a token is asked for.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from invox_watcher.config import Config
from invox_watcher.daemon import api_of, client_of, folders_of, named_folders, prepare_state
from invox_watcher.errors import ExitStatus, FolderError, InvoxError
from invox_watcher.files import APART_HINT
from invox_watcher.inbox.mounts import Mount, mount_of
from invox_watcher.presence import check_mounted
from invox_watcher.signature import usable_layouts

_VOLATILE = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class Finding:
    """What one check found; `status` is the exit status of a run that meets the problem."""

    check: str
    level: Literal["ok", "warning", "failed"] = "ok"
    problem: str | None = None
    hint: str = ""
    status: ExitStatus = ExitStatus.OK


def findings(config: Config) -> list[Finding]:
    """Try everything that `config` names, in the order in which a person would mend it."""
    checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("configuration", lambda: iter(())),
        ("folders", lambda: _folders(config)),
        ("state", lambda: _state(config)),
    ]
    if config.http.address is not None:
        checks.append(("http.listen", lambda: _listen(config)))
    if config.webhook.enabled:
        checks.append(("webhooks", lambda: _webhooks(config)))
    checks.append(("credentials and API", lambda: _api(config)))
    return [finding for name, check in checks for finding in _found(name, check)]


def _found(name: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check()) or [Finding(name)]
    except InvoxError as error:
        return [Finding(name, "failed", error.message, error.hint, error.exit_status)]


def _folders(config: Config) -> Iterator[Finding]:
    folders = folders_of(config)
    check_mounted(config.state.directory, named_folders(folders).values())
    folders.prepare()
    if apart := folders.apart():
        problem = f"{' and '.join(apart)}: on another file system than processing"
        yield Finding("folders", "warning", problem, APART_HINT)
    for folder in (folders.inbox, folders.processing, folders.outbox, folders.done, folders.failed):
        mount = _mount(folder)
        if mount.type in _VOLATILE:
            yield Finding("folders", "warning", _lost_on(folder, mount), "Put it on a disk.")


def _state(config: Config) -> Iterator[Finding]:
    directory = prepare_state(config)
    mount, hint = _mount(directory), "Put it on a local disk."
    if mount.type in _VOLATILE:
        yield Finding("state", "warning", _lost_on(directory, mount), hint)


def _listen(config: Config) -> Iterator[Finding]:
    host, port = config.http.address or ("", 0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                problem = f"{config.http.listen} is in use: by this daemon, if it is running"
                yield Finding("http.listen", "warning", problem, "If it is not, choose another port.")
                return
            raise FolderError(
                f"http.listen: can't listen on {config.http.listen}: {error.strerror}",
                hint="Choose an address of this machine and a port above 1023, or null for none.",
            ) from None


def _webhooks(config: Config) -> Iterator[Finding]:
    """What is allowed for webhooks, and still worth a word."""
    webhook, secret = config.webhook, config.credentials.app_secret
    if (webhook.public_url or "").startswith("http:"):
        problem = "webhook.public_url is plain http: anyone on the way could read patients' words"
        yield Finding("webhooks", "warning", problem, "Put a web server with TLS in front.")
    if config.http.listen is None:
        problem = "http.listen is null, so no webhook can arrive"
        yield Finding("webhooks", "warning", problem, "Set it to an address and port.")
    if secret is not None and len(usable_layouts(secret.get_secret_value())) == 1:
        problem = "the APP Secret is not 16, 24 or 32 bytes long: it can check only one of the two layouts"
        hint = "In order if your account's signatures begin with U2FsdGVkX1. Otherwise check the secret."
        yield Finding("webhooks", "warning", problem, hint)


def _api(config: Config) -> Iterator[Finding]:
    client = client_of(config)
    try:
        api_of(config, client).check()
    finally:
        client.close()
    yield from ()


def _lost_on(folder: Path, mount: Mount) -> str:
    return f"{folder} lies on {mount.type}, which does not survive a restart"


def _mount(folder: Path) -> Mount:
    return mount_of(os.path.realpath(folder))
