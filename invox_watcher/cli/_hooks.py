"""`hooks test`: runs the configured commands as after a recording, with an example."""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import wave
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from invox_watcher.assembly import ON_DONE, ON_FAILED, commands_of
from invox_watcher.cli._common import UsageError, config_of
from invox_watcher.cli._identity import act_as_owner
from invox_watcher.config import Config
from invox_watcher.delivery import facts_of, run_command
from invox_watcher.errors import ExitStatus, Reason
from invox_watcher.job import Failure, Job, State
from invox_watcher.logs import printable
from invox_watcher.outputs import Delivery, Source, render
from invox_watcher.recording import FileIdentity
from invox_watcher.times import rfc3339, utc_now
from invox_watcher.transcript import Segment, Transcript

_SAMPLE_RATE = 16_000
_SECONDS = 2
_STATES = {ON_DONE: State.DONE, ON_FAILED: State.FAILED}


def hooks(options: argparse.Namespace) -> ExitStatus:
    """Run each configured command with an example, and print its input, its output and its result."""
    config = config_of(options, credentials=False)
    commands = commands_of(config)
    if options.which is not None:
        commands = {name: command for name, command in commands.items() if name.endswith(options.which)}
    if not commands:
        raise UsageError(
            f"No command is configured under hooks{f'.{options.which}' if options.which else ''}.",
            hint="For example: on_done: [/usr/local/bin/notify-ward, --quiet]",
        )
    act_as_owner(config)
    with tempfile.TemporaryDirectory(prefix="invox-watcher-") as folder:
        succeeded = [_try(config, name, command, Path(folder)) for name, command in commands.items()]
    return ExitStatus.OK if all(succeeded) else ExitStatus.SOME_FAILED


def _try(config: Config, name: str, command: Sequence[str], folder: Path) -> bool:
    """Run the command of that name; whether it succeeded."""
    state = _STATES[name]
    job, recording = _example_job(state, folder)
    facts = facts_of(job, recording, _transcripts(config, job, folder) if state is State.DONE else ())
    print(f"{name}: {printable(' '.join(command))}")
    print("Standard input, and INVOX_WATCHER_... in the environment:")
    print("\n".join(f"  {printable(line)}" for line in json.dumps(facts, indent=2).splitlines()), flush=True)
    result = run_command(command, facts, config.hooks.timeout_seconds, threading.Event())
    assert result is not None  # noqa: S101 - nothing sets that event
    print("Output:" if result.output else "Output: none")
    for line in result.output.splitlines():
        print(f"  | {printable(line)}")
    print(f"Result: {printable(result.problem or 'ended with status 0')}")
    return not result.problem


def _example_job(state: State, folder: Path) -> tuple[Job, Path]:
    """A job that the journal does not know, and its recording: two seconds of silence."""
    recording = folder / state / "ward3" / "smith.wav"
    recording.parent.mkdir(parents=True)
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes(bytes(2 * _SAMPLE_RATE * _SECONDS))
    now = utc_now()
    reason = Reason("example", "This is an example: nothing has failed.", "")
    job = Job(
        id="20261123t185056-9f2c41d07ab3",
        state=state,
        path="ward3/smith.wav",
        identity=FileIdentity.of(recording.stat()),
        received_at=now - timedelta(seconds=30),
        format="WAV (PCM)",
        mime_type="audio/wav",
        duration_seconds=float(_SECONDS),
        sha256="0" * 64,
        request_id="example" if state is State.DONE else None,
        uploaded_at=now - timedelta(seconds=29),
        completed_at=now,
        delivered_by="polling",
        failure=Failure(State.CLAIMED, reason, False, at=rfc3339(now)) if state is State.FAILED else None,
    )
    return job, recording


def _transcripts(config: Config, job: Job, folder: Path) -> Sequence[Path]:
    """The example's transcripts, in the configured formats."""
    segments = (
        Segment("This is an example of a transcript.", 0.0, 1.0, "Speaker_00"),
        Segment("It says nothing.", 1.0, 2.0, "Speaker_01"),
    )
    delivery = Delivery(
        job_id=job.id,
        request_id=job.request_id,
        source=Source(job.path, job.size_bytes, job.sha256 or "", job.mime_type, job.duration_seconds),
        received_at=job.received_at,
        uploaded_at=job.uploaded_at,
        completed_at=job.completed_at,
        delivered_by=job.delivered_by,
        transcript=Transcript(segments),
        api_reply={},
    )
    outbox = folder / "outbox" / "ward3"
    outbox.mkdir(parents=True)
    written = []
    for format in config.outputs.formats:
        path = outbox / f"smith.{format}"
        outputs = config.outputs
        path.write_bytes(render(delivery, format, outputs.speaker_names, outputs.template))
        written.append(path)
    return written
