"""What takes a recording through its steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from invox_watcher.assembly.api import api_of
from invox_watcher.assembly.common import Common
from invox_watcher.assembly.storage import waits_of
from invox_watcher.backoff import Backoff
from invox_watcher.config import Config
from invox_watcher.coverage import Decode, Listener
from invox_watcher.formats.decoder import Decoder
from invox_watcher.inbox import Evidence
from invox_watcher.invox import ApiCall, InvoxApi
from invox_watcher.job import Job
from invox_watcher.layout import limits_of
from invox_watcher.processing import (
    Engine,
    JournalFirst,
    Pipeline,
    PollingPolicy,
    ProcessingOptions,
    Single,
    local_lanes,
)

if TYPE_CHECKING:
    from invox_watcher.net import HttpClient


def decoder_of(config: Config) -> Decoder:
    """The decoder of what the API does not take; whether it is installed is another question."""
    return Decoder(
        passwords_file=config.intake.ds2_passwords_file, most_output_bytes=config.intake.max_size_mib << 20
    )


def _as_wav(decoder: Decoder) -> Decode | None:
    """What makes a recording that can be listened to of any other; None without the extra."""
    if not decoder.is_installed:
        return None

    def decode(source: BinaryIO, target: BinaryIO, stop: threading.Event) -> None:
        decoder.decode(source, target, "wav", stop)

    return decode


def polling_policy_of(config: Config) -> PollingPolicy:
    """How results are polled for, or arrive by webhook."""
    return PollingPolicy(
        **config.polling.model_dump(),
        callback_url=config.webhook.public_url if config.webhook.enabled else None,
        confirm=config.webhook.confirm,
    )


def pipeline_of(common: Common, api: InvoxApi, *, on_filed: Callable[[Job, Evidence], None]) -> Pipeline:
    """The steps of a recording, as the configuration wants them."""
    config, folders, journal = common.config, common.folders, common.journal
    member, stop = common.member, common.stop
    decoder = decoder_of(config)
    return Pipeline(
        folders=folders,
        journal=journal,
        api=api,
        options=ProcessingOptions(
            on_duplicate=config.intake.on_duplicate,
            on_truncated=config.intake.on_truncated,
            max_size_bytes=config.intake.max_size_mib << 20,
            mime_types=config.api.mime_types,
            formats=config.outputs.formats,
            speaker_names=config.outputs.speaker_names,
            docx_template=config.outputs.template,
            polling=polling_policy_of(config),
            limits=limits_of(config),
            quiet_seconds=waits_of(config).of(Evidence.UNPROVEN),
        ),
        decoder=decoder,
        stop=stop,
        clock=common.clock,
        listener=Listener(folders.processing, _as_wav(decoder)),
        claiming=None if member is None else JournalFirst(folders, journal, stop),
        may_file_first=lambda: member is None or member.lease.is_valid,
        waiting=(lambda: 0) if member is None else member.waiting,
        on_filed=on_filed,
    )


def engine_of(
    common: Common, pipeline: Pipeline, *, on_room: Callable[[], None], on_crash: Callable[[], None]
) -> Engine:
    """The engine, with its threads not yet started."""
    config, member, lanes = common.config, common.member, local_lanes(common.clock)
    return Engine(
        pipeline=pipeline,
        journal=common.journal,
        lanes=lanes if member is None else member.lanes(lanes),
        upload_workers=config.upload.workers,
        max_in_flight=config.intake.max_in_flight,
        max_attempts=config.retry.max_attempts,
        backoff=Backoff(config.retry.base_seconds, config.retry.max_seconds),
        unavailable=common.folder_monitor.unavailable,
        on_room=on_room,
        on_crash=on_crash,
        clock=common.clock,
        elsewhere=(lambda: 0) if member is None else member.elsewhere,
    )


def single_of(
    config: Config,
    client: HttpClient,
    *,
    stop: threading.Event,
    on_request: Callable[[str], None],
    on_call: Callable[[ApiCall], None] | None = None,
) -> Single:
    """What one recording needs that is transcribed without folders and journal."""
    return Single(
        api=api_of(config, client, on_call=on_call),
        polling=polling_policy_of(config),
        backoff=Backoff(config.retry.base_seconds, config.retry.max_seconds),
        stop=stop,
        on_request=on_request,
    )
