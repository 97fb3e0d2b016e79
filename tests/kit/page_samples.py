"""A `Source` for the page's templates: recordings in every state, with values that nobody would choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from invox_watcher.errors import Reason
from invox_watcher.job import State
from invox_watcher.page.model import (
    Delivery,
    Document,
    Done,
    Health,
    InInbox,
    Line,
    Moment,
    Need,
    Needs,
    Now,
    Owed,
    Query,
    Recording,
    Row,
    Rows,
    Sight,
    Sound,
    Stretch,
    Trouble,
    UnderWay,
)

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}"
ODD_NAME = f"ward4/{HOSTILE}\u202egpj.\x1b[31m\udcff.wav"
LONG_NAME = f"ward3/{'2026-11-28_consultation_cardiology_' * 6}final_really-final.wav"

_FULL = Reason(
    "disk_full",
    "No space is left on /srv/dictations.",
    "Free up space on that file system; processing resumes automatically.",
)
_BROKEN = Reason(
    "audio_truncated",
    "The recording ends in the middle of a block: 41,216 of 88,200 bytes are there.",
    "Copy it again from the recorder.",
)
_API = Reason(
    "api_unavailable", "The API answered 503 Service Unavailable.", "The next attempt follows automatically."
)
_MAIL = Reason(
    "mail_refused",
    "550 5.1.1 unknown recipient",
    "Check the address in targets.letters.to, then send it again.",
)
_DOUBT = Reason(
    "suspect",
    "People speak at 0:41–1:10, and there is no text.",
    "Listen to these places and complete the text.",
)
_OPEN = Reason("open", "A process is still writing to it.", "")
_UNREADABLE = Reason("permission", "The service may not read it.", "Make it readable for the user invox.")
_USED_UP = Reason("held", "The 120 minutes of ward9 for today are used up.", "It is taken tomorrow.")
_NOT_AUDIO = Reason("content", "Not audio: a Word document.", "")
_SPEECH = (
    (
        "Dr. Okafor",
        "Consultation of the twenty-eighth of November. "
        "The patient is a sixty-four-year-old woman, known for hypertension.",
    ),
    ("Dr. Okafor", "She reports shortness of breath on exertion for about three weeks, without chest pain."),
    ("Ms. Lindqvist", "Mostly on the stairs. At night I sleep with two pillows."),
    ("Dr. Okafor", "Blood pressure one forty-eight over eighty-six, pulse seventy-eight and regular."),
    ("Dr. Okafor", "Lungs: fine crackles at both bases. No oedema of the legs."),
    ("Ms. Lindqvist", "I stopped taking the water tablets in October, they made me dizzy."),
    (
        "Dr. Okafor",
        "Plan: echocardiogram this week, NT-proBNP, restart furosemide at twenty milligrams, "
        "review in seven days.",
    ),
)


def _row(number: int, name: str, state: State, minutes: float, **more: object) -> Row:
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    row = Row(
        id=f"20261128t{number:06}-{number:012x}",
        name=name,
        profile="ward3",
        author="Dr. Okafor",
        state=state,
        received_at=at,
        updated_at=at + timedelta(seconds=48),
        duration_seconds=184.4,
        suspect=False,
        urgent=False,
    )
    return replace(row, **more)  # type: ignore[arg-type]


UPLOADING = _row(1, "ward3/okafor-0412.wav", State.UPLOADING, 0.6)
WAITING = _row(2, "ward3/lindqvist-stat.m4a", State.WAITING, 4, urgent=True)
FAULTY = _row(3, LONG_NAME, State.IDENTIFIED, 26, reason=_API, profile="", author="")
FAILED = _row(4, "ward3/smith.wav", State.FAILED, 190, reason=_BROKEN)
ODD = _row(
    5, ODD_NAME, State.FAILED, 1500, author=HOSTILE, profile=HOSTILE, reason=Reason(HOSTILE, HOSTILE, HOSTILE)
)
SUSPECT = _row(6, "ward3/nakamura-discharge.mp3", State.DONE, 71, suspect=True)
UNDELIVERED = _row(7, "letters/müller.wav", State.DONE, 2900, profile="letters")
DONE = _row(8, "ward3/okafor-0411.wav", State.DONE, 12)
VANISHED = _row(9, "ward3/old.wav", State.VANISHED, 9000, duration_seconds=None)
RETRY = _row(10, "ward3/benali.wav", State.CLAIMED, 0.1, duration_seconds=None)
RETRIED = _row(11, "ward3/benali.wav", State.FAILED, 60, reason=_BROKEN)
ROWS = (RETRY, UPLOADING, WAITING, DONE, FAULTY, RETRIED, SUSPECT, FAILED, ODD, UNDELIVERED, VANISHED)
STOPPED = Health(running=False, ready=False, since=datetime(2026, 11, 28, 7, 2, tzinfo=UTC))
READY = Health(running=True, ready=True, since=datetime(2026, 11, 26, 5, 30, tzinfo=UTC))
HELD = Health(
    running=True, ready=False, since=datetime(2026, 11, 28, 18, 2, tzinfo=UTC),
    troubles=(Trouble(_FULL, datetime(2026, 11, 28, 18, 2, tzinfo=UTC)), Trouble(_MAIL, None, "letters")),
)  # fmt: skip
UNKNOWN = Health(
    running=False, ready=False, since=None, unknown_because="The daemon did not answer within 2 s."
)


@dataclass
class SampleSource:
    """The samples; a test may set another health, more rows, or what every question raises."""

    told: Health = READY
    rows: Sequence[Row] = ROWS
    raises: Exception | None = None
    is_empty: bool = False
    number: int = 0
    inbox_unknown_because: str = ""
    searched_up_to: int | None = None  # the search takes long: nothing is found so far
    asked: list[str] = field(default_factory=list)
    tone: bytes = b"RIFF"
    is_audio: bool = True
    is_mute: bool = False  # no words were recognized

    def changes(self) -> int:
        return self.number

    def health(self) -> Health:
        self._may_raise()
        return self.told

    def now(self, sight: Sight) -> Now:
        self._may_raise()
        if self.is_empty:
            return Now((), (), (Owed("letters", 0, 0, None, None),))
        if self.inbox_unknown_because:
            return Now((), (), (), inbox_unknown_because=self.inbox_unknown_because)
        since = datetime.now(UTC) - timedelta(minutes=3)
        inbox = (
            InInbox("ward3/just-arriving.wav", "settling", _OPEN, since),
            InInbox(ODD_NAME, "error", _UNREADABLE, since - timedelta(days=2)),
            InInbox("ward9/budget.wav", "held", _USED_UP, since - timedelta(hours=5)),
            InInbox("notes.docx", "ignored", _NOT_AUDIO, since - timedelta(days=40)),
        )
        owed = (
            Owed("letters", 3, 1, since - timedelta(hours=3), _MAIL),
            Owed("records", 1, 0, since, None),
        )
        return Now(self._under_way(), inbox, owed, more_under_way=12, more_in_inbox=1)

    def needs(self, sight: Sight) -> Needs:
        self._may_raise()
        if self.is_empty:
            return Needs((), (), ())
        return Needs(
            failed=(_need(FAILED, _BROKEN, can_help=True), _need(ODD, ODD.reason or _BROKEN, can_help=False)),
            suspect=(_need(SUSPECT, _DOUBT, can_help=False),),
            undelivered=(replace(_need(UNDELIVERED, _MAIL, can_help=True), target="letters"),),
        )

    def find(self, sight: Sight, query: Query, *, after: str, limit: int) -> Rows:
        self._may_raise()
        if self.searched_up_to is not None:
            return Rows((), str(self.searched_up_to))
        found = [
            row for row in self.rows
            if query.text.lower() in (row.name + row.author).lower()
            and (not query.states or row.state in query.states) and (row.suspect or not query.suspect)
        ]  # fmt: skip
        start = int(after or "0")
        end = start + limit
        return Rows(found[start:end], str(end) if end < len(found) else "")

    def recording(self, sight: Sight, job_id: str) -> Recording | None:
        self._may_raise()
        row = next((row for row in self.rows if row.id == job_id), None)
        if row is None:
            return None
        failed = row.state is State.FAILED
        done = row.state is State.DONE
        return Recording(
            row=row,
            life=_life(row),
            ahead=next((one for one in self._under_way() if one.row.id == row.id), None),
            failure=_need(row, row.reason or _BROKEN, can_help=row is not ODD) if failed else None,
            deliveries=_deliveries(row) if done else (),
            documents=("smith.json", "smith.srt", f"{HOSTILE.replace('/', '')}\udcff.txt") if done else (),
            suspects=(Stretch(41.2, 70.0, "untranscribed_speech"), Stretch(150.0, 171.5, "too_few_words"))
            if row.suspect else (),
            has_words=done,
            has_sound=row.state is not State.VANISHED,
            is_audio=self.is_audio,
            retried_as=RETRY.id if row.id == RETRIED.id else None,
            retry_of=RETRIED.id if row.id == RETRY.id else None,
            host="north" if done else None,
        )  # fmt: skip

    def words(self, sight: Sight, job_id: str) -> Sequence[Line] | None:
        self._may_raise()
        if self.is_mute:
            return []
        lines = [
            Line(6.0 * n, 6.0 * n + 5.5, who, text)
            for n, (who, text) in enumerate(_SPEECH * 4)
            if not 7 <= n <= 11
        ]
        return [
            *lines,
            Line(170.0, 172.0, HOSTILE, HOSTILE),
            Line(172.5, 175.0, "أحمد", "السلام عليكم دكتور\u202e"),
        ]

    def sound(self, sight: Sight, job_id: str) -> Sound | None:
        if not any(row.id == job_id for row in self.rows):
            return None

        def read(start: int, end: int) -> Iterator[bytes]:
            yield self.tone[start:end]

        return Sound("audio/wav", len(self.tone), read)

    def loudness(self, sight: Sight, job_id: str) -> Sequence[float] | None:
        return [
            abs(math.sin(n / 9) * math.sin(n / 2.3)) ** 0.7 * (0.25 if 66 < n < 115 else 0.9)
            for n in range(300)
        ]

    def document(self, sight: Sight, job_id: str, name: str) -> Document | None:
        self.asked.append(name)
        return Document(name, "text/plain; charset=utf-8", b"Hello.\n")

    def retry(self, sight: Sight, job_id: str, record: Callable[[], None]) -> Done:
        self._may_raise()
        record()
        return self._done(f"retry {job_id}", Done.RETRIED, Done.RETRIED_BEFORE)

    def send_again(self, sight: Sight, job_id: str, target: str, record: Callable[[], None]) -> Done:
        self._may_raise()
        record()
        return self._done(f"send {job_id} {target}", Done.SENT_AGAIN, Done.OWED_ALREADY)

    def _done(self, asked: str, first: Done, again: Done) -> Done:
        was_asked = asked in self.asked
        self.asked.append(asked)
        return again if was_asked else first

    def _under_way(self) -> Sequence[UnderWay]:
        held = (Trouble(_FULL, None),) if self.told is HELD else ()
        return (
            UnderWay(UPLOADING, "upload, 42 % are sent", 0.0, 0.42),
            UnderWay(WAITING, "ask the API for the result", 7.0, None),
            UnderWay(FAULTY, "get an upload address from the API, and upload", 95.0, None, held),
            UnderWay(RETRY, "read the recording", None, None),
        )

    def _may_raise(self) -> None:
        if self.raises is not None:
            raise self.raises


def _need(row: Row, reason: Reason, *, can_help: bool) -> Need:
    return Need(row, reason, can_help, row.updated_at)


def _life(row: Row) -> Sequence[Moment]:
    way = [
        State.CLAIMED,
        State.IDENTIFIED,
        State.UPLOADING,
        State.UPLOADING,
        State.WAITING,
        State.TRANSCRIBED,
        State.DELIVERED,
        State.DONE,
    ]
    if row.state in (State.FAILED, State.VANISHED):
        way = [State.CLAIMED, State.FAILING, row.state]
    elif row.state is not State.DONE:
        way = way[: way.index(row.state) + 1]
    after = (0, 0.3, 0.9, 1.4, 4.0, 41.0, 41.2, 41.3)
    return [
        Moment(
            row.received_at + timedelta(seconds=seconds),
            state,
            {"size_bytes": "88200", "format": HOSTILE} if not seconds else {},
        )
        for seconds, state in zip(after, way, strict=False)
    ]


def _deliveries(row: Row) -> Sequence[Delivery]:
    at = row.updated_at
    return (
        Delivery("outbox", "sent", at, "ward3/smith.json, ward3/smith.srt", None, 1),
        Delivery("records", "sent", at, "250 2.0.0 Ok: queued as 4F1A2\udcff", None, 2),
        Delivery("letters", "failed", at, "", _MAIL, 5),
        Delivery(HOSTILE, "due", None, "", None, 0),
    )
