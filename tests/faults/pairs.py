"""The faults that are crossed with restarts, reloads and timers: how each of them begins and ends.

A row is one fault of docs/reliability.md. `test_pairs` has what it is crossed with.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from invox_watcher.files import MARK_FILE
from invox_watcher.sandbox.server import Sandbox
from tests.faults.daemons import Death, Fate
from tests.faults.person import SlowWriting, mp3
from tests.kit.clinic import Clinic
from tests.kit.recordings import write_wav

# What happens in the middle of a fault, besides a recording that is well.
CROSSINGS = ["killed", "stopped", "reloaded", "by a timer", "left alone"]
DAY = 86_400.0
NAME = "smith.wav"
_CALLS = ("token", "presign", "upload", "status")


@dataclass
class Scene:
    """One clinic, its API, and what the end of the fault has to undo."""

    clinic: Clinic
    api: Sandbox
    undo: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def put(self, name: str = NAME) -> None:
        """The recording that meets the fault."""
        path = write_wav(self.clinic.root / "new.wav", pitch=440)
        (self.clinic.inbox / name).parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, self.clinic.inbox / name)


def _nothing(_scene: Scene) -> None:
    pass


@dataclass(frozen=True)
class Row:
    """A fault: what is done before its recording comes, how that comes, and what happens once it is there.

    `ends_as` is where the recording lies in the end: in done/, or in failed/ for the reason of that name.
    """

    what: str
    before: Callable[[Scene], None] = _nothing
    put: Callable[[Scene], None] = Scene.put
    during: Callable[[Scene], None] = _nothing
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fate: Fate = field(default_factory=Fate)
    ends_as: Literal["done", "empty"] = "done"
    parts: bool = False  # a part may be sent, and is discarded


def _answers(on: str | tuple[str, ...], do: str, *, times: int | None = None, **more: Any) -> Any:
    """The API, or storage, does that: so many times, or until the fault ends."""
    operations = (on,) if isinstance(on, str) else on

    def begin(scene: Scene) -> None:
        for operation in operations:
            scene.api.fault({"on": operation, "do": do, "times": times, **more})
        scene.undo.callback(scene.api.clear_faults)

    return begin


def _empty(scene: Scene) -> None:
    (scene.clinic.inbox / NAME).write_bytes(b"")


def _in_new_folders(scene: Scene) -> None:
    scene.put("a/b/c/" + NAME)


def _twice(scene: Scene) -> None:
    """A mirror that has sent the same file before, and does so again."""
    scene.put()
    (scene.clinic.inbox / "again").mkdir()
    shutil.copy2(scene.clinic.inbox / NAME, scene.clinic.inbox / "again" / NAME)
    shutil.rmtree(scene.clinic.inbox / "again")


def _under_another_name(scene: Scene) -> None:
    scene.put(f"{NAME}.filepart")
    part = scene.clinic.inbox / f"{NAME}.filepart"
    scene.undo.callback(os.rename, part, scene.clinic.inbox / NAME)


def _touched(scene: Scene) -> None:
    scene.put()
    path = scene.clinic.inbox / NAME
    with contextlib.suppress(FileNotFoundError):
        path.chmod(0o640)
        os.utime(path, (1e9, 1e9))


def _stalled(*, reserved: bool) -> Callable[[Scene], None]:
    def put(scene: Scene) -> None:
        path = scene.clinic.inbox / "smith.mp3"
        writing = SlowWriting(path, path, mp3(1), held=False, reserved=reserved)
        writing.write(5000)
        scene.undo.callback(writing.close)
        scene.undo.callback(writing.write, len(writing.content))

    return put


def _lock_the_journal(scene: Scene) -> None:
    state = scene.clinic.root / "state"
    if not (state / "journal.sqlite").exists():
        return
    lock = sqlite3.connect(state / "journal.sqlite", isolation_level=None, check_same_thread=False)
    scene.undo.callback(lock.close)
    with contextlib.suppress(sqlite3.OperationalError):  # the daemon is writing
        lock.execute("BEGIN IMMEDIATE")
        scene.undo.callback(lock.execute, "ROLLBACK")


def _take_away(folder: str) -> Callable[[Scene], None]:
    def begin(scene: Scene) -> None:
        path: Path = getattr(scene.clinic, folder)
        away = scene.clinic.root / f"{folder} is away"

        def back() -> None:
            if path.exists():  # made by a daemon that started meanwhile
                (path / MARK_FILE).unlink(missing_ok=True)
                path.rmdir()
            os.rename(away, path)

        if path.exists():
            os.rename(path, away)
            scene.undo.callback(back)

    return begin


def _block_done(scene: Scene) -> None:
    """A file stands where done/ needs a folder."""
    scene.clinic.done.mkdir(mode=0o700, exist_ok=True)
    blocked = scene.clinic.done / "ward"
    blocked.write_text("no folder")
    scene.undo.callback(blocked.unlink)


_ODD = {"on": "status", "do": "odd_result"}
# Longer than the line stalls: what is certainly incomplete for longer is refused.
_PATIENT = {"watch": {"patience_seconds": 60}}
_SKIP = {"intake": {"on_duplicate": "skip"}}

ROWS: dict[str, Row] = {
    "21": Row("new folders, filled at once", put=_in_new_folders),
    "23": Row("the inbox is unavailable", during=_take_away("inbox")),
    "24": Row("no inotify: polled", changes={"watch": {"mode": "polling", "polling_seconds": 0.2}}),
    "25a": Row("the clock jumps ahead a day", fate=Fate(stepped_seconds=DAY, step_after=10)),
    "25b": Row("the clock jumps back a day", fate=Fate(stepped_seconds=-DAY, step_after=10)),
    "29": Row("killed at a step", fate=Fate(death=Death("move", 3))),
    "31": Row("the journal is locked", during=_lock_the_journal),
    "32": Row("no folder in done/", before=_block_done, put=lambda scene: scene.put("ward/" + NAME)),
    "33": Row("the token is refused", _answers("presign", "status", status=401, times=2)),
    "34": Row("storage refuses the URL", _answers("upload", "status", status=403, times=2)),
    "35": Row("Retry-After: 86400", _answers("status", "status", status=503, retry_after=86400, times=3)),
    "36a": Row("silence", _answers(("presign", "status"), "silence", seconds=0.2, times=2)),
    "36b": Row("a byte at a time", _answers("status", "slow_bytes", seconds=0.002, part="all", times=2)),
    "37": Row("the reply to the upload is lost", _answers("upload", "drop_reply", times=1)),
    "38a": Row("a web page for a result", _answers("status", "html", times=2)),
    "38b": Row("a truncated reply", _answers(("token", "presign", "status"), "truncate", times=1)),
    "38c": Row("a field is missing", _answers("presign", "missing_field", field="requestId", times=2)),
    "39": Row("a redirection", _answers(("token", "presign"), "redirect", location="http://127.0.0.1:9")),
    "40a": Row("every call: 503", _answers(_CALLS, "status", status=503)),
    "40b": Row("every call: reset", _answers(_CALLS, "reset")),
    "42": Row("an empty recording", put=_empty, ends_as="empty"),
    "52": Row("404 for what is acknowledged", _answers("status", "deny_acknowledged")),
    "53a": Row("102 after the upload", _answers("upload", "interim", status=102)),
    "53b": Row("500 after all bytes", _answers("upload", "status_instead", status=500)),
    "54": Row("words in the VTT only", _answers(**_ODD, kind="words_in_vtt_only")),
    "55": Row("415 for the token", _answers("token", "status", status=415)),
    "63a": Row("a line stalls", put=_stalled(reserved=False), changes=_PATIENT, parts=True),
    "63b": Row("a line stalls, size reserved", put=_stalled(reserved=True), changes=_PATIENT, parts=True),
    "64": Row("touched after the close", put=_touched),
    "65": Row("unreadable results", _answers("status", "html", times=4)),
    "66a": Row("NaN for times", _answers(**_ODD, kind="nan_times")),
    "66b": Row("a null segment", _answers(**_ODD, kind="null_segment")),
    "66c": Row("gzip", _answers(**_ODD, kind="gzip")),
    "70": Row("a mirrored source", put=_twice, changes=_SKIP),
    "71": Row("a name of an unfinished copy", put=_under_another_name),
}
