"""A person at the folders: puts recordings in, takes some out again, meddles; and remembers it all."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import wave
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from invox_watcher.files import MARK_FILE
from tests.kit.clinic import Clinic

How = Literal["copied", "moved in", "renamed at the end", "with an old time"]
_RATE = 48_000  # so that a few kilobytes are a fraction of a second
_PDF = b"%PDF-1.7\nA letter.\n"


def recording(number: int) -> bytes:
    """A WAV with noise in it, of 4 to 40 kB; another number is other content."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(random.Random(number).randbytes(4000 * (1 + 3 * (number % 4))))
    return content.getvalue()


NOT_RECORDINGS = (b"Dear colleague,\n", _PDF, b"", recording(100)[:3000])


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(folder: Path) -> list[Path]:
    """Every file below a folder, hidden ones too, except for marks, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if path.name != MARK_FILE)


@dataclass
class SlowWriting:
    """A file that is being written, its handle kept open."""

    path: Path
    final: Path
    handle: BinaryIO
    content: bytes
    written: int = 0

    def write(self, size: int) -> None:
        """The next so many bytes."""
        piece = self.content[self.written : self.written + size]
        self.handle.write(piece)
        self.handle.flush()
        self.written += len(piece)


class Person:
    """Does only what a person could do, and only while nothing else moves: see `Process.frozen`.

    Which file: the index counts through those that there are, whatever their number.
    """

    def __init__(self, clinic: Clinic) -> None:
        self._clinic = clinic
        self._desk = clinic.root / "desk"
        self._desk.mkdir(parents=True)
        self.put_in: Counter[str] = Counter()  # by content: every file put in and not taken out again
        self.ever: set[str] = set()
        self.recordings: set[str] = set()  # the contents that can be transcribed
        self.slow: list[SlowWriting] = []
        self.foreign: dict[Path, bytes] = {}
        self.back_from_failed: set[str | None] = set()
        self.deleted: set[Path] = set()  # outputs
        self.deleted_jobs: set[str] = set()  # whose transcript was among them

    def leave(self) -> None:
        """Let go of what is still being written."""
        for writing in self.slow:
            writing.handle.close()

    # ---- the inbox ---------------------------------------------------------------------------------------

    def drop(self, name: str, content: bytes, how: How) -> None:
        """Put a recording into the inbox; what still waits there under that name is lost by that."""
        self._put(name, content, how, is_recording=True)

    def drop_something_else(self, name: str, content: bytes, how: How) -> None:
        """Put a file into the inbox that is no recording."""
        self._put(name, content, how, is_recording=False)

    def _put(self, name: str, content: bytes, how: How, *, is_recording: bool) -> None:
        path = self._clinic.inbox / name
        if not self._may_write(path):
            return
        self._lose(path)
        if how == "copied":
            path.write_bytes(content)
        else:
            source = (
                path.with_name(f"{path.stem[:50]}.part")
                if how == "renamed at the end"
                else self._desk / "new"
            )
            source.write_bytes(content)
            if how == "with an old time":
                os.utime(source, (1e9, 1e9))
            os.replace(source, path)
        self._remember(content, is_recording=is_recording)

    def begin_writing(self, name: str, content: bytes, as_part: bool) -> None:
        """Create a file and write nothing yet."""
        final = self._clinic.inbox / name
        path = final.with_name(f"{final.stem[:50]} {len(self.ever)}.part") if as_part else final
        if not self._may_write(final) or final.exists() or path.exists():
            return
        self.slow.append(SlowWriting(path, final, path.open("xb"), content))

    def go_on_writing(self, index: int, size: int) -> None:
        """Write the next bytes of a file."""
        if self.slow:
            self.slow[index % len(self.slow)].write(size)

    def finish_writing(self, index: int) -> None:
        """Write the rest of a file and close it."""
        if not self.slow:
            return
        writing = self.slow.pop(index % len(self.slow))
        writing.write(len(writing.content))
        writing.handle.close()
        if writing.path != writing.final:
            final = writing.final
            while final.is_dir():  # which was made meanwhile
                final = final.with_name(f"{final.name}.wav")
            self._lose(final)
            os.replace(writing.path, final)
        self._remember(writing.content, is_recording=True)

    def overwrite(self, index: int, content: bytes) -> None:
        """Write another recording over one that waits, in place."""
        if (path := self._waiting(index)) is not None:
            self._lose(path)
            path.write_bytes(content)
            self._remember(content, is_recording=True)

    def rename(self, index: int, name: str) -> None:
        """Give one that waits another name."""
        path, new = self._waiting(index), self._clinic.inbox / name
        if path is not None and self._may_write(new) and not new.exists():
            os.rename(path, new)

    def delete(self, index: int) -> None:
        """Take one that waits away."""
        if (path := self._waiting(index)) is not None:
            self._lose(path)
            path.unlink()

    # ---- the other folders -------------------------------------------------------------------------------

    def put_back(self, index: int, with_error_file: bool) -> None:
        """Move a failed recording into the inbox."""
        folder = self._clinic.failed
        ours = [path for path in files(folder) if path not in self.foreign]
        failed = [path for path in ours if is_recording_of(folder, path)]
        if not failed:
            return
        path = failed[index % len(failed)]
        name = str(path.relative_to(folder))
        back = self._clinic.inbox / name
        if self._may_write(back) and not back.exists():
            os.rename(path, back)
            self.back_from_failed.add(name)
            error_file = path.with_name(f"{path.name}.error.json")
            if not with_error_file and error_file not in self.foreign:
                error_file.unlink(missing_ok=True)

    def delete_output(self, index: int) -> None:
        """Delete a file in the outbox."""
        outputs = [path for path in visible(self._clinic.outbox) if path not in self.foreign]
        if not outputs:
            return
        path = outputs[index % len(outputs)]
        if path.suffix == ".json":
            self.deleted_jobs.add(json.loads(path.read_bytes())["job_id"])
        path.unlink()
        self.deleted.add(path)

    def put_foreign(self, name: str) -> None:
        """Put a file of one's own into the outbox, done/ or failed/."""
        path = self._clinic.root / name
        if self._may_write(path) and not path.exists():
            content = f"somebody else's, {len(self.foreign)}".encode()
            (self._desk / "foreign").write_bytes(content)
            os.rename(self._desk / "foreign", path)
            self.foreign[path] = content

    # ---- the parts ---------------------------------------------------------------------------------------

    def _remember(self, content: bytes, *, is_recording: bool) -> None:
        digest = sha256(content)
        self.put_in[digest] += 1
        self.ever.add(digest)
        if is_recording:
            self.recordings.add(digest)

    def _lose(self, path: Path) -> None:
        if path.exists():
            self.put_in[sha256(path.read_bytes())] -= 1

    def _waiting(self, index: int) -> Path | None:
        # By inode: what was failed as empty, and put back, may still be written to under its new name.
        being_written = {os.fstat(writing.handle.fileno()).st_ino for writing in self.slow}
        files_there = visible(self._clinic.inbox)
        waiting = [path for path in files_there if path.stat().st_ino not in being_written]
        return waiting[index % len(waiting)] if waiting else None

    def _may_write(self, path: Path) -> bool:
        """Whether the name is free for a file, or that of one nobody is writing."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return False
        being_written = {writing.path for writing in self.slow} | {writing.final for writing in self.slow}
        return not path.is_dir() and path not in being_written


def visible(folder: Path) -> list[Path]:
    """Every file below a folder but the hidden ones."""
    return [path for path in files(folder) if not path.name.startswith(".")]


def is_recording_of(folder: Path, path: Path) -> bool:
    """Whether a file of this folder is one that came in, and nothing the daemon wrote."""
    temporary = path.name.startswith(".") and path.name.endswith(".tmp")
    return not temporary and not (folder.name == "failed" and path.name.endswith(".error.json"))
