"""Which trees a power cut may leave on the disk, by what POSIX promises: only what was synced is there.

fsync of a file vouches for its bytes, fsync of a folder for the names in it, not for the folder's own name.
What was not synced may have reached the disk all the same, in any order: each folder for itself, the size
without the bytes, a page in part. Two things no file system does that is meant to survive a power cut: it
forgets no file on its way from one folder to another (unless the program itself syncs the old folder first),
and it removes no folder that has something in it. Compare Pillai et al., "All File Systems Are Not Created
Equal", OSDI 2014.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.faults.recorder import Kind, Operation

_SECTOR_BYTES = 512


class Fate(Enum):
    """What became of one change that nobody synced."""

    KEPT = "kept"
    LOST = "lost"
    HOLLOW = "hollow"  # of written bytes, only the size is there, and zeros
    STALE = "stale"  # the size, and what was on that part of the disk before
    TORN = "torn"  # some of its sectors


Choice = Callable[["Change"], Fate]


@dataclass(eq=False)
class Node:
    """A file or a folder, as it was on the disk before anything was recorded."""

    names: dict[str, Node] | None = None  # None: a file
    content: bytes = b""
    inode: int = 0
    mtime_ns: int = 0


@dataclass(eq=False)
class Change:
    """One change of one node, made by operation `at`; by `durable_at` a sync had vouched for it."""

    at: int
    node: Node
    durable_at: float = float("inf")
    # of a file
    offset: int = 0
    data: bytes = b""
    size: int | None = None
    # of a folder
    names: Mapping[str, Node | None] = field(default_factory=dict)
    brought_by: Change | None = None  # the other half of a rename: the new name
    emptied: Node | None = None  # the folder that was removed

    @property
    def is_of_names(self) -> bool:
        """Whether it changes a folder, not a file's bytes."""
        return bool(self.names)


@dataclass(frozen=True)
class State:
    """One tree that a power cut after `point` operations may leave; `how` says what survived of the rest."""

    point: int
    how: str
    folders: frozenset[str]
    files: Mapping[str, tuple[Node, bytes]]

    @property
    def digest(self) -> bytes:
        """Equal for equal trees."""
        digest = hashlib.sha256()
        for path in sorted(self.folders):
            digest.update(path.encode() + b"/\0")
        for path, (node, content) in sorted(self.files.items()):
            digest.update(f"{path}\0{id(node)}\0{len(content)}\0".encode() + content)
        return digest.digest()

    def write(self, root: Path) -> dict[int, os.stat_result]:
        """Write the tree to `root`; return what each earlier file, by its inode then, is now."""
        for path in ("", *sorted(self.folders)):
            (root / path).mkdir(mode=0o700)
        written: dict[Node, Path] = {}
        for path, (node, content) in sorted(self.files.items()):
            if node in written:
                os.link(written[node], root / path)
                continue
            written[node] = root / path
            (root / path).write_bytes(content)
            if node.mtime_ns:
                os.utime(root / path, ns=(node.mtime_ns, node.mtime_ns))
        return {node.inode: path.stat() for node, path in written.items() if node.inode}


