"""Records, by strace, everything that a command does to a tree: what a power cut may find half on the disk.

A call whose effect can't be told (a shared mapping, a copy in the kernel) is an error, never left out. The
one exception is the index of SQLite's WAL, which is never synced: after a power cut it may have any content.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_LINE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>\d+)(<.*)?")
_UNFINISHED = re.compile(r"(?P<thread>\d+) +(?P<start>\w+\(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(?P<thread>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)")
WAL_INDEX = "-shm"  # the end of its name
_DESCRIPTOR = re.compile(r"(?P<number>\d+|AT_FDCWD)<(?P<path>[^>]*)>(?P<deleted>\(deleted\))?")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Kind(StrEnum):
    """What was done."""

    CREATE = "create"  # an empty file, if there was none
    MKDIR = "mkdir"
    WRITE = "write"
    RESIZE = "resize"
    RENAME = "rename"
    UNLINK = "unlink"
    RMDIR = "rmdir"
    SYNC = "sync"  # a file's content, or a folder's names
    SEND = "send"  # to another process, which learns of it whether or not the power is cut here


@dataclass(frozen=True)
class Operation:
    """One change of the tree, one sync, or one thing said to the outside. Paths are relative to the tree.

    `offset` is None where something is added at the end. `after` says how many operations were over when it
    began: a sync vouches for these, not for later ones.
    """

    kind: Kind
    path: str = ""
    new_path: str = ""
    offset: int | None = 0
    data: bytes = b""
    size: int = 0
    after: int = 0

    def __str__(self) -> str:
        paths = " → ".join(path for path in (self.path, self.new_path) if path)
        return f"{self.kind} {paths}" + (f" {self.offset}+{len(self.data)}" if self.data else "")


def record(command: Sequence[str], tree: Path, *, log: Path, trace: Path) -> tuple[int, list[Operation]]:
    """Run `command`; return its exit status and what it did to `tree`, in the order in which it was over.

    The status is minus the signal where one ended it.
    """
    # Every string in hexadecimal, paths too: no quote, comma or bracket in them can mislead the parser.
    options = ["-f", "-y", "-xx", "-s", str(1 << 24), "--seccomp-bpf", "-o", str(trace)]
    options += ["-e", "trace=" + ",".join(f"?{call}" for call in _HANDLERS)]
    with log.open("ab") as stderr:
        status = subprocess.run(["strace", *options, *command], stderr=stderr, check=False).returncode
    return status, list(_Reader(tree).read(trace))


class _Call:
    """One system call that worked."""

    def __init__(self, line: re.Match[str], after: int) -> None:
        self.name = line["name"]
        self.result = int(line["result"])
        self.after = after
        self.text = line["arguments"]
        self.arguments = line["arguments"].split(", ")

    @property
    def data(self) -> bytes:
        """What was written: all strings one after the other."""
        content = b"".join(_unescaped(string) for string in _STRING.findall(self.text))
        return content[: self.result]


class UnrecordableCallError(Exception):
    """The daemon made a system call in its tree that the model of the disk does not know."""


class _Reader:
    """Turns the lines of a trace into operations on one tree."""

    def __init__(self, tree: Path) -> None:
        self._tree = os.path.realpath(tree)
        self._offsets: dict[str, int | None] = {}  # None: what is written is added at the end
        self._over = 0

    def read(self, trace: Path) -> Iterator[Operation]:
        for call in self._calls(trace):
            for operation in _HANDLERS[call.name](self, call):
                self._over += 1
                yield dataclasses.replace(operation, after=call.after)

    def _calls(self, trace: Path) -> Iterator[_Call]:
        begun: dict[str, tuple[str, int]] = {}
        for read in trace.read_text("ascii").splitlines():
            line, after = read, self._over
            if unfinished := _UNFINISHED.fullmatch(line):
                begun[unfinished["thread"]] = (unfinished["start"], after)
                continue
            if resumed := _RESUMED.fullmatch(line):
                start, after = begun.pop(resumed["thread"])
                line = f"{resumed['thread']} {start}{resumed['rest']}"
            if worked := _LINE.fullmatch(line):
                yield _Call(worked, after)

    # ---- which file --------------------------------------------------------------------------------------

    def _within(self, path: str) -> str | None:
        """The path relative to the tree; None if it is outside of it."""
        relative = os.path.relpath(path, self._tree)
        return None if relative.startswith("..") else relative

    def _open(self, argument: str) -> str | None:
        """Which file of the tree is behind a descriptor. None if none, or one that has no name any more."""
        found = _DESCRIPTOR.match(argument)
        return None if found is None or found["deleted"] else self._within(_unescaped(found["path"]).decode())

    def _named(self, argument: str, folder: str = "") -> str | None:
        """Which file of the tree has the name in `argument`, seen from the descriptor in `folder`."""
        name = _unescaped(argument.strip('"')).decode()
        found = _DESCRIPTOR.match(folder)
        return self._within(os.path.join(_unescaped(found["path"]).decode() if found else "/", name))

    # ---- one for each call -------------------------------------------------------------------------------

    def opened(self, call: _Call) -> Iterator[Operation]:
        folder, name, flags = call.arguments[:3]
        self._offsets[str(call.result)] = None if "O_APPEND" in flags else 0
        path = self._named(name, folder)
        if path is None:
            return
        if "O_CREAT" in flags:
            yield Operation(Kind.CREATE, path)
        if "O_TRUNC" in flags:
            yield Operation(Kind.RESIZE, path)

    def closed(self, _call: _Call) -> Iterator[Operation]:
        # Its number may be another file's by now: a thread can open that before this call is seen to end.
        return iter(())

    def sought(self, call: _Call) -> Iterator[Operation]:
        if self._offsets.get(_number(call)) is not None:
            self._offsets[_number(call)] = call.result
        return iter(())

    def wrote(self, call: _Call) -> Iterator[Operation]:
        path = self._open(call.arguments[0])
        if path is not None and call.result:
            offset = self._offsets[_number(call)]
            if offset is not None:
                self._offsets[_number(call)] = offset + call.result
            yield Operation(Kind.WRITE, path, offset=offset, data=call.data)

    def wrote_at(self, call: _Call) -> Iterator[Operation]:
        path = self._open(call.arguments[0])
        if path is not None and call.result:
            yield Operation(Kind.WRITE, path, offset=int(call.arguments[3]), data=call.data)

    def resized(self, call: _Call) -> Iterator[Operation]:
        path = self._open(call.arguments[0])
        if path is not None:
            yield Operation(Kind.RESIZE, path, size=int(call.arguments[1]))

    def synced(self, call: _Call) -> Iterator[Operation]:
        path = self._open(call.arguments[0])
        if path is not None:
            yield Operation(Kind.SYNC, path)

    def renamed(self, call: _Call) -> Iterator[Operation]:
        first, second = ("", call.arguments[0]), ("", call.arguments[1])
        if call.name != "rename":
            first, second = (call.arguments[0], call.arguments[1]), (call.arguments[2], call.arguments[3])
        path, new_path = self._named(first[1], first[0]), self._named(second[1], second[0])
        if path is not None and new_path is not None:
            yield Operation(Kind.RENAME, path, new_path)
        elif path is not None or new_path is not None:
            raise UnrecordableCallError(f"a rename into or out of the tree: {call.text}")

    def made_folder(self, call: _Call) -> Iterator[Operation]:
        return self._one_name(call, Kind.MKDIR)

    def removed(self, call: _Call) -> Iterator[Operation]:
        return self._one_name(call, Kind.RMDIR if "AT_REMOVEDIR" in call.text else Kind.UNLINK)

    def removed_folder(self, call: _Call) -> Iterator[Operation]:
        return self._one_name(call, Kind.RMDIR)

    def _one_name(self, call: _Call, kind: Kind) -> Iterator[Operation]:
        at = call.name.endswith("at")
        path = self._named(call.arguments[at], call.arguments[0] if at else "")
        if path is not None:
            yield Operation(kind, path)

    def sent(self, call: _Call) -> Iterator[Operation]:
        yield Operation(Kind.SEND, data=call.data)

    def mapped(self, call: _Call) -> Iterator[Operation]:
        if "PROT_WRITE" not in call.text or "MAP_SHARED" not in call.text:
            return
        path = self._open(call.arguments[4]) if len(call.arguments) > 4 else None
        if path is None or not path.endswith(WAL_INDEX):
            self.unknown(call)
            return
        yield Operation(
            Kind.WRITE, path, offset=int(call.arguments[5], 0), data=b"?" * int(call.arguments[1])
        )

    def unknown(self, call: _Call) -> Iterator[Operation]:
        paths = [found["path"] for found in _DESCRIPTOR.finditer(call.text)] + _STRING.findall(call.text)
        if any(self._within(_unescaped(path).decode("latin-1")) is not None for path in paths):
            raise UnrecordableCallError(f"{call.name} in the tree: {call.text[:200]}")
        return iter(())


_HANDLERS: dict[str, Callable[[_Reader, _Call], Iterator[Operation]]] = {
    "openat": _Reader.opened,
    "close": _Reader.closed,
    "lseek": _Reader.sought,
    "write": _Reader.wrote,
    "pwrite64": _Reader.wrote_at,
    "ftruncate": _Reader.resized,
    "fsync": _Reader.synced,
    "fdatasync": _Reader.synced,
    "rename": _Reader.renamed,
    "renameat": _Reader.renamed,
    "renameat2": _Reader.renamed,
    "mkdir": _Reader.made_folder,
    "mkdirat": _Reader.made_folder,
    "unlink": _Reader.removed,
    "unlinkat": _Reader.removed,
    "rmdir": _Reader.removed_folder,
    "sendto": _Reader.sent,
    "mmap": _Reader.mapped,
}
_HANDLERS |= dict.fromkeys(
    ["open", "openat2", "creat", "writev", "pwritev", "pwritev2", "truncate", "fallocate", "copy_file_range"],
    _Reader.unknown,
)
_HANDLERS |= dict.fromkeys(["sendfile", "splice", "link", "linkat", "symlink", "symlinkat"], _Reader.unknown)


def _number(call: _Call) -> str:
    return call.arguments[0].partition("<")[0]


def _unescaped(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
