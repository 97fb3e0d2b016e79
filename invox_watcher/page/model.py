"""What the page shows and who may see it: plain values between those who find out and those who draw.

`Source` is what the page knows; it is given the sight of a viewer with every question, and answers no
question about a recording outside of it, as if there were no such recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Protocol

from invox_watcher.accounts import Role
from invox_watcher.errors import Reason
from invox_watcher.job import State


@dataclass(frozen=True)
class Sight:
    """Which recordings a viewer may see."""

    profiles: frozenset[str] | None = None  # None: all of them, and the files in the inbox

    def covers(self, profile: str) -> bool:
        """Whether recordings of that profile may be seen."""
        return self.profiles is None or profile in self.profiles


@dataclass(frozen=True)
class Viewer:
    """Who looks."""

    name: str
    roles: frozenset[Role]
    sight: Sight = Sight()

    def may(self, role: Role) -> bool:
        """Whether the viewer may do that."""
        return role in self.roles


# ---- health ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trouble:
    """One reason why recordings do not go through, or a target gets nothing."""

    reason: Reason
    since: datetime | None
    target: str | None = None  # the target's name, if it is about one


@dataclass(frozen=True)
class Health:
    """The daemon in one line; `running` and `ready` may be wrong only if `unknown_because` says why."""

    running: bool
    ready: bool
    since: datetime | None  # since when it is ready, or not ready
    troubles: Sequence[Trouble] = ()
    unknown_because: str = ""  # why the daemon, or the journal, could not be asked, as a sentence


# ---- lists -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A recording in a list. `name` is as it came, below the inbox; surrogates stand for odd bytes."""

    id: str
    name: str
    profile: str
    author: str  # empty if not known
    state: State
    received_at: datetime
    updated_at: datetime
    duration_seconds: float | None
    suspect: bool
    urgent: bool
    reason: Reason | None = None  # why it failed, or why its last attempt did not work


@dataclass(frozen=True)
class UnderWay:
    """A recording that is being processed."""

    row: Row
    step: str  # what is done next, in words
    due_seconds: float | None  # in how many seconds; 0 now, None not known
    sent: float | None  # of its upload, from 0 to 1; None if no upload runs
    held_by: Sequence[Trouble] = ()


@dataclass(frozen=True)
class InInbox:
    """A file in the inbox that has not been taken."""

    name: str
    stage: str  # one of `diagnostics.inbox_list.STAGES`
    reason: Reason
    since: datetime


@dataclass(frozen=True)
class Owed:
    """What one target is owed, of what the viewer may see."""

    target: str
    owed: int
    failed: int
    oldest_at: datetime | None
    trouble: Reason | None


@dataclass(frozen=True)
class Now:
    """The page `Now`."""

    under_way: Sequence[UnderWay]
    inbox: Sequence[InInbox]
    owed: Sequence[Owed]
    more_under_way: int = 0  # how many more there are than listed
    more_in_inbox: int = 0
    inbox_unknown_because: str = ""  # why the inbox could not be read, as a sentence


@dataclass(frozen=True)
class Need:
    """A recording that needs a person."""

    row: Row
    reason: Reason  # why, and what to do
    retry_can_help: bool
    at: datetime
    target: str | None = None  # of a delivery


@dataclass(frozen=True)
class Needs:
    """The page `Needs you`: what failed and was not retried, and suspect transcripts that no one has read."""

    failed: Sequence[Need]
    suspect: Sequence[Need]
    undelivered: Sequence[Need]  # a target refused it for good
    more: int = 0


@dataclass(frozen=True)
class Query:
    """What is looked for; what is empty or None does not matter."""

    text: str = ""  # in name or author, whatever the case
    day: date | None = None  # on which it was received, in the time zone of `zone_minutes`
    zone_minutes: int = 0  # east of UTC
    states: frozenset[State] = frozenset()
    suspect: bool = False


@dataclass(frozen=True)
class Rows:
    """A page of found recordings, the newest first."""

    rows: Sequence[Row]
    following: str = ""  # where the next page begins; empty on the last one


# ---- one recording -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """One step of a recording's life."""

    at: datetime
    state: State
    detail: Mapping[str, str] = field(default_factory=dict)  # without words and without secrets


@dataclass(frozen=True)
class Stretch:
    """A part of the sound that the transcript may not cover, in seconds."""

    start: float
    end: float
    reason: str  # a `suspicion.Doubt`


@dataclass(frozen=True)
class Line:
    """A line of the transcript; times in seconds."""

    start: float
    end: float
    speaker: str
    text: str


@dataclass(frozen=True)
class Delivery:
    """What one target got, or is owed."""

    target: str
    state: str
    at: datetime | None
    receipt: str
    fault: Reason | None
    attempts: int


@dataclass(frozen=True)
class Recording:
    """Everything about one recording but its words."""

    row: Row
    life: Sequence[Moment]
    ahead: UnderWay | None  # None if it has ended
    failure: Need | None
    deliveries: Sequence[Delivery]
    documents: Sequence[str]  # names of the files that can be downloaded: its outputs that still exist
    suspects: Sequence[Stretch]
    has_words: bool  # whether there is a transcript that retention has not deleted
    has_sound: bool  # whether its recording still exists
    is_audio: bool = True  # whether that is one, as far as can be told by its content
    retried_as: str | None = None  # the job that a retry has made of it
    retry_of: str | None = None
    host: str | None = None  # which of several has it, or had it last


@dataclass(frozen=True)
class Sound:
    """Something a browser can play: the recording, or what was prepared from it."""

    mime_type: str
    size_bytes: int
    read: SoundReader


class SoundReader(Protocol):
    """Reads a part of it."""

    def __call__(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to, and without, `end`."""


@dataclass(frozen=True)
class Document:
    """A file to be downloaded."""

    name: str  # of the file, without a folder
    mime_type: str
    content: bytes


class Done(StrEnum):
    """What came of an action."""

    RETRIED = "retried"
    RETRIED_BEFORE = "retried_before"  # it is no longer in the failed folder
    SENT_AGAIN = "sent_again"
    OWED_ALREADY = "owed_already"  # it is sent anyway


class Source(Protocol):
    """What the page asks. Every call may take a moment, and is made from a thread.

    Raises:
        JournalError: the journal can't be read now; the page shows that and asks again.
        InvoxError: something else is wrong; the message is for the viewer.
    """

    def changes(self) -> int:
        """A number that differs from the last one if anything that is shown may have changed. Cheap."""

    def health(self) -> Health:
        """The daemon's."""

    def now(self, sight: Sight) -> Now: ...

    def needs(self, sight: Sight) -> Needs: ...

    def find(self, sight: Sight, query: Query, *, after: str, limit: int) -> Rows:
        """Recordings, the newest first, beginning behind `after`, which an earlier page gave; empty: all."""

    def recording(self, sight: Sight, job_id: str) -> Recording | None: ...

    def words(self, sight: Sight, job_id: str) -> Sequence[Line] | None: ...

    def sound(self, sight: Sight, job_id: str) -> Sound | None: ...

    def loudness(self, sight: Sight, job_id: str) -> Sequence[float] | None:
        """How loud it is, from 0 to 1, in equal parts of its length; None if that can't be found out."""

    def document(self, sight: Sight, job_id: str, name: str) -> Document | None: ...

    def retry(self, sight: Sight, job_id: str, record: Callable[[], None]) -> Done:
        """Move the failed recording back to the inbox; if it can be, `record` is called just before."""

    def send_again(self, sight: Sight, job_id: str, target: str, record: Callable[[], None]) -> Done:
        """Have the delivery to a target made again; `record` as in `retry`."""
