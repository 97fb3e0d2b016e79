"""Targets, and the operator's commands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from invox_watcher.assembly.common import Common
from invox_watcher.backoff import Backoff
from invox_watcher.config import PACE_KEYS, Config, TargetSection
from invox_watcher.delivery import Command, Dispatcher, Orders, Pace, Target, target_of_kind
from invox_watcher.files import Folders
from invox_watcher.job import Job, State
from invox_watcher.journal import Journal, Receipt
from invox_watcher.processing import shipment_of, target_duty
from invox_watcher.times import rfc3339, utc_now

# The targets that are commands of the section `hooks`.
ON_DONE, ON_FAILED = "hooks.on_done", "hooks.on_failed"
_COMMAND_DEADLINE = timedelta(days=7)  # of one that the daemon was stopped in, again and again


def targets_of(config: Config) -> dict[str, Target]:
    """The configured targets by name; nothing is connected yet."""
    return {name: target_of(section) for name, section in config.targets.items()}


def target_of(section: TargetSection) -> Target:
    """The target that one section of `targets` describes."""
    keys = type(section).model_fields.keys() - PACE_KEYS - {"kind"}
    return target_of_kind(section.kind, {key: getattr(section, key) for key in keys})


def target_names_of(config: Config) -> frozenset[str]:
    """The configured targets: what receives transcripts besides the outbox."""
    return frozenset(config.targets)


def commands_of(config: Config) -> dict[str, Sequence[str]]:
    """The operator's commands, by the names of their targets."""
    commands = {ON_DONE: config.hooks.on_done, ON_FAILED: config.hooks.on_failed}
    return {name: command for name, command in commands.items() if command}


def targets_after(config: Config, job: Job) -> list[str]:
    """The names of the targets to which `job`, which has ended, is delivered: those of its plan, or all."""
    command = ON_DONE if job.state is State.DONE else ON_FAILED
    commands = [command] if command in commands_of(config) else []
    if job.state is not State.DONE:
        return commands
    return [*commands, *(config.targets if job.plan is None else job.plan.targets)]


def dispatchers_of(common: Common) -> list[Dispatcher]:
    """What sends to each target; of several hosts, one alone."""
    config, journal = common.config, common.journal
    # A command that is no longer configured is not owed to anybody.
    journal.deliveries.give_up_unless("hooks.", commands_of(config))
    pace = Pace(Backoff(config.retry.base_seconds, config.retry.max_seconds), _COMMAND_DEADLINE)
    commands = [
        Dispatcher(
            name,
            command_of(config, command, common.folders, journal).run,
            journal,
            pace,
            on_duty=common.duty(target_duty(name)),
        )
        for name, command in commands_of(config).items()
    ]
    return [*commands, *(_dispatcher_of(common, name) for name in config.targets)]


def _dispatcher_of(common: Common, name: str) -> Dispatcher:
    config, journal = common.config, common.journal
    section = config.targets[name]
    target = target_of(section)

    def send(job: Job, _stop: threading.Event) -> Receipt:
        outputs, plan = config.outputs, job.plan
        names = outputs.speaker_names if plan is None else plan.speaker_names
        template = outputs.template if plan is None else plan.template
        shipment = shipment_of(job, name, target.formats, journal.reply(job.id), names, template=template)
        return Receipt(rfc3339(utc_now()), target.send(shipment))

    pace = Pace(
        Backoff(config.retry.base_seconds, section.retry_max_seconds),
        timedelta(days=section.deadline_days),
        ordered=section.ordered,
        min_interval_seconds=60 / section.max_per_minute if section.max_per_minute else 0.0,
    )
    on_duty = common.duty(target_duty(name))
    return Dispatcher(name, send, journal, pace, connection=target, on_duty=on_duty)


def command_of(config: Config, command: Sequence[str], folders: Folders, journal: Journal) -> Command:
    """One of the operator's commands."""
    return Command(
        command,
        config.hooks.timeout_seconds,
        folders={State.DONE: folders.done, State.FAILED: folders.failed},
        transcripts=lambda job: [folders.outbox / path for path in journal.finished.outputs(job.id)],
    )


def orders_of(
    common: Common, dispatchers: Sequence[Dispatcher]
) -> dict[str, Callable[[threading.Event], None]]:
    """What carries out orders about deliveries; nothing if there can be none."""
    deliveries = common.journal.deliveries
    if not dispatchers and not deliveries.backlogs():
        return {}

    def wake() -> None:
        for dispatcher in dispatchers:
            dispatcher.wake()

    return {"orders": Orders(common.config.state.directory, deliveries, wake=wake).run}
