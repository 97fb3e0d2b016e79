"""`transcribe`, and `check --try`: one recording through the API, without folders and without a journal."""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import FrameType

from invox_watcher.assembly import client_of, single_of
from invox_watcher.audio import AudioInfo, Completeness, identify, mime_type
from invox_watcher.cli._common import UsageError, config_of
from invox_watcher.cli._streams import complain
from invox_watcher.config import Config
from invox_watcher.errors import (
    ApiRejectedError,
    ExitStatus,
    InvoxError,
    RecordingError,
    StoppedError,
    StorageError,
    TemplateError,
    TranscriptionFailedError,
    UploadUrlRefusedError,
)
from invox_watcher.host import SignalEvent, keep_memory_private
from invox_watcher.invox import ApiCall, ReplyStatus, TranscriptionReply
from invox_watcher.logs import printable
from invox_watcher.net import HttpClient
from invox_watcher.outputs import INSTALL_DOCX, Source, docx_is_installed, render
from invox_watcher.processing import SingleResult, delivery_of_single, poll_single, transcribe_single
from invox_watcher.times import utc_now

_UNACCEPTED = "It accepts WAV, MP3, M4A, FLAC, Ogg and WebM, and only sound."
_SENDING = "Sending one recording, which is charged once storage has it. Ctrl-C ends the wait for its result."
_STOPPED = 130  # as shells report Ctrl-C


def transcribe(options: argparse.Namespace) -> int:
    """Print the transcript of one recording."""
    keep_memory_private()
    config, began = config_of(options, folders=False), utc_now()
    if options.format == "docx" and not docx_is_installed():
        raise UsageError("The format docx is an extra that is not installed.", hint=INSTALL_DOCX)
    with _opened(options.file, config) as recording, _interruptible() as stop:
        run = _Run(config, recording, stop, on_request=_print_request)
        try:
            result = run.result(options.request_id)
        except StoppedError as error:
            complain(_with_way_on(error, run))
            return _STOPPED
        except InvoxError as error:
            raise _with_way_on(error, run) from None
        source = _source(recording)
    if result.reply.status is ReplyStatus.ERROR:
        raise TranscriptionFailedError(
            f"The API could not transcribe it: {result.reply.error_message or 'no reason given'}",
            hint="Listen to the recording: does it contain speech?",
        )
    delivery = delivery_of_single(result, source, began)
    outputs = config.outputs
    try:
        content = render(delivery, options.format, outputs.speaker_names, outputs.template)
    except TemplateError as error:
        raise _with_way_on(error, run) from None
    sys.stdout.buffer.write(content)
    sys.stdout.flush()
    for repair in result.reply.repairs:
        print(f"Note: in the result {repair}.", file=sys.stderr)
    return ExitStatus.OK


def try_one(config: Config, path: Path) -> int:
    """Send one recording, and print every request and reply without a single value of them."""
    from invox_watcher.diagnostics.trial import Trial  # noqa: PLC0415 - only here

    keep_memory_private()
    calls: list[ApiCall] = []
    secrets = [path.name, str(path), *_credentials(config)]
    failure: InvoxError | None = None
    reply: TranscriptionReply | None = None
    with _opened(path, config) as recording, _interruptible() as stop:
        print(_SENDING, file=sys.stderr, flush=True)
        run = _Run(config, recording, stop, on_request=secrets.append, on_call=calls.append)
        try:
            reply = run.result().reply
        except InvoxError as error:
            failure = error
    lines = Trial(calls, status_path=config.api.status_path, secrets=secrets).lines(
        reply, failure, size_bytes=recording.size_bytes, duration_seconds=recording.info.duration_seconds
    )
    for line in lines:
        print(printable(line))
    if isinstance(failure, StoppedError):
        return _STOPPED
    if failure is not None:
        return failure.exit_status
    return ExitStatus.OK if reply is not None and reply.transcript is not None else ExitStatus.SOME_FAILED


@dataclass(frozen=True)
class _Recording:
    """A file given on the command line."""

    path: Path
    file: FileIO
    size_bytes: int
    info: AudioInfo
    mime_type: str


