"""`transcribe`, and `check --try`: one recording through the API, without folders and without a journal."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from invox_watcher.assembly import client_of, single_of
from invox_watcher.audio import AudioInfo, identify, mime_type
from invox_watcher.cli._common import config_of
from invox_watcher.config import Config
from invox_watcher.errors import (
    ExitStatus,
    InvoxError,
    RecordingError,
    StoppedError,
    TranscriptionFailedError,
)
from invox_watcher.invox import ApiCall, ReplyStatus, TranscriptionReply
from invox_watcher.logs import printable
from invox_watcher.net import HttpClient
from invox_watcher.outputs import Source, render
from invox_watcher.processing import SingleResult, delivery_of_single, poll_single, transcribe_single
from invox_watcher.times import utc_now

_BLOCK_BYTES = 1 << 20


def transcribe(options: argparse.Namespace) -> ExitStatus:
    """Print the transcript of one recording."""
    config, began = config_of(options, folders=False), utc_now()
    with _opened(options.file) as recording, _interruptible() as stop:
        result = _transcribed(config, recording, stop, request_id=options.request_id)
        source = _source(recording, config)
    if result.reply.status is ReplyStatus.ERROR:
        raise TranscriptionFailedError(
            f"The API could not transcribe it: {result.reply.error_message or 'no reason given'}",
            hint="Listen to the recording: does it contain speech?",
        )
    delivery = delivery_of_single(result, source, began)
    sys.stdout.buffer.write(render(delivery, options.format, config.outputs.speaker_names))
    sys.stdout.flush()
    for repair in result.reply.repairs:
        print(f"Note: in the result {repair}.", file=sys.stderr)
    return ExitStatus.OK


def try_one(config: Config, path: Path) -> ExitStatus:
    """Send one recording, and print every request and reply without a single value of them."""
    from invox_watcher.diagnostics import trial  # noqa: PLC0415 - only here

    calls: list[ApiCall] = []
    failure: InvoxError | None = None
    reply: TranscriptionReply | None = None
    with _opened(path) as recording, _interruptible() as stop:
        try:
            reply = _transcribed(config, recording, stop, on_call=calls.append).reply
        except InvoxError as error:
            failure = error
    lines = [
        *trial.described(calls, config.api.status_path),
        trial.cost(calls, recording.size_bytes, recording.info.duration_seconds),
        *(f"- {surprise}" for surprise in trial.surprises(calls, reply)),
        trial.verdict(reply, failure),
    ]
    for line in lines:
        print(printable(line))
    if failure is not None:
        return failure.exit_status
    return ExitStatus.OK if reply is not None and reply.transcript is not None else ExitStatus.SOME_FAILED


@dataclass(frozen=True)
class _Recording:
    """A file given on the command line."""

    path: Path
    file: BinaryIO
    size_bytes: int
    info: AudioInfo


@contextmanager
def _opened(path: Path) -> Iterator[_Recording]:
    """The recording, opened.

    Raises:
        RecordingError: it can't be read.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise RecordingError(f"{path} can't be read: {error.strerror}", code="read_failed") from None
    with file:
        size_bytes = os.fstat(file.fileno()).st_size
        info = identify(file, size_bytes)
        file.seek(0)
        yield _Recording(path, file, size_bytes, info)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that the command ends in order."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _transcribed(
    config: Config,
    recording: _Recording,
    stop: threading.Event,
    *,
    request_id: str | None = None,
    on_call: Callable[[ApiCall], None] | None = None,
) -> SingleResult:
    info, client = recording.info, client_of(config)
    threading.Thread(target=_abort_when, args=(stop, client), daemon=True).start()
    try:
        single = single_of(config, client, stop=stop, on_request=_report_request, on_call=on_call)
        if request_id is not None:
            return poll_single(single, request_id, duration_seconds=info.duration_seconds)
        return transcribe_single(
            recording.file,
            single,
            size_bytes=recording.size_bytes,
            mime_type=_mime_type(recording, config),
            duration_seconds=info.duration_seconds,
        )
    except StoppedError as error:
        hint = "`invox-watcher transcribe --request-id ID FILE` gets the result without another upload."
        raise StoppedError(error.message, hint=hint) from None
    finally:
        client.close()


def _mime_type(recording: _Recording, config: Config) -> str:
    info = recording.info
    kind = mime_type(info.container, config.api.mime_types) if info.container else None
    if kind is None:
        raise RecordingError(
            f"The API does not accept this recording: {info.format}.", code="not_accepted", hint=info.hint
        )
    return kind


def _source(recording: _Recording, config: Config) -> Source:
    recording.file.seek(0)
    digest = hashlib.sha256()
    while block := recording.file.read(_BLOCK_BYTES):
        digest.update(block)
    return Source(
        name=recording.path.name,
        size_bytes=recording.size_bytes,
        sha256=digest.hexdigest(),
        mime_type=_mime_type(recording, config),
        duration_seconds=recording.info.duration_seconds,
    )


def _abort_when(stop: threading.Event, client: HttpClient) -> None:
    stop.wait()
    client.abort_all()


def _report_request(request_id: str) -> None:
    print(f"Request id: {printable(request_id)}", file=sys.stderr, flush=True)
