"""From the configuration to the parts: which arguments each of them gets, and what is prepared on the disk.

`daemon` puts the parts together, and `check` and the commands use single ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from invox_watcher.config import Config
from invox_watcher.errors import FolderError
from invox_watcher.files import (
    LOCK_FILE,
    FolderMonitor,
    Folders,
    check_mounted,
    left_behind,
    prepare_state,
    unusable,
)
from invox_watcher.host import Locks
from invox_watcher.inbox import Inbox
from invox_watcher.invox import ApiCall, ApiOptions, InvoxApi, TokenRequest
from invox_watcher.journal import Journal
from invox_watcher.net import HttpClient


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


def api_of(
    config: Config, client: HttpClient, *, on_call: Callable[[ApiCall], None] | None = None
) -> InvoxApi:
    """The API client that the configuration describes; `on_call` hears of each of its calls."""
    token = config.api.token
    options = ApiOptions(
        base_url=config.api.base_url,
        version=config.api.version,
        headers=config.api.headers,
        token=TokenRequest(
            url=token.url,
            method=token.method,
            headers=token.headers,
            form=token.form,
            json=token.json_body,
            field=token.field,
            lifetime_seconds=token.lifetime_seconds,
        ),
        presign_path=config.api.presign_path,
        presign_fields=config.api.presign_fields,
        status_path=config.api.status_path,
        upload_headers=config.upload.headers,
        read_timeout_seconds=config.api.read_timeout_seconds,
        retry_max_seconds=config.retry.max_seconds,
    )
    return InvoxApi(
        client,
        options,
        app_id=config.credentials.app_id.get_secret_value(),
        api_key=config.credentials.api_key.get_secret_value(),
        on_call=on_call,
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
        raise unusable(directory, error) from None
    check_mounted(directory, named_folders(folders).values())
    folders.prepare()
    try:
        locks.hold(folders.processing)
    except OSError as error:
        raise unusable(folders.processing, error) from None
    return folders


def move_in(config: Config, folders: Folders, presence: FolderMonitor, journal: Journal) -> None:
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
        raise unusable(config.state.directory, error) from None


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
