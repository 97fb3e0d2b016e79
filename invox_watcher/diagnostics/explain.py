"""Explains how a file would be handled: each decision of the daemon, repeated with the same code.

Nothing is moved or changed. To find out whether files are unchanged, they are watched, all at once.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from invox_watcher.budget import held_back
from invox_watcher.config import Config
from invox_watcher.decoding import target_for, with_advice
from invox_watcher.diagnostics.daemon_status import DaemonStatus
from invox_watcher.diagnostics.explanation import Explanation, Step, Verdict
from invox_watcher.diagnostics.holds import until
from invox_watcher.diagnostics.prospect import prospect_of
from invox_watcher.diagnostics.surroundings import LONGEST_WATCH_SECONDS, Surroundings, surroundings_of
from invox_watcher.errors import NotPermittedError, Reason
from invox_watcher.files import ERROR_SUFFIX, LOCK_FILE, MARK_FILE, open_folder
from invox_watcher.formats.decoder import is_installed
from invox_watcher.host import User, holder_of, may_lease_any_file, owner_of
from invox_watcher.inbox import (
    Candidate,
    Evidence,
    Filter,
    Judgement,
    NotAFileError,
    Outcome,
    ScreeningRules,
    Waits,
    judge,
    open_file,
    program_of,
    read_attributes,
)
from invox_watcher.job import ACTIVE, Job, State
from invox_watcher.layout import folders_of, limits_of, profiles_of
from invox_watcher.plan import DEFAULT
from invox_watcher.recording import Remedy
from invox_watcher.spending import Reservation, counted_seconds, day_of
from invox_watcher.times import utc_now

_BLOCK_BYTES = 1 << 20
_COMPLETE = {
    Evidence.PROVEN: "proven to be complete",
    Evidence.LIKELY: "likely to be complete",
    Evidence.UNPROVEN: "not proven to be complete",
}


def explain(
    paths: Iterable[Path], config: Config, *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Explanation]:
    """How the daemon with `config` would handle each of the files, and of those in folders, and why.

    Files that must be unchanged for a while are watched for as long, at most ten seconds.

    Raises:
        NotPermittedError: this user has no access to one.
        JournalError: the journal can't be read.
    """
    files = [file for path in paths for file in _files_in(path)]
    with surroundings_of(config, sleep) as surroundings:
        surroundings.note(files)
        for file in files:
            yield explain_one(file, surroundings)


def explain_one(file: Path, surroundings: Surroundings, *, quick: bool = False) -> Explanation:
    """The same for one file; if it is to be `quick`, without reading all of it to find its duplicates.

    Raises:
        NotPermittedError: this user has no access to it.
    """
    try:
        steps = tuple(_Examination(file, surroundings, quick=quick).steps())
    except PermissionError as error:
        raise NotPermittedError(f"Can't access {file}: {error.strerror}") from None
    return Explanation(file, steps)


def _files_in(path: Path) -> list[Path]:
    """All that is in a folder, and in the folders in it, and is not a folder; else the path itself."""
    if path.is_symlink() or not os.path.isdir(path):
        return [path]

    def refuse(error: OSError) -> None:
        raise NotPermittedError(f"Can't access {error.filename}: {error.strerror}") from None

    found = [
        Path(folder, name)
        for folder, inner, names in os.walk(path, onerror=refuse)
        for name in [*names, *(one for one in inner if os.path.islink(os.path.join(folder, one)))]
        if name != MARK_FILE
    ]
    return sorted(found) or [path]


class _Examination:
    """One file, examined with one configuration."""

    def __init__(self, file: Path, surroundings: Surroundings, *, quick: bool) -> None:
        # The last component is not resolved: a link is never followed.
        whole = file.absolute() if file.name != ".." else Path(os.path.realpath(file))
        self._file = Path(os.path.realpath(whole.parent), whole.name)
        self._given = file
        self._shared = surroundings
        self._quick = quick
        self._config = surroundings.config
        self._inbox = surroundings.inbox
        self._inside = self._file.is_relative_to(self._inbox)
        self._path = str(self._file.relative_to(self._inbox)) if self._inside else self._file.name
        self._candidate: Candidate | None = None  # what would be processed
        self._is_copy = False  # it would get the transcript of an earlier one

    def steps(self) -> Iterator[Step]:
        """Every decision, in the daemon's order; ends after one that ignores the file."""
        for folder, place in folders_of(self._config).by_name().items():
            real = Path(os.path.realpath(place))
            if folder != "inbox" and self._file.is_relative_to(real):
                yield from self._elsewhere(folder, str(self._file.relative_to(real)))
                return
        if self._file == self._inbox:
            yield _not_a_file("folder")
            return
        yield self._place()
        yield (name := self._name())
        if name.verdict is Verdict.LEFT:
            return
        if (user := self._other_user()) is not None:
            yield Step("place", Verdict.LEFT, user, "Move it to a folder that no other instance uses.")
            return
        try:
            fd = self._open()
        except FileNotFoundError:
            yield _missing(self._job_from_inbox())
            return
        except NotAFileError as error:
            yield _not_a_file(error.kind)
            return
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            yield Step(
                "kind", Verdict.LEFT, "A folder in its path is a symbolic link; links are not followed."
            )
            return
        with open(fd, "rb", buffering=0):
            if self._inside:
                yield from self._access(fd)
                yield self._watch()
            yield self._content(fd)
            yield from self._profile(fd)
            yield from self._same_content(fd)
            yield from self._minutes(fd)
        yield from self._daemon()

    # ---- where, and under which name ---------------------------------------------------------------------

    def _place(self) -> Step:
        if self._inside:
            return Step("place", Verdict.TAKEN, f"In the inbox, as {self._path}.")
        says = f"Not in the inbox. If it were copied there as {self._path}, it would be handled like this:"
        return Step("place", Verdict.TAKEN, says, note=True)

    def _elsewhere(self, folder: str, path: str) -> Iterator[Step]:
        job = self._job_of(folder, path)
        try:
            mode = os.lstat(self._file).st_mode
        except (FileNotFoundError, NotADirectoryError):
            yield _missing(job)
            return
        if job is None and stat.S_ISDIR(mode):
            yield _not_a_file("folder")
            return
        if folder == "processing" and job is not None and job.state in ACTIVE:
            yield from self._under_way(job)
            return
        known = f"It belongs to {_summary(job)}" if job else "It is not in the journal."
        says = f"In {folder}/, from which nothing is processed. {known}"
        yield Step("place", Verdict.LEFT, says, _way_out(folder, path, job))

    def _under_way(self, job: Job) -> Iterator[Step]:
        """What is ahead of a recording that was taken."""
        says = f"In processing/: {_summary(job)}"
        yield Step("place", Verdict.UNDER_WAY, says, f"Its history: invox-watcher show {job.id}")
        prospect = prospect_of(job, self._shared.status, max_attempts=self._config.retry.max_attempts)
        for name, text in prospect.lines() if prospect is not None else ():
            yield Step(name.replace("_", " "), Verdict.UNDER_WAY, text)

    def _job_of(self, folder: str, path: str) -> Job | None:
        if (journal := self._shared.journal) is not None:
            if folder == "processing":
                return journal.get(path.partition("/")[0])
            if folder == "done":
                return journal.lookup.latest([State.DONE], filed_as=path)
            if folder == "failed":
                return journal.lookup.latest([State.FAILED], filed_as=path.removesuffix(ERROR_SUFFIX))
            if folder == "outbox" and (job_id := journal.finished.writer_of(path)) is not None:
                return journal.get(job_id)
        return None

    def _job_from_inbox(self) -> Job | None:
        journal = self._shared.journal
        return journal.lookup.latest(path=self._path) if self._inside and journal is not None else None

    def _name(self) -> Step:
        watch = self._config.watch
        pattern = Filter(watch.ignore).why_ignored(self._path)
        if pattern is not None:
            program = program_of(pattern)
            hint = "Rename it." if program else "Rename it, or change watch.ignore."
            whose = f"{pattern} ({program})" if program else pattern
            return Step("name", Verdict.LEFT, f"Names like this are ignored: {whose}", hint)
        if "/" in self._path and not watch.recursive:
            says = "In a subfolder of the inbox, and watch.recursive is false."
            return Step(
                "name", Verdict.LEFT, says, "Move it to the inbox itself, or set watch.recursive: true."
            )
        return Step("name", Verdict.TAKEN, "The name matches no pattern in the ignore list.")

    def _other_user(self) -> str | None:
        """Which other instance uses a folder that the file is in, inside the inbox; None if none does."""
        occupancy = self._shared.occupancy
        for above in list(Path(self._path).parents)[:-1] if self._inside else ():
            with suppress(OSError), open_folder(self._inbox / above) as folder:
                if (user := occupancy.user_of(folder)) is not None:
                    return user
        return None

    def _open(self) -> int:
        root = self._inbox if self._inside else self._file.parent
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return open_file(root_fd, self._path)
        finally:
            os.close(root_fd)

    # ---- may the daemon take it, and how does it notice --------------------------------------------------

    def _access(self, fd: int) -> Iterator[Step]:
        user, owner = self._shared.daemons_user, os.fstat(fd).st_uid
        folders = [self._inbox, *(self._inbox / above for above in Path(self._path).parents)]
        blocked = next((one for one in folders if not user.may(one, os.R_OK | os.X_OK)), None)
        if blocked is not None:
            yield self._forbidden(user, "read its folder", blocked)
        elif not user.may_take_from(self._file.parent, owner):
            yield self._forbidden(user, "move it out of its folder", self._file.parent)
        elif not user.may(self._file, os.R_OK):
            yield self._forbidden(user, "read it", self._file)
        else:
            yield Step("permission", Verdict.TAKEN, f"The daemon's user {user.name} can read and move it.")

    def _forbidden(self, user: User, what: str, path: Path) -> Step:
        return Step(
            "permission",
            Verdict.LEFT,
            f"The daemon's user {user.name} can't {what}: {path} is {owner_of(path)}.",
            f"Change its owner to {user.name}, or give a group of that user access. See also `check`.",
        )

    def _watch(self) -> Step:
        watch, (type_, _remote) = self._config.watch, self._shared.inbox_type
        if self._polled:
            how = f"The inbox ({type_}) is polled every {watch.polling_seconds:g} s."
        else:
            how = f"Detected by kernel events ({type_}), with a rescan every {watch.rescan_seconds:g} s."
        return Step("watch", Verdict.TAKEN, how)

    @property
    def _polled(self) -> bool:
        mode = self._config.watch.mode
        return mode == "polling" or (mode == "auto" and self._shared.inbox_type[1])

    # ---- is it complete, and what is it ------------------------------------------------------------------

    def _content(self, fd: int) -> Step:
        local = self._inside and self._daemon_sees_writers(fd)
        judgement = self._judge(fd, local=local)
        how = "complete, as far as can be determined"
        if judgement.candidate is not None and self._inside:
            wait_seconds, key = self._wait(judgement)
            for_long = f"{wait_seconds:g} s (watch.{key})"
            if not self._shared.stays_unchanged(self._given, fd, wait_seconds):
                says = f"It must be unchanged for {wait_seconds:g} s first (watch.{key})."
                return Step("content", Verdict.LATER, says, "Try again in a moment.", code="changing")
            judgement = self._judge(fd, local=local)
            how = f"unchanged for {for_long}"
            if wait_seconds > LONGEST_WATCH_SECONDS:
                how = f"it is taken once it is unchanged for {for_long}"
        self._candidate = found = judgement.candidate
        if found is None:
            return self._not_yet(fd, judgement)
        if judgement.evidence is not None and self._inside:
            how = f"{_COMPLETE[judgement.evidence]} ({judgement.why}); {how}"
        if found.refusal is not None:
            return self._refused(found, found.refusal, how)
        length = "unknown length" if found.duration_seconds is None else f"{found.duration_seconds:.1f} s"
        odd = f" Note: {found.remark}." if found.remark else ""
        says = f"{found.format}, {length}, sent as {found.mime_type}: {how}.{odd}"
        return Step("content", Verdict.TAKEN, says)

    def _refused(self, found: Candidate, refusal: Reason, how: str) -> Step:
        target = None if found.remedy is Remedy.NONE else target_for(self._config.api.mime_types)
        if target is not None and is_installed():
            says = f"{found.format}, which the API does not take: decoded, and sent as {target[1]}: {how}."
            return Step("content", Verdict.TAKEN, says)
        if target is not None:
            refusal = with_advice(refusal)
        self._candidate = None
        says = f"{refusal.message} It would be moved to failed/ ({refusal.code})."
        return Step("content", Verdict.FAILED, says, refusal.hint, code=refusal.code)

    def _judge(self, fd: int, *, local: bool, patient: bool = False) -> Judgement:
        """What becomes of it once it has been unchanged for long enough; with `patient`, forever."""
        watch = self._config.watch
        waits = Waits(watch.grace_seconds, watch.settle_seconds, watch.unproven_seconds, math.inf)
        rules = ScreeningRules(self._config.intake.max_size_mib << 20, self._config.api.mime_types, waits)
        unchanged_seconds = math.inf if patient else waits.of(Evidence.UNPROVEN)
        return judge(self._path, fd, rules, unchanged_seconds=unchanged_seconds, local=local)

    def _wait(self, judgement: Judgement) -> tuple[float, str]:
        """For how long it has to be unchanged, and the key that says so."""
        assert judgement.candidate is not None  # noqa: S101 - the caller has checked
        watch, evidence = self._config.watch, judgement.evidence or Evidence.LIKELY
        if judgement.candidate.refusal is not None and evidence is Evidence.PROVEN:
            evidence = Evidence.LIKELY
        keys = ["grace_seconds", "settle_seconds", "unproven_seconds"][: list(Evidence).index(evidence) + 1]
        key = max(reversed(keys), key=lambda name: float(getattr(watch, name)))
        return getattr(watch, key), key

    def _daemon_sees_writers(self, fd: int) -> bool:
        """Whether the kernel tells the daemon about writers: on a local disk, for files that it may lease."""
        status, user = os.fstat(fd), self._shared.daemons_user
        here = status.st_dev == os.stat(self._inbox).st_dev and not self._shared.inbox_type[1]
        if not here or self._config.watch.mode == "polling":
            return False
        daemon = holder_of(self._config.state.directory / LOCK_FILE)
        return user.uid in (0, status.st_uid) or (daemon is not None and may_lease_any_file(daemon.pid))

    def _not_yet(self, fd: int, judgement: Judgement) -> Step:
        watch = self._config.watch
        programs = self._shared.programs(os.fstat(fd))
        if judgement.outcome is Outcome.OPEN or programs:
            which = f": {programs}" if programs else ""
            hint = (
                "It is taken once that program closes it." if programs else "`fuser -v`, as root, names it."
            )
            return Step(
                "content", Verdict.LATER, f"A program has it open for writing{which}.", hint, code="open"
            )
        why = "empty" if judgement.reason == "empty" else "incomplete"
        says = f"It is {judgement.reason}. After {watch.patience_seconds:g} s without a change "
        says += "(watch.patience_seconds) it "
        given_up = self._judge(fd, patient=True, local=False).candidate
        if given_up and given_up.refusal is None:
            return Step("content", Verdict.LATER, f"{says}is taken as it is.", code=why)
        code = given_up.refusal.code if given_up and given_up.refusal else "truncated"
        hint = given_up.refusal.hint if given_up and given_up.refusal else ""
        says += "would be "
        if given_up and given_up.remedy is Remedy.VERIFY and is_installed():
            says += "decoded; if it is really cut off, "
            if self._config.intake.on_truncated == "send":
                says += "what is there is sent, with a note (intake.on_truncated)."
                return Step("content", Verdict.LATER, says, hint, code=why)
        return Step("content", Verdict.LATER, f"{says}moved to failed/ ({code}).", hint, code=why)

    def _profile(self, fd: int) -> Iterator[Step]:
        """The profile that it gets, and why none before that matches."""
        profiles = profiles_of(self._config)
        if not profiles:
            return
        attributes = read_attributes(fd)
        says = [
            f"{name} matches" if mismatch is None else f"not {name}: {mismatch}"
            for name, mismatch in profiles.reasons(self._path, attributes)
        ]
        plan = profiles.plan_for(self._path, attributes)
        assert plan is not None  # noqa: S101 - there are profiles
        found = "; ".join(f"{name}: {value}" for name, value in plan.attributes.items())
        attributed = f" Its attributes: {found}." if found else ""
        yield Step(
            "profile",
            Verdict.TAKEN,
            f"{plan.profile}, {plan.priority.name.lower()} ({'; '.join(says)}).{attributed}",
        )

    def _same_content(self, fd: int) -> Iterator[Step]:
        if self._candidate is None or self._quick:
            return
        if (journal := self._shared.journal) is not None:
            earlier = journal.original(_sha256(fd))
            if earlier is None:
                yield Step("duplicate", Verdict.TAKEN, "The journal has no recording with the same content.")
                return
            self._is_copy = self._config.intake.on_duplicate != "process"
            same = f"Same content as the earlier recording {earlier.path} (job {earlier.id})"
            verdict, then = {
                "fail": (Verdict.FAILED, "it would be moved to failed/ (intake.on_duplicate: fail)"),
                "reuse": (Verdict.TAKEN, "it would get the same transcript, without an upload"),
                "process": (Verdict.TAKEN, "it would be transcribed again (intake.on_duplicate: process)"),
                "skip": (
                    Verdict.TAKEN,
                    "it would be deleted if it is in done/ under the same name; otherwise it would get the "
                    "same transcript, without an upload (intake.on_duplicate: skip)",
                ),
            }[self._config.intake.on_duplicate]
            yield Step("duplicate", verdict, f"{same}: {then}.", note=verdict is Verdict.TAKEN)

    def _minutes(self, fd: int) -> Iterator[Step]:
        """Are there enough of the day's minutes left for it?"""
        limits, found, now = limits_of(self._config), self._candidate, utc_now()
        if not limits or found is None or self._is_copy:
            return
        journal = self._shared.journal
        spent = {} if journal is None else journal.spent(day_of(now))
        plan = profiles_of(self._config).plan_for(self._path, read_attributes(fd))
        counts = counted_seconds(found.duration_seconds, found.identity.size_bytes)
        wanted = Reservation(day_of(now), DEFAULT if plan is None else plan.profile, counts)
        held = held_back(wanted, limits, spent, now)
        if held is None:
            says = f"It counts as {counts / 60:.1f} minutes, which are left of today's."
            yield Step("minutes", Verdict.TAKEN, says)
            return
        says = f"It counts as {counts / 60:.1f} minutes, but {held.reason}: it is held until {until(held)}."
        yield Step("minutes", Verdict.LATER, says, "Or raise the limit, and reload the daemon.")

    # ---- is there a daemon, and capacity -----------------------------------------------------------------

    def _daemon(self) -> Iterator[Step]:
        limit, counts = self._config.intake.max_in_flight, self._shared.counts
        under_way = sum(counts.get(state, 0) for state in ACTIVE)
        if under_way >= limit:
            says = f"{under_way} recordings are under way, which is the limit (intake.max_in_flight)."
            yield Step(
                "room", Verdict.LATER, says, "It is processed once one of them is finished.", code="held"
            )
        status = self._shared.status
        ready = status.daemon is not None and not status.problems
        yield Step("daemon", Verdict.TAKEN, _standing(status), note=not ready)


