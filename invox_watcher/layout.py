"""Folders, limits and profiles that a configuration names: all that most commands need to have built."""

from __future__ import annotations

import hashlib

from invox_watcher.config import Config
from invox_watcher.files import FLEET_PREFIX, Folders, Occupancy, host_name, recorded_fleet
from invox_watcher.host import Locks
from invox_watcher.journal import Server
from invox_watcher.plan import DEFAULT, Plan
from invox_watcher.priority import Priority
from invox_watcher.profiles import Conditions, Profile, Profiles
from invox_watcher.spending import Limits

_MARK_MODE = 0o644  # who may enter a folder may know which instance uses it


def folders_of(config: Config) -> Folders:
    """The folders that the configuration names."""
    return Folders(
        inbox=config.folders.inbox,
        processing=config.folders.processing,
        outbox=config.folders.outbox,
        done=config.folders.done,
        failed=config.folders.failed,
        directory_mode=config.folders.directory_mode,
        host=host_of(config),
    )


def occupancy_of(config: Config, locks: Locks | None = None, fleet: str | None = None) -> Occupancy:
    """The folders that the configuration names, as those that no other instance may use.

    `locks` are those of this process, if it has any. `fleet` identifies the hosts that share the folders, if
    several do; by default what this one was told when it was started last.
    """
    if config.state.url is not None and fleet is None:
        fleet = recorded_fleet(config.state.directory)
    folders = folders_of(config)
    named = {f"folders.{name}": folder for name, folder in folders.by_name().items()}
    mode = folders.file_mode & _MARK_MODE
    return Occupancy(config.state.directory, named, mode=mode, locks=locks, fleet=fleet)


def fleet_of(config: Config, journal_id: str) -> str:
    """What identifies the hosts that may share folders: one journal, which has that id, and one account."""
    account = f"{journal_id}\n{config.credentials.app_id.get_secret_value()}"
    return FLEET_PREFIX + hashlib.sha256(account.encode()).hexdigest()[:32]


def database_of(config: Config) -> Server | None:
    """The database with the journal of several hosts; None if it is a file of this host's."""
    url = config.state.url
    return None if url is None else Server(url, config.state.password_file)


def host_of(config: Config) -> str | None:
    """What this host, of several, is called; None if it is alone."""
    return None if config.state.url is None else config.state.host or host_name()


def limits_of(config: Config) -> Limits:
    """The audio minutes per day, overall and by profile."""
    by_profile = {
        profile.name: profile.settings.daily_minutes
        for profile in config.profiles
        if profile.settings.daily_minutes is not None
    }
    return Limits(config.intake.daily_minutes, by_profile)


def profiles_of(config: Config) -> Profiles:
    """The profiles, each with the plan for its recordings: what it leaves open is as for all."""
    outputs = config.outputs
    profiles = []
    for section in config.profiles:
        conditions, sets = Conditions(**section.match.model_dump()), section.settings
        plan = Plan(
            profile=section.name,
            formats=outputs.formats if sets.formats is None else sets.formats,
            speaker_names=outputs.speaker_names if sets.speaker_names is None else sets.speaker_names,
            attributes=sets.attributes,
            priority=Priority[sets.priority.upper()],
            template=outputs.template if sets.template is None else str(sets.template),
            targets=sets.targets,
            presign_fields=sets.presign_fields,
        )
        profiles.append(Profile(conditions, plan))
    default = Plan(DEFAULT, outputs.formats, outputs.speaker_names, template=outputs.template)
    return Profiles(profiles, default)
