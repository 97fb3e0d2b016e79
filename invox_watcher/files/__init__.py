"""The only package that renames, writes, fsyncs or deletes in the folders: claim, publish, file away.

Three rules hold everywhere. A file is moved by one rename that never overwrites; only to another file system
is it copied, verified and then removed. Whatever must survive a power cut is fsynced, the file first and then
the folders that name it. Every path is walked from the tree's root, component by component and without
following links, so that replacing a folder by a link at any moment has no effect.
"""

from __future__ import annotations

from invox_watcher.files.availability import FolderMonitor, check_mounted, left_behind
from invox_watcher.files.claims import Claim
from invox_watcher.files.durable import fsync_folder, replace_durably
from invox_watcher.files.folders import Folders, NameTakenError
from invox_watcher.files.marks import FLEET_PREFIX, MARK_FILE, host_name, open_folder
from invox_watcher.files.names import ERROR_SUFFIX, numbered_folders, output_path, unused
from invox_watcher.files.occupancy import Occupancy, check_state_directory
from invox_watcher.files.orders import complete_order, place_order, placed_orders
from invox_watcher.files.preparation import APART_HINT, folders_apart, prepare_folders
from invox_watcher.files.state_directory import (
    INSTANCE_FILE,
    LOCK_FILE,
    NAMES_KEY_FILE,
    instance_of,
    names_key,
    object_from,
    prepare_state,
    read_names_key,
    read_readiness,
    read_unfinished,
    recorded_fleet,
    unusable,
    write_readiness,
    write_unfinished,
)
from invox_watcher.files.unchanged import Deletion, delete_unchanged, open_unchanged, read_unchanged

__all__ = [
    "APART_HINT",
    "ERROR_SUFFIX",
    "FLEET_PREFIX",
    "INSTANCE_FILE",
    "LOCK_FILE",
    "MARK_FILE",
    "NAMES_KEY_FILE",
    "Claim",
    "Deletion",
    "FolderMonitor",
    "Folders",
    "NameTakenError",
    "Occupancy",
    "check_mounted",
    "check_state_directory",
    "complete_order",
    "delete_unchanged",
    "folders_apart",
    "fsync_folder",
    "host_name",
    "instance_of",
    "left_behind",
    "names_key",
    "numbered_folders",
    "object_from",
    "open_folder",
    "open_unchanged",
    "output_path",
    "place_order",
    "placed_orders",
    "prepare_folders",
    "prepare_state",
    "read_names_key",
    "read_readiness",
    "read_unchanged",
    "read_unfinished",
    "recorded_fleet",
    "replace_durably",
    "unusable",
    "unused",
    "write_readiness",
    "write_unfinished",
]
