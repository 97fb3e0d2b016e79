"""Folders, state directory, journal and inbox."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

from invox_watcher.assembly.delivery import targets_after
from invox_watcher.config import Config
from invox_watcher.errors import FolderError, WrongJournalError
from invox_watcher.files import (
    LOCK_FILE,
    FolderMonitor,
    Folders,
    Occupancy,
    check_mounted,
    check_state_directory,
    left_behind,
    prepare_folders,
    prepare_state,
    read_unfinished,
    recorded_fleet,
    unusable,
    write_unfinished,
)
from invox_watcher.host import Locks
from invox_watcher.inbox import Inbox, Notes, ScreeningRules, Waits
from invox_watcher.journal import AuditLog, Journal, identity_in, require_copied
from invox_watcher.layout import database_of, fleet_of, folders_of, occupancy_of
from invox_watcher.profiles import Profiles


def locked_by(config: Config) -> list[Path]:
    """What a daemon with this configuration locks for itself alone."""
    directory = config.state.directory
    return [directory / LOCK_FILE, directory, *folders_of(config).by_name().values()]


def claim_folders(config: Config, locks: Locks) -> Folders:
    """The folders and the state directory, created if they are missing, locked by `locks`, and marked.

    Raises:
        FolderError, JournalError, StorageError: one can't be used, or another instance uses it, or one inside
            or around it.
    """
    folders, directory = folders_of(config), config.state.directory
    check_state_directory(directory, locks)
    prepare_state(directory, folders.inbox)
    try:
        locks.hold(directory / LOCK_FILE)
    except OSError as error:
        raise unusable(directory, error) from None
    check_mounted(directory, folders.by_name().values())
    occupancy = occupancy_of(config, locks, joined_fleet(config))
    occupancy.check()  # before anything is created in, or around, a folder of another instance
    prepare_folders(folders)
    occupancy.claim()
    return folders


def joined_fleet(config: Config) -> str | None:
    """What identifies the fleet whose journal this host uses; None if it is alone.

    Raises:
        JournalError: its database does not answer.
        WrongJournalError: it was copied elsewhere, or the journal of this host was not copied to it.
    """
    database = database_of(config)
    if database is None:
        return None
    fleet_to_join(config)  # refuses before the tables are created in a database that is not meant
    with closing(Journal(config.state.directory, server=database)) as journal:
        assert journal.fleet is not None  # noqa: S101 - there is a server
        return fleet_of(config, journal.fleet.identity())


def fleet_to_join(config: Config) -> str | None:
    """What `joined_fleet` will return, asked without a write: one of its own if no host has joined it yet.

    Raises:
        JournalError, WrongJournalError: as there.
    """
    database = database_of(config)
    if database is None:
        return None
    fleet = fleet_of(config, identity_in(database) or "new")
    if recorded_fleet(config.state.directory) != fleet:  # one that has joined did that before
        require_copied(config.state.directory, database.name)
    return fleet


def require_no_other_journal(before: Config, after: Config) -> None:
    """Refuse to continue, without a start, with a journal that does not know what is under way.

    Raises:
        WrongJournalError: `after` names one.
        JournalError: the journal can't be read.
    """
    was, will_be = before.state, after.state
    if (was.url is None) != (will_be.url is None):
        raise WrongJournalError(
            f"state.url was {'added' if was.url is None else 'removed'}: a running daemon keeps its journal.",
            code="journal_other",
            hint="Stop the daemon, copy the journal, and start it: see docs/database.md, 'Moving a journal "
            "there, and back'.",
        )
    if was.url is not None or was.directory.resolve() == will_be.directory.resolve():
        return
    with closing(Journal(was.directory, create=False)) as journal:
        under_way = len(journal.active())
    if under_way:
        raise WrongJournalError(
            f"state.directory: the journal in {was.directory} has recordings under way ({under_way}), "
            f"which one in {will_be.directory} would not know and upload again.",
            code="journal_other",
            hint="Wait until they are done, or stop the daemon and move the whole directory.",
        )


def release_others(config: Config, locks: Locks) -> None:
    """Release the folders that only another configuration names: their locks and their marks.

    Raises:
        StorageError: a mark can't be written.
    """
    try:
        occupancy_of(config, locks).release_others()
    finally:
        locks.keep(locked_by(config))


def folder_monitor_of(
    config: Config, folders: Folders, journal: Journal, occupancy: Occupancy
) -> FolderMonitor:
    """The monitor of these folders; the state directory records that the daemon uses them.

    Raises:
        FolderError: recordings under way are elsewhere, or the state directory can't be written.
        FoldersGoneError: a folder is unavailable.
    """
    monitor = FolderMonitor(folders.by_name(), contested=occupancy.contested)
    directory = config.state.directory
    under_way = [job.id for job in journal.active()]
    left = left_behind(directory, folders.processing, under_way)
    if left is not None:
        raise FolderError(
            f"folders.processing: recordings under way are in {left}, not in {folders.processing}",
            hint=f"Run with the previous folders until these are done, or move everything that is in {left}.",
        )
    try:
        monitor.remember(directory)
    except OSError as error:
        raise unusable(directory, error) from None
    return monitor


def journal_of(config: Config, audit: AuditLog) -> Journal:
    """The journal in the state directory; it names the targets of each job that has ended.

    Raises:
        JournalError: it can't be used.
    """
    return Journal(
        config.state.directory,
        server=database_of(config),
        targets_of=partial(targets_after, config),
        on_transition=audit.record_transition,
        before_commit=audit.sync,
    )


def waits_of(config: Config) -> Waits:
    """For how long files must be unchanged."""
    watch = config.watch
    return Waits(watch.grace_seconds, watch.settle_seconds, watch.unproven_seconds, watch.patience_seconds)


def inbox_of(config: Config, folders: Folders, occupancy: Occupancy, profiles: Profiles) -> Inbox:
    """The watched inbox that the configuration describes."""
    watch, directory = config.watch, config.state.directory
    return Inbox(
        folders.inbox,
        ScreeningRules(
            max_size_bytes=config.intake.max_size_mib << 20,
            accepted_mime_types=config.api.mime_types,
            waits=waits_of(config),
            read_attributes=bool(profiles),
        ),
        mode=watch.mode,
        recursive=watch.recursive,
        ignore=watch.ignore,
        rescan_seconds=watch.rescan_seconds,
        polling_seconds=watch.polling_seconds,
        priority_of=profiles.priority_of if profiles.differ_in_priority else None,
        user_of=occupancy.user_of,
        notes=Notes(partial(read_unfinished, directory), partial(write_unfinished, directory)),
    )