class Disk:
    """Everything that was done to one tree, and from it every tree that a power cut may leave."""

    def __init__(self, tree: Path) -> None:
        """`tree` as it is now is on the disk."""
        self._root = _node(tree)
        self._now: dict[Node, dict[str, Node]] = {}
        self._sizes: dict[Node, int] = {}
        self._changes: list[Change] = []
        self.operations: list[Operation] = []

    def add(self, operations: Iterable[Operation]) -> None:
        """Note what was done then."""
        base = len(self.operations)
        for operation in operations:
            self.operations.append(operation)
            self._note(operation, len(self.operations), base + operation.after)

    # ---- what was done -----------------------------------------------------------------------------------

    def _note(self, done: Operation, at: int, after: int) -> None:
        if done.kind is Kind.SEND:
            return
        if done.kind is Kind.SYNC:
            self._sync(self._find(done.path), at, after)
            return
        if done.kind in (Kind.WRITE, Kind.RESIZE):
            self._changes.append(self._of_bytes(done, at, self._find(done.path)))
            return
        folder, name = self._parent(done.path)
        here = self._names(folder)
        if done.kind is Kind.RENAME:
            self._rename(at, folder, name, *self._parent(done.new_path))
        elif done.kind in (Kind.UNLINK, Kind.RMDIR):
            node = here.pop(name)
            emptied = node if done.kind is Kind.RMDIR else None
            self._changes.append(Change(at, folder, names={name: None}, emptied=emptied))
        elif name not in here:
            here[name] = Node(names={} if done.kind is Kind.MKDIR else None)
            self._changes.append(Change(at, folder, names={name: here[name]}))

    def _of_bytes(self, done: Operation, at: int, node: Node) -> Change:
        size = self._sizes.get(node, len(node.content))
        if done.kind is Kind.RESIZE:
            self._sizes[node] = done.size
            return Change(at, node, size=done.size)
        offset = size if done.offset is None else done.offset
        self._sizes[node] = max(size, offset + len(done.data))
        return Change(at, node, offset=offset, data=done.data)

    def _rename(self, at: int, folder: Node, name: str, new_folder: Node, new_name: str) -> None:
        node = self._names(folder).pop(name)
        self._names(new_folder)[new_name] = node
        if new_folder is folder:
            self._changes.append(Change(at, folder, names={name: None, new_name: node}))
            return
        brought = Change(at, new_folder, names={new_name: node})
        self._changes += [brought, Change(at, folder, names={name: None}, brought_by=brought)]

    def _sync(self, node: Node, at: int, after: int) -> None:
        for change in self._changes:
            if change.node is node and change.at <= after:
                change.durable_at = min(change.durable_at, at)

    def _names(self, folder: Node) -> dict[str, Node]:
        """The names in `folder` as the daemon sees them now."""
        return self._now.setdefault(folder, dict(folder.names or {}))

    def _find(self, path: str) -> Node:
        node = self._root
        for name in () if path == "." else path.split("/"):
            node = self._names(node)[name]
        return node

    def _parent(self, path: str) -> tuple[Node, str]:
        folder, _slash, name = path.rpartition("/")
        return self._find(folder or "."), name

    def live(self) -> dict[str, bytes]:
        """Every file as the daemon sees it now."""
        point = len(self.operations)
        state = self._state(point, "", lambda _change: Fate.KEPT, torn_renames=False)
        return {path: content for path, (_node, content) in state.files.items()}

    # ---- what a power cut leaves of it -------------------------------------------------------------------

    def points(self) -> list[int]:
        """After how many operations to cut the power: after each.

        But not inside of a run of writes to one file: what may be left there may be left at its end, too.
        """
        kinds = [(operation.kind, operation.path) for operation in self.operations]
        return [
            at
            for at in range(len(kinds) + 1)
            if at in (0, len(kinds)) or kinds[at - 1] != kinds[at] or kinds[at][0] is not Kind.WRITE
        ]

    def states(self, point: int, chance: random.Random, *, draws: int, torn_renames: bool) -> Iterator[State]:
        """Trees that may be there after `point` operations: the telling ones, and some drawn by lot.

        `torn_renames`: folders are written one by one, so that a rename may leave both names. Without, as on
        every journaling file system, a rename happened or not.
        """
        for how, choice in self._choices(point, chance, draws):
            yield self._state(point, how, choice, torn_renames=torn_renames)

    def _choices(self, point: int, chance: random.Random, draws: int) -> Iterator[tuple[str, Choice]]:
        def names_but(bytes_are: Fate) -> Choice:
            return lambda change: Fate.KEPT if change.is_of_names else bytes_are

        yield "only what was synced", lambda _change: Fate.LOST
        yield "everything", lambda _change: Fate.KEPT
        yield "names without sizes", names_but(Fate.LOST)
        yield "names and sizes without bytes", names_but(Fate.HOLLOW)
        yield "names and sizes with other bytes", names_but(Fate.STALE)
        yield "bytes without names", lambda change: Fate.LOST if change.is_of_names else Fate.KEPT
        open_ones = [change for change in self._changes if change.at <= point < change.durable_at]
        for number in range(draws):
            fates = {change: chance.choice(list(Fate)) for change in open_ones}
            if number % 2:
                yield "drawn by lot", fates.__getitem__
            else:
                yield "drawn by lot, the names in order", _in_order(fates, chance)

    def _state(self, point: int, how: str, choice: Choice, *, torn_renames: bool) -> State:
        fates = {
            change: Fate.KEPT if change.durable_at <= point else choice(change)
            for change in self._changes
            if change.at <= point
        }
        self._settle_renames(fates, point, torn_renames=torn_renames)
        names: dict[Node, dict[str, Node]] = {}
        for change, fate in fates.items():
            if not change.is_of_names or fate is Fate.LOST:
                continue
            here = names.setdefault(change.node, dict(change.node.names or {}))
            if change.emptied is not None and change.durable_at > point:
                inside = names.get(change.emptied, change.emptied.names)
                if inside:
                    continue
            for name, node in change.names.items():
                if node is None:
                    here.pop(name, None)
                else:
                    here[name] = node
        found = list(_walk("", self._root, names))
        folders = frozenset(path for path, node in found if node.names is not None)
        files = {path: (node, _content(node, fates)) for path, node in found if node.names is None}
        return State(point, how, folders, files)

    def _settle_renames(self, fates: dict[Change, Fate], point: int, *, torn_renames: bool) -> None:
        for change in fates:
            brought = change.brought_by
            if brought is None:
                continue
            if not torn_renames:
                synced = min(change.durable_at, brought.durable_at) <= point
                fates[brought] = fates[change] = Fate.KEPT if synced else fates[brought]
            elif fates[brought] is Fate.LOST and change.durable_at > point:
                fates[change] = Fate.LOST


