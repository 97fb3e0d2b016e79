"""The state directory: where the journal, the audit log, the lock and the key for hashed names are kept."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from invox_watcher.errors import FolderError
from invox_watcher.files.durable import make_root, replace_durably
from invox_watcher.host import mount_of

LOCK_FILE = "lock"
_NAMES_KEY_FILE, _NAMES_KEY_BYTES = "names.key", 32


def prepare_state(directory: Path, inbox: Path) -> None:
    """Create the state directory if it is missing, and check that it can be used beside this inbox.

    Raises:
        FolderError: it can't be created or written, or is inside the inbox or on a network share.
    """
    if directory.resolve().is_relative_to(inbox.resolve()):
        raise FolderError(
            f"state.directory: {directory} lies inside the inbox",
            hint="Put it elsewhere, by default /var/lib/invox-watcher.",
        )
    try:
        make_root(directory, 0o700)
        os.close(os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise unusable(directory, error) from None
    mount = mount_of(os.path.realpath(directory))
    if mount.remote:
        raise FolderError(
            f"state.directory: {directory} lies on {mount.type}, where the journal's locks may not work",
            hint="Put it on a local disk, by default /var/lib/invox-watcher. The folders may be on a share.",
        )


def names_key(directory: Path) -> bytes:
    """The key with which this installation hashes names in its log; created at the first start.

    Raises:
        FolderError: the state directory can't be written.
    """
    file = directory / _NAMES_KEY_FILE
    try:
        key = file.read_bytes() if file.exists() else b""
        if len(key) != _NAMES_KEY_BYTES:
            key = secrets.token_bytes(_NAMES_KEY_BYTES)
            replace_durably(file, key, 0o600)
    except OSError as error:
        raise unusable(directory, error) from None
    return key


def unusable(directory: Path, error: OSError) -> FolderError:
    """The error to raise if the state directory can't be written."""
    return FolderError(
        f"state.directory: can't write in {directory}: {error.strerror}",
        hint=f"Create it for the daemon's user: install -d -m 700 -o USER {directory}",
    )
