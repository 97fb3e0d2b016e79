"""The state directory: where the journal, the audit log, the lock and the key for hashed names are kept."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invox_watcher.errors import ExitStatus, FolderError, NotPermittedError
from invox_watcher.files.durable import make_root, replace_durably
from invox_watcher.host import mount_of

LOCK_FILE = "lock"
NAMES_KEY_FILE, _NAMES_KEY_BYTES = "names.key", 32
INSTANCE_FILE = "instance.json"
_UNFINISHED_FILE = "unfinished.json"
_READINESS_FILE = "readiness.json"


@dataclass(frozen=True)
class Instance:
    """What an instance records about itself: its identity, and the folders that it uses, without links."""

    id: str
    directory: str  # the state directory, to notice that it was copied
    folders: Set[str]
    fleet: str = ""  # with whose hosts it shares the folders; empty if it is alone


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
    file = directory / NAMES_KEY_FILE
    try:
        key = file.read_bytes() if file.exists() else b""
        if len(key) != _NAMES_KEY_BYTES:
            key = secrets.token_bytes(_NAMES_KEY_BYTES)
            replace_durably(file, key, 0o600)
    except OSError as error:
        raise unusable(directory, error) from None
    return key


def read_names_key(directory: Path) -> bytes | None:
    """The key that `names_key` has made; None if there is none yet.

    Raises:
        NotPermittedError: it may not be read.
    """
    file = directory / NAMES_KEY_FILE
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotPermittedError(f"{file} can't be read: {error.strerror}") from None


def instance_in(directory: Path | str) -> Instance | None:
    """The instance that this state directory belongs to; None if none is recorded.

    Raises:
        OSError: the record can't be read.
    """
    try:
        fields = object_from(Path(directory, INSTANCE_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    with suppress(KeyError, TypeError):
        folders, fleet = frozenset(fields["folders"]), str(fields.get("fleet") or "")
        return Instance(str(fields["id"]), str(fields["directory"]), folders, fleet)
    return None


def write_instance(directory: Path, instance: Instance) -> None:
    """Record `instance` in its state directory, unless it is recorded already.

    Raises:
        OSError: it can't be written.
    """
    if instance != instance_in(directory):
        fields = {
            "id": instance.id,
            "directory": instance.directory,
            "folders": sorted(instance.folders),
            **({"fleet": instance.fleet} if instance.fleet else {}),
        }
        content = json.dumps(fields, indent=2) + "\n"
        replace_durably(directory / INSTANCE_FILE, content.encode(), 0o600)


def instance_of(directory: Path) -> str:
    """The identity of the instance that has claimed this state directory."""
    with suppress(OSError):
        instance = instance_in(directory)
        return "" if instance is None else instance.id
    return ""


def recorded_fleet(directory: Path) -> str | None:
    """The fleet that the instance of this state directory belonged to at its last start; None if none."""
    with suppress(OSError):
        instance = instance_in(directory)
        return None if instance is None else instance.fleet or None
    return None


def read_unfinished(directory: Path) -> bytes:
    """What `write_unfinished` wrote; nothing if it never did.

    Raises:
        OSError: it can't be read.
    """
    try:
        return (directory / _UNFINISHED_FILE).read_bytes()
    except FileNotFoundError:
        return b""


def write_unfinished(directory: Path, content: bytes) -> None:
    """Note in the state directory which files of the inbox are incomplete.

    Raises:
        OSError: it can't be written.
    """
    replace_durably(directory / _UNFINISHED_FILE, content, 0o600)


def read_readiness(directory: Path) -> bytes:
    """What `write_readiness` wrote last.

    Raises:
        OSError: it can't be read; FileNotFoundError if it never was written.
    """
    return (directory / _READINESS_FILE).read_bytes()


def write_readiness(directory: Path, content: bytes) -> None:
    """Note in the state directory whether the daemon is ready, and if not, why and since when.

    Raises:
        OSError: it can't be written.
    """
    replace_durably(directory / _READINESS_FILE, content, 0o600)


def object_from(content: bytes) -> Mapping[str, Any]:
    """The JSON object that is the content of a file of ours; an empty one if it is something else."""
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
        if isinstance(found, dict):
            return found
    return {}


def unusable(directory: Path, error: OSError) -> FolderError:
    """The error to raise if the state directory can't be written."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    unusable = FolderError(
        f"state.directory: can't write in {directory}: {error.strerror}",
        hint="Free up space on its disk."
        if is_full
        else f"Create it for the daemon's user: install -d -m 700 -o USER {directory}",
    )
    if is_full:
        unusable.exit_status = ExitStatus.TRY_LATER
    return unusable
