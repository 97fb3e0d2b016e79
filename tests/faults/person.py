"""A person at the folders: puts recordings in, takes some out again, meddles; and remembers it all."""

from __future__ import annotations

import io
import json
import os
import random
import wave
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from invox_watcher.files import MARK_FILE
from tests.faults.evidence import sha256
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


def mp3(number: int) -> bytes:
    """An MP3 of 24 frames that does not say where it ends, so that any part of it could be the whole."""
    noise = random.Random(-1 - number)
    header = b"\xff\xfb\x90\x00"  # MPEG 1 layer III, 128 kbit/s, 44.1 kHz: frames of 417 bytes
    return b"".join(header + bytes(32) + noise.randbytes(381) for _ in range(24))


def longer(content: bytes, by: int) -> bytes:
    """The WAV as its recorder leaves it after going on for `by` more frames, sizes mended."""
    with wave.open(io.BytesIO(content)) as file:
        sound = file.readframes(file.getnframes())
    grown = io.BytesIO()
    with wave.open(grown, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(_RATE)
        file.writeframes(sound + random.Random(by).randbytes(4 * by))
    return grown.getvalue()


NOT_RECORDINGS = (b"Dear colleague,\n", _PDF, b"", recording(100)[:3000])


def files(folder: Path) -> list[Path]:
    """Every file below a folder, hidden ones too, except for marks, in the order of their names."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if path.name != MARK_FILE)


@dataclass(eq=False)
class SlowWriting:
    """A file that is being written, piece by piece, wherever it is moved meanwhile.

    With `held` by a process of this machine, which the kernel knows of; else by another machine, so that the
    file is closed, as this kernel sees it, whenever the line is silent. With `reserved` it has its final size
    from the start: zeros, until they are overwritten.
    """

    path: Path
    final: Path
    content: bytes
    held: bool
    reserved: bool
    written: int = 0

    def __post_init__(self) -> None:
        flags = os.O_RDWR if self.held else os.O_RDONLY
        self._fd = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, 0o644)
        if self.reserved:
            os.truncate(f"/proc/self/fd/{self._fd}", len(self.content))

    @property
    def so_far(self) -> bytes:
        """What the file holds by now."""
        part = self.content[: self.written]
        return part.ljust(len(self.content), b"\0") if self.reserved else part

    @property
    def inode(self) -> int:
        """Which file it is, under whichever name."""
        return os.fstat(self._fd).st_ino

    def write(self, size: int) -> None:
        """The next so many bytes."""
        piece = self.content[self.written : self.written + size]
        fd = self._fd if self.held else os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY)
        os.pwrite(fd, piece, self.written)
        if not self.held:
            os.close(fd)
        self.written += len(piece)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


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
        self.grown: set[int] = set()  # the inodes of files that were written to after a silence
        self.parts: set[str] = set()  # what such files held meanwhile
        self.foreign: dict[Path, bytes] = {}
        self.back_from_failed: set[str | None] = set()
        self.deleted: set[Path] = set()  # outputs
        self.deleted_jobs: set[str] = set()  # whose transcript was among them

    def leave(self) -> None:
        """Let go of what is still being written."""
        for writing in self.slow:
            writing.close()

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

    def begin_writing(self, name: str, content: bytes, as_part: bool, held: bool, reserved: bool) -> None:
        """Create a file, `as_part` under another name until it is whole, and write nothing yet."""
        final = self._clinic.inbox / name
        path = final.with_name(f"{final.stem[:50]} {len(self.ever)}.part") if as_part else final
        if not self._may_write(final) or final.exists() or path.exists():
            return
        self._note_progress(SlowWriting(path, final, content, held, reserved))

    def go_on_writing(self, index: int, size: int) -> None:
        """Write the next bytes of a file."""
        if self.slow:
            writing = self.slow[index % len(self.slow)]
            writing.write(size)
            self._note_progress(writing)

    def finish_writing(self, index: int) -> None:
        """Write the rest of a file and close it."""
        if not self.slow:
            return
        writing = self.slow.pop(index % len(self.slow))
        writing.write(len(writing.content))
        writing.close()
        if writing.path != writing.final:
            final = writing.final
            while final.is_dir() or self._is_being_written(final):  # which came to be meanwhile
                final = final.with_name(f"{final.name}.wav")
            self._lose(final)
            os.replace(writing.path, final)
        self._remember(writing.content, is_recording=True)

    def touch(self, index: int, how: str) -> None:
        """What senders do to one that waits after they have closed it, by its name."""
        path = self._waiting(index)
        if path is None:
            return
        if how == "chmod":
            path.chmod(0o640)
        elif how == "rename":
            os.rename(path, self._desk / "aside")
            os.rename(self._desk / "aside", path)
        else:
            os.utime(path, (1e9, 1e9) if how == "an old time" else None)

    def record_more(self, index: int, frames: int) -> None:
        """Open a WAV that waits again, append to it, and mend its header."""
        path = self._waiting(index)
        if (
            path is None
            or sha256(content := path.read_bytes()) not in self.recordings
            or content[:4] != b"RIFF"
        ):
            return
        grown = longer(content, frames)
        self._lose(path)
        with path.open("r+b", buffering=0) as file:
            file.seek(len(content))
            file.write(grown[len(content) :])
            file.seek(0)
            file.write(grown[:44])
        self._remember(grown, is_recording=True)

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
        waiting = [path for path in visible(self._clinic.inbox) if not self._is_being_written(path)]
        return waiting[index % len(waiting)] if waiting else None

    def _may_write(self, path: Path) -> bool:
        """Whether the name is free for a file, or that of one nobody is writing."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return False
        return not path.is_dir() and not self._is_being_written(path)

    def _is_being_written(self, path: Path) -> bool:
        """By inode, too: what was taken too early, and returned, may be written to under another name."""
        names = {name for writing in self.slow for name in (writing.path, writing.final)}
        return path in names or (
            path.exists() and path.stat().st_ino in {writing.inode for writing in self.slow}
        )

    def _note_progress(self, writing: SlowWriting) -> None:
        if writing not in self.slow:
            self.slow.append(writing)
        self.grown.add(writing.inode)
        self.parts.add(sha256(writing.so_far))


def visible(folder: Path) -> list[Path]:
    """Every file below a folder but the hidden ones."""
    return [path for path in files(folder) if not path.name.startswith(".")]


def is_recording_of(folder: Path, path: Path) -> bool:
    """Whether a file of this folder is one that came in, and nothing the daemon wrote."""
    made = path.name.startswith(".") and (path.name.endswith(".tmp") or "prepared" in path.name)
    return not made and not (folder.name == "failed" and path.name.endswith(".error.json"))
