"""From the configuration to the parts: which arguments each of them gets, and what is prepared on the disk.

`daemon` puts the parts together, and `check` and the commands use single ones.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from invox_watcher.api import InvoxApi
from invox_watcher.config import Config
from invox_watcher.errors import FolderError
from invox_watcher.exchange import HttpClient
from invox_watcher.files import Folders, make_root, replace_durably
from invox_watcher.inbox import Inbox
from invox_watcher.inbox.mounts import mount_of
from invox_watcher.lock import Locks
from invox_watcher.presence import Presence, check_mounted, left_behind
from invox_watcher.store import Journal

LOCK_FILE = "lock"
_NAMES_KEY_FILE, _NAMES_KEY_BYTES = "names.key", 32


def folders_of(config: Config) -> Folders:
    """The folders that the configuration names."""
    return Folders(
        inbox=config.folders.inbox,
        processing=config.folders.processing,
        outbox=config.folders.outbox,
        done=config.folders.done,
        failed=config.folders.failed,
        directory_mode=config.folders.directory_mode,
    )


def named_folders(folders: Folders) -> dict[str, Path]:
    """The five folders by name."""
    return {name: getattr(folders, name) for name in ("inbox", "processing", "outbox", "done", "failed")}


def prepare_state(config: Config) -> Path:
    """The state directory, made where it is missing.

    Raises:
        FolderError: it can't be made or written, or lies inside the inbox or on a network share.
    """
    directory = config.state.directory
    if directory.resolve().is_relative_to(config.folders.inbox.resolve()):
        raise FolderError(
            f"state.directory: {directory} lies inside the inbox",
            hint="Put it elsewhere, by default /var/lib/invox-watcher.",
        )
    try:
        make_root(directory, 0o700)
        os.close(os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _unusable(directory, error) from None
    mount = mount_of(os.path.realpath(directory))
    if mount.remote:
        raise FolderError(
            f"state.directory: {directory} lies on {mount.type}, where the journal's locks may not hold",
            hint="Put it on a local disk, by default /var/lib/invox-watcher. The folders may lie on a share.",
        )
    return directory


def names_key(directory: Path) -> bytes:
    """The key with which this installation hashes names in its log; made at the first start.

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
        raise _unusable(directory, error) from None
    return key


def api_of(config: Config, client: HttpClient) -> InvoxApi:
    """The API client that the configuration describes."""
    return InvoxApi(
        client,
        base_url=config.api.base_url,
        version=config.api.version,
        token_path=config.api.token_path,
        presign_path=config.api.presign_path,
        status_path=config.api.status_path,
        app_id=config.credentials.app_id.get_secret_value(),
        api_key=config.credentials.api_key.get_secret_value(),
        read_timeout_seconds=config.api.read_timeout_seconds,
        retry_max_seconds=config.retry.max_seconds,
    )


def client_of(config: Config) -> HttpClient:
    """The HTTP client that the configuration describes."""
    return HttpClient(
        connect_timeout_seconds=config.api.connect_timeout_seconds,
        ca_bundle=str(config.api.ca_bundle) if config.api.ca_bundle else None,
        proxy=config.api.proxy,
    )


def locked_by(config: Config) -> list[Path]:
    """What a daemon with this configuration holds for itself alone.

    Also where the recordings are: two journals over the same folders would each take the other's.
    """
    return [config.state.directory / LOCK_FILE, config.folders.processing]


def claim_folders(config: Config, locks: Locks) -> Folders:
    """The folders and the state directory, made where they are missing, and held by `locks`.

    Raises:
        FolderError, JournalError: one can't be used, or another daemon uses it.
    """
    folders = folders_of(config)
    directory = prepare_state(config)
    try:
        locks.hold(directory / LOCK_FILE)
    except OSError as error:
        raise _unusable(directory, error) from None
    check_mounted(directory, named_folders(folders).values())
    folders.prepare()
    try:
        locks.hold(folders.processing)
    except OSError as error:
        raise _unusable(folders.processing, error) from None
    return folders


def move_in(config: Config, folders: Folders, presence: Presence, journal: Journal) -> None:
    """Remember that the daemon works with these folders from now on, if it may.

    Raises:
        FolderError: recordings under way lie elsewhere, or the state directory can't be written.
    """
    under_way = [job.id for job in journal.active()]
    left = left_behind(config.state.directory, folders.processing, under_way)
    if left is not None:
        raise FolderError(
            f"folders.processing: recordings under way lie in {left}, not in {folders.processing}",
            hint=f"Run with the folders as they were until these are done, or move all that is in {left}.",
        )
    try:
        presence.remember(config.state.directory)
    except OSError as error:
        raise _unusable(config.state.directory, error) from None


def inbox_of(config: Config, folders: Folders) -> Inbox:
    """The watched inbox that the configuration describes."""
    watch = config.watch
    return Inbox(
        folders.inbox,
        mode=watch.mode,
        recursive=watch.recursive,
        settle_seconds=watch.settle_seconds,
        rescan_seconds=watch.rescan_seconds,
        polling_seconds=watch.polling_seconds,
        patience_seconds=watch.patience_seconds,
        ignore=watch.ignore,
        max_size_bytes=config.intake.max_size_mib << 20,
        accepted_mime_types=config.api.mime_types,
    )


def _unusable(directory: Path, error: OSError) -> FolderError:
    return FolderError(
        f"state.directory: can't write in {directory}: {error.strerror}",
        hint=f"Create it and give it to the daemon's user: install -d -m 700 -o USER {directory}",
    )
