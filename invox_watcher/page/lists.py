"""The pages with lists: what is under way, what needs a person, and what is looked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import MAXYEAR, datetime, time, timedelta, timezone
from time import monotonic

from invox_watcher.diagnostics.attention import is_open_failure
from invox_watcher.diagnostics.holds import Holds
from invox_watcher.diagnostics.inbox_list import Entry
from invox_watcher.errors import InvoxError, JournalError, NotPermittedError, Reason
from invox_watcher.job import Job
from invox_watcher.journal import Journal, QueuedDelivery, Wanted
from invox_watcher.page.model import InInbox, Need, Needs, Now, Owed, Query, Rows, Sight, UnderWay
from invox_watcher.page.resources import Resources
from invox_watcher.page.rows import doubt_about, failure_of, may_see, row_of, under_way
from invox_watcher.page.sharing import Shared
from invox_watcher.times import utc_now

MOST_ROWS = 1000
NEEDS_SECONDS = 3.0  # for how long what needs someone is not found out again
_MOST_SHOWN = 200
# More are counted, up to this.
_MOST_COUNTED = 1000
_SUSPECT_FOR = timedelta(days=14)
_SEARCH_SECONDS = 1.0  # as long as nothing has been found
_CURSOR = re.compile(r"[1-9]\d{0,17}")
_FARTHEST_ZONE = 14 * 60
_LONGEST_TEXT = 200
_NO_REASON = Reason("delivery_failed", "The target does not take it.", "See `invox-watcher jobs --owed`.")


@dataclass(frozen=True)
class _Active:
    """What is under way, and what is held of it."""

    jobs: Sequence[Job]
    holds: Holds


@dataclass(frozen=True)
class _ForSight:
    """What is found out for all who see the same."""

    needs: Shared[Needs]
    owed: Shared[Sequence[Owed]]


@dataclass
class Lists:
    """Answers for viewers of every sight; what many ask at the same time is found out once."""

    resources: Resources
    _active: Shared[_Active] = field(init=False)
    _for_sight: dict[Sight, _ForSight] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._active = Shared(self._find_active)

    def forget(self) -> None:
        """A viewer has changed something, and wants to see it."""
        self._active.forget()
        self.resources.inbox.forget()
        for one in list(self._for_sight.values()):
            one.needs.forget()
            one.owed.forget()

    # ---- now ---------------------------------------------------------------------------------------------

    def now(self, sight: Sight) -> Now:
        """What is under way, waits in the inbox, and is owed."""
        jobs = [job for job in self._active.get().jobs if may_see(sight, job)]
        unknown = ""
        waiting: list[InInbox] = []
        try:
            waiting = [
                _in_inbox(one) for one in self.resources.inbox.get() if self._may_see_file(sight, one.path)
            ]
        except JournalError:
            raise
        except InvoxError as error:
            unknown = error.message
        return Now(
            under_way=[self.under_way(job, sight) for job in jobs[:_MOST_SHOWN]],
            inbox=waiting[:_MOST_SHOWN],
            owed=self._of(sight).owed.get(),
            more_under_way=max(len(jobs) - _MOST_SHOWN, 0),
            more_in_inbox=max(len(waiting) - _MOST_SHOWN, 0),
            inbox_unknown_because=unknown,
        )

    def under_way(self, job: Job, sight: Sight) -> UnderWay:
        """What is ahead of a job that has not ended."""
        held = self._active.get().holds.of(job)
        ahead = under_way(
            job, self.resources.status.get(), held, sight, max_attempts=self.resources.max_attempts
        )
        assert ahead is not None  # noqa: S101 - it has not ended
        return ahead

    def _find_active(self) -> _Active:
        journal = self.resources.reader.journal()
        return _Active(journal.active(), self.resources.holds_now(journal))

    def _may_see_file(self, sight: Sight, path: str) -> bool:
        """A file in the inbox has no profile yet: only if its path alone decides which it gets."""
        if sight.profiles is None:
            return True
        if path.endswith("/"):
            return False
        profile = self.resources.profile_by_path(path)
        return profile is not None and sight.covers(profile)

    def _of(self, sight: Sight) -> _ForSight:
        if (found := self._for_sight.get(sight)) is None:
            found = self._for_sight[sight] = _ForSight(
                Shared(lambda: self._find_needs(sight), seconds=NEEDS_SECONDS),
                Shared(lambda: self._find_owed(sight)),
            )
        return found

    def _find_owed(self, sight: Sight) -> Sequence[Owed]:
        faults = self.resources.status.get().targets or {}
        journal = self.resources.reader.journal()
        backlogs = journal.deliveries.backlogs(sight.profiles)
        names = self.resources.targets_of(sight) | backlogs.keys()
        found = []
        for name in sorted(names):
            backlog, fault = backlogs.get(name), faults.get(name)
            found.append(
                Owed(
                    name,
                    owed=backlog.owed if backlog else 0,
                    failed=backlog.failed if backlog else 0,
                    oldest_at=backlog.oldest_at if backlog else None,
                    trouble=fault.reason if fault else None,
                )
            )
        return found

    # ---- needs you ---------------------------------------------------------------------------------------

    def needs(self, sight: Sight) -> Needs:
        """What needs a person."""
        return self._of(sight).needs.get()

    def _find_needs(self, sight: Sight) -> Needs:
        journal = self.resources.reader.journal()
        failures = self.resources.patience.ask(lambda: self._open_failures(journal, sight))
        now = utc_now()
        recent = Wanted(sight.profiles, since=now - _SUSPECT_FOR, until=now + timedelta(days=1), suspect=True)
        doubtful = journal.search.page(recent, limit=_MOST_COUNTED).jobs
        refused = journal.deliveries.failed_lately(sight.profiles, limit=_MOST_COUNTED)
        undelivered = [
            _undelivered(one, job, sight)
            for one in refused[:_MOST_SHOWN]
            if (job := journal.get(one.job_id)) is not None
        ]
        failed = [need for job in failures if (need := failure_of(job, sight)) is not None]
        seen = self.resources.looked_at([job.id for job in doubtful])
        suspect = [doubt_about(job, sight) for job in doubtful if job.id not in seen]
        more = sum(max(len(found) - _MOST_SHOWN, 0) for found in (failed, suspect, refused))
        return Needs(failed[:_MOST_SHOWN], suspect[:_MOST_SHOWN], undelivered, more)

    def _open_failures(self, journal: Journal, sight: Sight) -> list[Job]:
        """The newest failed recordings that are in failed/ and were not retried."""
        wanted = Wanted(sight.profiles, open_failure=True)
        jobs = journal.search.page(wanted, limit=_MOST_COUNTED).jobs
        try:
            return [job for job in jobs if is_open_failure(job, journal, self.resources.folders)]
        except PermissionError as error:
            raise NotPermittedError(
                f"{self.resources.folders.failed} can't be read: {error.strerror}"
            ) from None

    # ---- find --------------------------------------------------------------------------------------------

    def find(self, sight: Sight, query: Query, *, after: str, limit: int) -> Rows:
        """A page of recordings; see `Source.find`."""
        since, until = _limits_of(query)
        wanted = Wanted(
            sight.profiles,
            states=query.states,
            since=since,
            until=until,
            suspect=query.suspect,
            text=query.text.strip()[:_LONGEST_TEXT],
        )
        before = int(after) if _CURSOR.fullmatch(after) else None
        journal = self.resources.reader.journal()
        limit, give_up = min(max(limit, 1), MOST_ROWS), monotonic() + _SEARCH_SECONDS
        found = journal.search.page(wanted, before=before, limit=limit)
        while not found.jobs and found.following is not None and monotonic() < give_up:
            found = journal.search.page(wanted, before=found.following, limit=limit)
        rows = [row_of(job, sight) for job in found.jobs]
        return Rows(rows, "" if found.following is None else str(found.following))


def _in_inbox(entry: Entry) -> InInbox:
    return InInbox(entry.path, entry.stage, Reason(entry.code, entry.reason, entry.hint), entry.since)


def _undelivered(delivery: QueuedDelivery, job: Job, sight: Sight) -> Need:
    fault = delivery.fault
    return Need(
        row_of(job, sight),
        _NO_REASON if fault is None else fault.reason,
        retry_can_help=True,
        at=(fault.since if fault else None) or delivery.queued_at or job.updated_at,
        target=delivery.target,
    )


def _limits_of(query: Query) -> tuple[datetime | None, datetime | None]:
    """The day's beginning and end, where the viewer is."""
    if query.day is None:
        return None, None
    zone = timezone(timedelta(minutes=min(max(query.zone_minutes, -_FARTHEST_ZONE), _FARTHEST_ZONE)))
    year = min(max(query.day.year, 2), MAXYEAR - 1)  # there is nothing in the others, and no day before them
    begin = datetime.combine(query.day.replace(year=year), time.min, zone)
    return begin, begin + timedelta(days=1)
