"""From a job to what people get: the content of its transcript files, or of its error file."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from invox_watcher.delivery import Document, Shipment
from invox_watcher.errors import TargetUnavailableError, TemplateError, UnsendableError
from invox_watcher.invox import parse_reply
from invox_watcher.job import Failure, Job, Payload
from invox_watcher.outputs import (
    MEDIA_TYPES,
    Delivery,
    FailureReport,
    OutputFormat,
    Prepared,
    Source,
    render,
    render_error,
)
from invox_watcher.processing.single import SingleResult
from invox_watcher.times import rfc3339
from invox_watcher.transcript import Transcript


def transcript_of(job: Job, payload: object) -> Transcript:
    """What was said; `payload` is the reply that the journal keeps for `job`."""
    reply = parse_reply(payload, duration_seconds=job.duration_seconds, pushed=True)
    assert reply.transcript is not None  # noqa: S101 - the pipeline lets nothing else into the journal
    return reply.transcript


def delivery_of(job: Job, transcript: Transcript, payload: Any) -> Delivery:
    """What goes into the transcript files of `job`, whose `transcript` was read from `payload`."""
    source = Source(
        name=job.path,
        size_bytes=job.size_bytes,
        sha256=job.sha256 or "",
        mime_type=job.mime_type,
        duration_seconds=job.duration_seconds,
    )
    return Delivery(
        job_id=job.id,
        request_id=job.request_id or "",
        source=source,
        received_at=job.received_at,
        uploaded_at=job.uploaded_at,
        completed_at=job.completed_at,
        delivered_by=job.delivered_by or "",
        transcript=transcript,
        api_reply=payload,
        suspect=job.suspect or (),
        prepared=_prepared(job.payload),
        attributes=job.plan.attributes if job.plan else {},
    )


def _prepared(payload: Payload | None) -> Prepared | None:
    if payload is None:
        return None
    return Prepared(payload.mime_type, payload.size_bytes, payload.sha256, payload.truncated)


def delivery_of_single(result: SingleResult, source: Source, received_at: datetime) -> Delivery:
    """What goes into a transcript of a recording that no journal knows; it has words, not an error."""
    assert result.reply.transcript is not None  # noqa: S101 - the caller has reported an error by then
    return Delivery(
        job_id=None,
        request_id=result.request_id,
        source=source,
        received_at=received_at,
        uploaded_at=result.uploaded_at,
        completed_at=result.completed_at,
        delivered_by="polling",
        transcript=result.reply.transcript,
        api_reply=result.reply.raw,
    )


def shipment_of(
    job: Job,
    target: str,
    formats: Iterable[str],
    payload: Any,
    speaker_names: Mapping[str, str],
    *,
    template: str | None = None,
) -> Shipment:
    """All that `target` gets for `job`, which is done; `payload` is the reply that the journal keeps for it.

    `template` is the path of the template of its documents, None for the one in the package.

    Raises:
        UnsendableError: the words were deleted meanwhile, or the template needs what the recording lacks.
        TargetUnavailableError: the template is missing or broken; it is tried again.
    """
    if payload is None:
        raise UnsendableError(
            "The transcript is no longer in the journal.",
            code="words_deleted",
            hint="Retention deleted it (retention.transcripts_days). Nothing can be sent again.",
        )
    folder, filed_as = os.path.split(job.filed_as or job.path)
    name, attributes = os.path.splitext(filed_as)[0], job.plan.attributes if job.plan else {}
    delivery = delivery_of(job, transcript_of(job, payload), payload)

    def document(format: OutputFormat) -> Document:
        try:
            content = render(delivery, format, speaker_names, template)
        except TemplateError as error:
            kind = UnsendableError if error.missing_field else TargetUnavailableError
            problem = kind(error.message, code=error.code, hint=error.hint)
        else:
            return Document(f"{name}.{format}", MEDIA_TYPES[format], content)
        raise problem

    return Shipment(
        key=f"{job.id}.{target}",
        job_id=job.id,
        name=name,
        folder=folder,
        recorded_at=_moment(attributes.get("recorded_at")),
        received_at=job.received_at,
        completed_at=job.completed_at or job.updated_at,
        attributes=attributes,
        text=render(delivery, "txt", speaker_names).decode(),
        documents=tuple(document(cast(OutputFormat, format)) for format in formats),
    )


def _moment(text: str | None) -> datetime | None:
    """When a recorder says that it was; None if it does not say so in the words of ISO 8601."""
    try:
        moment = None if text is None else datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment else None
    except (ValueError, OverflowError):
        return None


def error_file(job: Job, failure: Failure) -> bytes:
    """The content of the error file of `job`, which goes into failed/ because of `failure`."""
    return render_error(
        FailureReport(
            job_id=job.id,
            request_id=job.request_id,
            name=job.path,
            size_bytes=job.size_bytes,
            sha256=job.sha256,
            format=job.format,
            stage=failure.stage,
            reason=failure.reason,
            attempts=failure.attempts,
            retry_can_help=failure.retry_can_help,
            received_at=job.received_at,
            failed_at=failure.at or rfc3339(job.updated_at),
        )
    )