@contextmanager
def _opened(path: Path, config: Config) -> Iterator[_Recording]:
    """The recording, opened.

    Raises:
        RecordingError: it can't be read, or the API does not accept what it is.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecordingError(f"{path} is not a regular file.", code="read_failed")
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise RecordingError(f"{path} can't be read: {error.strerror}.", code="read_failed") from None
    with file:
        size_bytes = os.fstat(file.fileno()).st_size
        info = identify(file, size_bytes)
        file.seek(0)
        kind = mime_type(info.container, config.api.mime_types) if info.container else None
        if kind is None:
            raise RecordingError(
                f"The API does not accept this recording: {info.format}.",
                code="not_accepted",
                hint=_UNACCEPTED if info.container is None else "Check api.mime_types.",
            )
        if info.completeness is Completeness.UNFINISHED:
            print("Note: the file is incomplete according to its header.", file=sys.stderr)
        elif info.remark:
            print(f"Note: {info.remark}.", file=sys.stderr)
        yield _Recording(path, file, size_bytes, info, kind)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM set the event, so that the command ends in order; a second one ends it at once."""
    stop = SignalEvent()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        restore()

    for number in numbers:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()


class _Run:
    """One recording on its way; `request_id` is known from before its first byte goes out."""

    def __init__(
        self,
        config: Config,
        recording: _Recording,
        stop: threading.Event,
        *,
        on_request: Callable[[str], None],
        on_call: Callable[[ApiCall], None] | None = None,
    ) -> None:
        self._config = config
        self._stop = stop
        self._on_request = on_request
        self._on_call = on_call
        self.recording = recording
        self.request_id: str | None = None

    def result(self, request_id: str | None = None) -> SingleResult:
        """Upload it, unless `request_id` is that of an earlier upload, and wait for the result.

        Raises what `transcribe_single` and `poll_single` raise.
        """
        self.request_id = request_id
        recording, client = self.recording, client_of(self._config)
        threading.Thread(target=_abort_when, args=(self._stop, client), daemon=True).start()
        try:
            single = single_of(
                self._config, client, stop=self._stop, on_request=self._begin, on_call=self._on_call
            )
            if request_id is not None:
                return poll_single(
                    single, request_id, duration_seconds=recording.info.duration_seconds, uncertain=True
                )
            return transcribe_single(
                recording.file,
                single,
                size_bytes=recording.size_bytes,
                mime_type=recording.mime_type,
                duration_seconds=recording.info.duration_seconds,
            )
        finally:
            client.close()

    def _begin(self, request_id: str) -> None:
        self.request_id = request_id
        self._on_request(request_id)


def _with_way_on(error: InvoxError, run: _Run) -> InvoxError:
    """The error with a hint how to get the result later, if there may be one."""
    if isinstance(error, StoppedError):
        error = StoppedError("Stopped." if run.request_id else "Stopped. Nothing was uploaded.", hint="")
    # After these, storage has not taken the recording.
    lost = isinstance(error, ApiRejectedError | UploadUrlRefusedError | StorageError)
    if run.request_id is None or lost or error.code == "upload_interrupted":
        return error
    command = ["invox-watcher", "transcribe", "--request-id", run.request_id, str(run.recording.path)]
    way_on = f"If the upload was complete, this gets the result without another one: {shlex.join(command)}"
    error.hint = " ".join(filter(None, (error.hint, way_on)))
    return error


def _source(recording: _Recording) -> Source:
    recording.file.seek(0)
    digest = hashlib.file_digest(recording.file, "sha256")
    return Source(
        name=recording.path.name,
        size_bytes=recording.size_bytes,
        sha256=digest.hexdigest(),
        mime_type=recording.mime_type,
        duration_seconds=recording.info.duration_seconds,
    )


def _credentials(config: Config) -> Iterator[str]:
    for secret in (config.credentials.app_id, config.credentials.api_key, config.credentials.app_secret):
        if secret is not None:
            yield secret.get_secret_value()


def _abort_when(stop: threading.Event, client: HttpClient) -> None:
    stop.wait()
    client.abort_all()


def _print_request(request_id: str) -> None:
    print(f"Request id: {printable(request_id)}", file=sys.stderr, flush=True)