def _walk(path: str, folder: Node, names: Mapping[Node, Mapping[str, Node]]) -> Iterator[tuple[str, Node]]:
    for name, node in names.get(folder, folder.names or {}).items():
        inner = os.path.join(path, name)
        yield inner, node
        if node.names is not None:
            yield from _walk(inner, node, names)


def _node(path: Path) -> Node:
    status = path.stat()
    if path.is_dir():
        return Node(names={inner.name: _node(inner) for inner in path.iterdir()})
    return Node(content=path.read_bytes(), inode=status.st_ino, mtime_ns=status.st_mtime_ns)


def _in_order(fates: dict[Change, Fate], chance: random.Random) -> Choice:
    """The same, but of each folder's changes the first so many are there."""
    of_names = [change for change in fates if change.is_of_names]
    counts = Counter(change.node for change in of_names)
    left = {node: chance.randint(0, count) for node, count in counts.items()}
    chosen = dict(fates)
    for change in of_names:
        chosen[change] = Fate.KEPT if left[change.node] > 0 else Fate.LOST
        left[change.node] -= 1
    return chosen.__getitem__


def _content(node: Node, fates: Mapping[Change, Fate]) -> bytes:
    content = bytearray(node.content)
    for change, fate in fates.items():
        if change.node is not node or fate is Fate.LOST:
            continue
        if change.size is not None:
            content[change.size :] = bytes(max(change.size - len(content), 0))
            continue
        end = change.offset + len(change.data)
        if fate is Fate.KEPT:
            content += bytes(max(end - len(content), 0))
            content[change.offset : end] = change.data
            continue
        filler = b"\xa5" if fate is Fate.STALE else b"\0"
        content += filler * max(end - len(content), 0)
        if fate is Fate.TORN:
            _tear(content, change)
    return bytes(content)


def _tear(content: bytearray, change: Change) -> None:
    chance = random.Random(change.at)
    place = change.offset
    while place < change.offset + len(change.data):
        end = min((place // _SECTOR_BYTES + 1) * _SECTOR_BYTES, change.offset + len(change.data))
        if chance.random() < 0.5:
            content[place:end] = change.data[place - change.offset : end - change.offset]
        place = end
