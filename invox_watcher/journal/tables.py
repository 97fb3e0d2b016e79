"""The journal's tables and indices, and how our values become theirs.

Plain SQL that SQLite and PostgreSQL both understand, with the words that `dialect` exchanges. `rowid` is the
order in which recordings were taken; the times can't tell, because a clock may be set back. No index grows
with the number of finished jobs unless a question about finished jobs needs it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from invox_watcher.errors import Reason
from invox_watcher.job import Failure, Fault, Job, Payload, State
from invox_watcher.plan import Plan
from invox_watcher.priority import Priority
from invox_watcher.recording import FileIdentity, Remedy
from invox_watcher.spending import Reservation
from invox_watcher.suspicion import Doubt, Suspicion


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    DUE = "due"
    UNCERTAIN = "uncertain"  # it was sent, and perhaps received; it is sent again
    SENT = "sent"
    FAILED = "failed"  # for good
    CANCELLED = "cancelled"  # an operator gave it up, or the configuration does not want it any more


# Conditions of the partial indices below; a query uses one only if it says the same, word by word.
UNFINISHED = "state <> 'done'"
GIVEN_UP = "state IN ('failing', 'failed', 'vanished')"
ENDED = "state IN ('done', 'failed', 'vanished')"
SUSPECT = "suspect <> '[]'"
OWED = "state IN ('due', 'uncertain')"
# For how long the target `?` has been tried in vain so far.
TRIED_SECONDS = "coalesce((SELECT tried_seconds FROM targets WHERE name = ?), 0)"
# Which of the recordings with some content may have its words; a failed one in a thousand may.
MAY_HAVE_WORDS = "transcripts_deleted_at IS NULL AND failure IS NULL"
FAILED_WITH_WORDS = "transcripts_deleted_at IS NULL AND failure IS NOT NULL AND completed_at IS NOT NULL"
ABANDONED = f"{GIVEN_UP} AND request_id IS NOT NULL"
UNRETRIED = f"{GIVEN_UP} AND successor_id IS NULL"
OPEN_FAILURE = "state = 'failed' AND successor_id IS NULL AND recording_deleted_at IS NULL"

TABLES = (
    # `reserved`: a name that no two jobs under way may both intend to write; see `Journal.move`.
    # `recording_deleted_at`, `transcripts_deleted_at`: when retention did.
    # `host`: which host of several wrote the row last; it has the job until another one takes it over.
    # `ages_from`: from when the age of an ended job counts; NULL while no clock has confirmed that.
    # `remembered_from`: the same for its entry here, which is needed as long as copies of the recording come.
    # `profile`: the one that `plan` names, for those who may see only some profiles.
    """CREATE TABLE jobs (
        id VARCHAR NOT NULL, state VARCHAR NOT NULL, path BLOB NOT NULL, size_bytes BIGINT NOT NULL,
        device VARCHAR NOT NULL, inode VARCHAR NOT NULL, mtime_ns VARCHAR NOT NULL,
        received_at VARCHAR NOT NULL, format TEXT, mime_type TEXT, duration_seconds FLOAT, refusal TEXT,
        sha256 VARCHAR, original_id VARCHAR, request_id TEXT, attempts INTEGER NOT NULL,
        refused_urls INTEGER NOT NULL, changed_uploads INTEGER NOT NULL, uploaded_bytes BIGINT NOT NULL,
        uploaded_at VARCHAR, completed_at VARCHAR, delivered_by VARCHAR, filed_as BLOB, failure TEXT,
        updated_at VARCHAR NOT NULL, reserved BLOB, recording_deleted_at VARCHAR,
        transcripts_deleted_at VARCHAR, polled_at VARCHAR, waited_seconds FLOAT DEFAULT 0 NOT NULL,
        denied_seconds FLOAT DEFAULT 0 NOT NULL, predecessor_id VARCHAR, payload TEXT, ages_from VARCHAR,
        remembered_from VARCHAR, suspect TEXT, successor_id VARCHAR, last_fault TEXT, plan TEXT,
        reservation TEXT, profile VARCHAR, host VARCHAR, PRIMARY KEY (id), UNIQUE (reserved))""",
    "CREATE TABLE history (id INTEGER NOT NULL, job_id VARCHAR NOT NULL, at VARCHAR NOT NULL, "
    "state VARCHAR NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (id))",
    # The files that were written for a job: its transcripts in outbox/, or its error file in failed/.
    # `folder` is outbox or failed, `path` is below it.
    "CREATE TABLE outputs (id INTEGER NOT NULL, job_id VARCHAR NOT NULL, folder VARCHAR NOT NULL, "
    "path BLOB NOT NULL, sha256 VARCHAR NOT NULL, PRIMARY KEY (id))",
    # What leaves for other targets than the outbox: one row per job and target; see `deliveries`.
    "CREATE TABLE deliveries (job_id VARCHAR NOT NULL, target VARCHAR NOT NULL, state VARCHAR NOT NULL, "
    "attempts INTEGER NOT NULL, queued_at VARCHAR, receipt TEXT, priority INTEGER DEFAULT 0 NOT NULL, "
    "fault TEXT, tried_from FLOAT DEFAULT 0 NOT NULL, PRIMARY KEY (job_id, target))",
    # For how long the daemon has tried each target in vain, of all that it ever ran: a clock that no jump of
    # the wall clock, no stop and no suspension changes. `tried_from` is its time when a delivery was queued.
    "CREATE TABLE targets (name VARCHAR NOT NULL, tried_seconds FLOAT NOT NULL, PRIMARY KEY (name))",
    "CREATE TABLE replies (job_id VARCHAR NOT NULL, reply TEXT NOT NULL, PRIMARY KEY (job_id))",
    # `covers_body`: whether its signature covers the payload.
    "CREATE TABLE notices (request_id TEXT NOT NULL, content_sha256 VARCHAR NOT NULL, payload TEXT NOT NULL, "
    "at VARCHAR NOT NULL, covers_body BOOLEAN DEFAULT 0 NOT NULL, PRIMARY KEY (request_id))",
    # Every genuine signature that was received, and the content that it came with.
    "CREATE TABLE signatures (sha256 VARCHAR NOT NULL, content_sha256 VARCHAR NOT NULL, at VARCHAR, "
    "PRIMARY KEY (sha256))",
    # How many jobs are done: counting them would take longer and longer.
    "CREATE TABLE totals (state VARCHAR NOT NULL, jobs INTEGER NOT NULL, PRIMARY KEY (state))",
    # The seconds of audio of each day that were reserved, of all (profile '') and by profile.
    "CREATE TABLE spending (day VARCHAR NOT NULL, profile VARCHAR NOT NULL, seconds FLOAT NOT NULL, "
    "PRIMARY KEY (day, profile))",
    # Which release made a journal of which version, or converted it to that. `min_reader`: the releases of
    # which version can still use it; NULL: none but those of the same version, and later ones.
    "CREATE TABLE releases (version INTEGER NOT NULL, release TEXT NOT NULL, min_reader INTEGER, "
    "PRIMARY KEY (version))",
)
INDICES = (
    # jobs under way, and lists of those that failed
    f"CREATE INDEX jobs_unfinished ON jobs (state) WHERE {UNFINISHED}",
    # the same file, the same content, the same request, the same name
    f"CREATE INDEX jobs_file ON jobs (inode, mtime_ns) WHERE {UNRETRIED}",
    f"CREATE INDEX jobs_unretried ON jobs (sha256) WHERE {UNRETRIED}",
    f"CREATE INDEX jobs_abandoned ON jobs (sha256) WHERE {ABANDONED}",
    "CREATE INDEX jobs_predecessor ON jobs (predecessor_id) WHERE predecessor_id IS NOT NULL",
    f"CREATE INDEX jobs_open_failures ON jobs (state) WHERE {OPEN_FAILURE}",
    f"CREATE INDEX jobs_content ON jobs (sha256) WHERE sha256 IS NOT NULL AND {MAY_HAVE_WORDS}",
    f"CREATE INDEX jobs_failed_content ON jobs (sha256) WHERE {FAILED_WITH_WORDS}",
    "CREATE INDEX jobs_request ON jobs (request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX jobs_path ON jobs (path, sha256)",
    "CREATE INDEX jobs_filed_as ON jobs (filed_as, ages_from) WHERE filed_as IS NOT NULL",
    f"CREATE INDEX jobs_suspect ON jobs (state) WHERE {SUSPECT}",
    "CREATE INDEX jobs_short_id ON jobs (substr(id, 17))",
    "CREATE INDEX jobs_profile ON jobs (profile) WHERE profile IS NOT NULL",
    # what retention asks for
    "CREATE INDEX jobs_recording ON jobs (state, ages_from) "
    "WHERE recording_deleted_at IS NULL AND ages_from IS NOT NULL",
    "CREATE INDEX jobs_transcripts ON jobs (state, ages_from) "
    "WHERE transcripts_deleted_at IS NULL AND ages_from IS NOT NULL",
    "CREATE INDEX jobs_remembered ON jobs (remembered_from) WHERE remembered_from IS NOT NULL",
    f"CREATE INDEX jobs_in_doubt ON jobs (state) WHERE ages_from IS NULL AND {ENDED}",
    # what a host that died has left
    f"CREATE INDEX jobs_host ON jobs (host) WHERE host IS NOT NULL AND {UNFINISHED}",
    "CREATE INDEX signatures_at ON signatures (at)",
    # what belongs to a job
    "CREATE INDEX ix_history_job_id ON history (job_id)",
    "CREATE INDEX ix_outputs_job_id ON outputs (job_id)",
    "CREATE INDEX ix_outputs_path ON outputs (path)",
    f"CREATE INDEX deliveries_owed ON deliveries (target, priority, attempts) WHERE {OWED}",
    f"CREATE INDEX deliveries_in_order ON deliveries (target) WHERE {OWED}",
    "CREATE INDEX deliveries_failed ON deliveries (target) WHERE state = 'failed'",
)


# ---- values ------------------------------------------------------------------------------------------------


def encode_time(value: datetime) -> str:
    """RFC 3339 text sorts, reads well in a shell, and keeps its time zone."""
    utc = value if value.tzinfo is UTC else value.astimezone(UTC)  # it nearly always is
    return utc.isoformat(timespec="microseconds")


def _encode_failure(value: Failure) -> str:
    """Flat, so that a person who reads the table sees code and message at once."""
    fields = dataclasses.asdict(value)
    return json.dumps(fields.pop("reason") | fields)


def _decode_failure(value: str) -> Failure:
    fields = json.loads(value)
    reason = Reason(fields.pop("code"), fields.pop("message"), fields.pop("hint"))
    remedy = Remedy(fields.get("remedy", Remedy.NONE))  # absent in what earlier versions wrote
    return Failure(**fields | {"stage": State(fields["stage"]), "reason": reason, "remedy": remedy})


def encode_fault(value: Fault) -> str:
    return json.dumps(dataclasses.asdict(value.reason) | {"since": encode_time(value.since)})


def decode_fault(value: str) -> Fault:
    fields = json.loads(value)
    since = datetime.fromisoformat(fields.pop("since"))
    return Fault(Reason(**fields), since)


def _encode_payload(value: Payload) -> str:
    return json.dumps(dataclasses.asdict(value))


def _decode_payload(value: str) -> Payload:
    return Payload(**json.loads(value))


def _encode_suspicions(value: Iterable[Suspicion]) -> str:
    return json.dumps([dataclasses.asdict(one) for one in value])


def _decode_suspicions(value: str) -> tuple[Suspicion, ...]:
    return tuple(Suspicion(Doubt(one["reason"]), one["start"], one["end"]) for one in json.loads(value))


def _encode_plan(value: Plan) -> str:
    fields = {name: getattr(value, name) for name in _PLAN}
    mappings = {name: dict(fields[name]) for name in ("speaker_names", "attributes", "presign_fields")}
    return json.dumps({**fields, **mappings, "priority": value.priority.name.lower()})


def _decode_plan(value: str) -> Plan:
    fields = json.loads(value)
    lists = {name: tuple(fields[name]) for name in ("formats", "targets")}
    return Plan(**fields | lists | {"priority": Priority[fields["priority"].upper()]})


def _encode_reservation(value: Reservation) -> str:
    return json.dumps(dataclasses.asdict(value))


def _decode_reservation(value: str) -> Reservation:
    return Reservation(**json.loads(value))


_PLAN = tuple(field.name for field in dataclasses.fields(Plan))
_TIME = (encode_time, datetime.fromisoformat)
# Names that are not UTF-8 are surrogate escapes in Python, which no text column takes.
_NAME = (os.fsencode, os.fsdecode)
# Inodes of network file systems fill all 64 bits, and times in nanoseconds more; integer columns hold 63.
_BIG_NUMBER = (str, int)
# Columns whose values pass through the first function when written, the second when read; NULL is None.
_STORED: Mapping[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "state": (str, State), "path": _NAME, "filed_as": _NAME,
    "device": _BIG_NUMBER, "inode": _BIG_NUMBER, "mtime_ns": _BIG_NUMBER,
    "refusal": (_encode_failure, _decode_failure), "failure": (_encode_failure, _decode_failure),
    "last_fault": (encode_fault, decode_fault),
    "payload": (_encode_payload, _decode_payload),
    "plan": (_encode_plan, _decode_plan),
    "reservation": (_encode_reservation, _decode_reservation),
    "suspect": (_encode_suspicions, _decode_suspicions),
    **dict.fromkeys(("received_at", "uploaded_at", "completed_at", "updated_at", "polled_at"), _TIME),
}  # fmt: skip
FIELDS = frozenset(field.name for field in dataclasses.fields(Job))
_IDENTITY = tuple(field.name for field in dataclasses.fields(FileIdentity))
# Those of the file's identity last.
_COLUMNS = (*sorted(FIELDS - {"identity"}), *_IDENTITY)
_FIRST_OF_IDENTITY = len(_COLUMNS) - len(_IDENTITY)
_NAMES = _COLUMNS[:_FIRST_OF_IDENTITY]
_DECODERS = tuple((number, _STORED[name][1]) for number, name in enumerate(_COLUMNS) if name in _STORED)
JOB_COLUMNS = ", ".join(f"jobs.{name}" for name in _COLUMNS)


def columns_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a job, by name, as columns of its row."""
    columns: dict[str, Any] = {}
    for name, value in values.items():
        if name == "identity":
            columns |= columns_of({part: getattr(value, part) for part in _IDENTITY})
        else:
            columns[name] = value if value is None or name not in _STORED else _STORED[name][0](value)
    return columns


def row_of(job: Job) -> dict[str, Any]:
    """A job as a row."""
    return columns_of({name: getattr(job, name) for name in FIELDS})


def job_of(row: Sequence[Any]) -> Job:
    """The job in a row of `JOB_COLUMNS`."""
    values = list(row)
    for number, decode in _DECODERS:
        if values[number] is not None:
            values[number] = decode(values[number])
    identity = FileIdentity(*values[_FIRST_OF_IDENTITY:])
    return Job(**dict(zip(_NAMES, values, strict=False)), identity=identity)


def columns_in(table: str) -> list[str]:
    """The columns of a table, in their order, without SQLite's `rowid`."""
    definition = next(one for one in TABLES if one.startswith(f"CREATE TABLE {table} ("))
    names = [part.split()[0] for part in definition.partition("(")[2].split(",") if part.strip()]
    return names[: names.index("PRIMARY")]


def insertion(table: str, columns: Iterable[str]) -> str:
    """A statement that inserts these columns."""
    names = tuple(columns)
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({placeholders(names)})"


def placeholders(values: Iterable[object]) -> str:
    """One for each of the values."""
    return ", ".join("?" for _ in values)