def _missing(job: Job | None) -> Step:
    """No such file; `job` had one of that name."""
    known = f" A file of that name was processed before, as {_summary(job)}" if job else ""
    return Step("kind", Verdict.LEFT, f"No such file.{known}")


def _not_a_file(kind: str) -> Step:
    says = f"Not a regular file ({kind}); ignored."
    return Step("kind", Verdict.LEFT, says, "No file is in it." if kind == "folder" else "")


def _way_out(folder: str, path: str, job: Job | None) -> str:
    """How to get a file out of one of the daemon's folders, if the daemon won't move it."""
    if folder == "failed" and job is not None:
        return f"To retry it: invox-watcher retry {job.id}"
    if folder == "processing" and (job is None or job.state not in ACTIVE):
        if "/" in path:
            return "The next start of the daemon returns it to the inbox."
        return "It was not put there by the daemon, which ignores it. Move it to the inbox."
    return ""


def _standing(status: DaemonStatus) -> str:
    if status.daemon is None:
        return "No daemon is running: recordings wait until one is started."
    if status.problems:
        return f"The daemon is running, but: {' '.join(one.reason.message for one in status.problems)}"
    return (
        "The daemon is running." if status.asked else f"The daemon is running; {status.unreachable_because}."
    )


def _summary(job: Job) -> str:
    """A job in half a sentence."""
    why = f": {job.failure.reason.message}" if job.failure else "."
    return f"job {job.id} ({job.state}){why}"


def _sha256(fd: int) -> str:
    digest, offset = hashlib.sha256(), 0
    while block := os.pread(fd, _BLOCK_BYTES, offset):
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()
