"""The journal's tables, and how our values become theirs."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from invox_watcher.errors import Reason
from invox_watcher.job import Failure, Job, Payload, State
from invox_watcher.recording import FileIdentity, Remedy
from invox_watcher.suspicion import Doubt, Suspicion


class _Stored(sa.TypeDecorator[Any]):
    """A column whose values pass through `encode` when written and `decode` when read; NULL is None."""

    impl = sa.String
    cache_ok = True

    def __init__(
        self, encode: Callable[[Any], Any], decode: Callable[[Any], Any], inner: type[Any] = sa.String
    ) -> None:
        super().__init__()
        self.encode, self.decode, self.inner = encode, decode, inner

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        return dialect.type_descriptor(self.inner())

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        return None if value is None else self.encode(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:  # noqa: ARG002
        return None if value is None else self.decode(value)


def _encode_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def _encode_failure(value: Failure) -> str:
    """Flat, so that a person who reads the table sees code and message at once."""
    fields = dataclasses.asdict(value)
    return json.dumps(fields.pop("reason") | fields)


def _decode_failure(value: str) -> Failure:
    fields = json.loads(value)
    reason = Reason(fields.pop("code"), fields.pop("message"), fields.pop("hint"))
    remedy = Remedy(fields.get("remedy", Remedy.NONE))  # absent in what earlier versions wrote
    return Failure(**fields | {"stage": State(fields["stage"]), "reason": reason, "remedy": remedy})


def _encode_payload(value: Payload) -> str:
    return json.dumps(dataclasses.asdict(value))


def _decode_payload(value: str) -> Payload:
    return Payload(**json.loads(value))


def _encode_suspicions(value: Iterable[Suspicion]) -> str:
    return json.dumps([dataclasses.asdict(one) for one in value])


def _decode_suspicions(value: str) -> tuple[Suspicion, ...]:
    return tuple(Suspicion(Doubt(one["reason"]), one["start"], one["end"]) for one in json.loads(value))


# RFC 3339 text sorts, reads well in a shell, and keeps its time zone.
_Time = _Stored(_encode_time, datetime.fromisoformat)
# Names that are not UTF-8 are surrogate escapes in Python, which no text column takes.
_Name = _Stored(os.fsencode, os.fsdecode, sa.LargeBinary)
# Inodes of network file systems fill all 64 bits, and times in nanoseconds more; integer columns hold 63.
_BigNumber = _Stored(str, int)
_Failure = _Stored(_encode_failure, _decode_failure, sa.Text)
_Payload = _Stored(_encode_payload, _decode_payload, sa.Text)
_Suspicions = _Stored(_encode_suspicions, _decode_suspicions, sa.Text)
_State = _Stored(str, State)


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    DUE = "due"
    SENT = "sent"
    CANCELLED = "cancelled"  # the configuration does not want it any more


# The target that is the operator's command; see `delivery.hooks`.
HOOK = "hook"

metadata = sa.MetaData()
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("state", _State, nullable=False, index=True),
    sa.Column("path", _Name, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("device", _BigNumber, nullable=False),
    sa.Column("inode", _BigNumber, nullable=False, index=True),
    sa.Column("mtime_ns", _BigNumber, nullable=False),
    sa.Column("received_at", _Time, nullable=False),
    sa.Column("format", sa.Text),
    sa.Column("mime_type", sa.Text),
    sa.Column("duration_seconds", sa.Float),
    sa.Column("refusal", _Failure),
    sa.Column("sha256", sa.String, index=True),
    sa.Column("original_id", sa.String),
    sa.Column("request_id", sa.Text, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("refused_urls", sa.Integer, nullable=False),
    sa.Column("changed_uploads", sa.Integer, nullable=False),
    sa.Column("uploaded_bytes", sa.BigInteger, nullable=False),
    sa.Column("uploaded_at", _Time),
    sa.Column("completed_at", _Time),
    sa.Column("delivered_by", sa.String),
    sa.Column("filed_as", _Name),
    sa.Column("failure", _Failure),
    sa.Column("updated_at", _Time, nullable=False),
    # A name that no two jobs under way may both intend to write: see `Journal.move`.
    sa.Column("reserved", sa.LargeBinary, unique=True),
    # When retention deleted the recording, and its transcripts.
    sa.Column("recording_deleted_at", _Time),
    sa.Column("transcripts_deleted_at", _Time),
    # Defaults in the database, too: they filled the rows that were there when the columns were added.
    sa.Column("polled_at", _Time),
    sa.Column("waited_seconds", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Column("denied_seconds", sa.Float, nullable=False, server_default=sa.text("0")),
    sa.Column("predecessor_id", sa.String, index=True),
    sa.Column("payload", _Payload),
    sa.Column("suspect", _Suspicions),
)
history = sa.Table(
    "history",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String, nullable=False, index=True),
    sa.Column("at", _Time, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
)
# The files that were written for a job: its transcripts in outbox/, or its error file in failed/.
outputs = sa.Table(
    "outputs",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String, nullable=False, index=True),
    sa.Column("folder", sa.String, nullable=False),  # outbox or failed
    sa.Column("path", _Name, nullable=False, index=True),  # below that folder
    sa.Column("sha256", sa.String, nullable=False),
)
# What leaves for other targets than the outbox: one row per job and target.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("target", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("due_at", _Time),
    sa.Column("receipt", sa.Text),
)
replies = sa.Table(
    "replies",
    metadata,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("reply", sa.Text, nullable=False),
)
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("content_sha256", sa.String, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("at", _Time, nullable=False),
    # Whether its signature covers the payload.
    sa.Column("covers_body", sa.Boolean, nullable=False, server_default=sa.text("0")),
)
# Every genuine signature that was ever received, and the content that it came with.
signatures = sa.Table(
    "signatures",
    metadata,
    sa.Column("sha256", sa.String, primary_key=True),
    sa.Column("content_sha256", sa.String, nullable=False),
)
# Which release made a journal of which version, or converted it to that.
releases = sa.Table(
    "releases",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("release", sa.Text, nullable=False),
)
is_suspect = sa.type_coerce(jobs.c.suspect, sa.Text) != _encode_suspicions(())
# In which order recordings were taken; the times can't tell, because a clock may be set back.
taken = (
    sa.select(sa.func.min(history.c.id)).where(history.c.job_id == jobs.c.id).correlate(jobs)
).scalar_subquery()
FIELDS = frozenset(field.name for field in dataclasses.fields(Job))
_IDENTITY = tuple(field.name for field in dataclasses.fields(FileIdentity))
JOB_COLUMNS = tuple(jobs.c[name] for name in (*(FIELDS - {"identity"}), *_IDENTITY))


def columns_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a job, by name, as columns of its row."""
    columns = dict(values)
    if (identity := columns.pop("identity", None)) is not None:
        columns |= dataclasses.asdict(identity)
    return columns


def row_of(job: Job) -> dict[str, Any]:
    """A job as a row."""
    return columns_of({name: getattr(job, name) for name in FIELDS})


def job_of(row: sa.Row[Any]) -> Job:
    """The job in a row of `JOB_COLUMNS`."""
    values = dict(row._mapping)
    identity = FileIdentity(**{name: values.pop(name) for name in _IDENTITY})
    return Job(**values, identity=identity)
