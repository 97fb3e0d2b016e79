"""The sign that `journal copy` leaves in the journal that it has copied: from then on the copy is used.

Two journals of one inbox would each know nothing of what the other has uploaded, and upload it again.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from invox_watcher.errors import WrongJournalError
from invox_watcher.journal.backend import Backend, Connection, Read, read_on
from invox_watcher.journal.file import FileBackend
from invox_watcher.journal.sqlite import FILENAME

# In a database it is there already; see `shared`.
_TABLE = (
    "CREATE TABLE IF NOT EXISTS known (name VARCHAR NOT NULL, value TEXT NOT NULL, host VARCHAR NOT NULL, "
    "at VARCHAR NOT NULL, PRIMARY KEY (name))"
)
_READ = "SELECT value FROM known WHERE name = 'moved'"
_CLEAR = "DELETE FROM known WHERE name = 'moved'"
_NOTE = "INSERT INTO known (name, value, host, at) VALUES ('moved', ?, '', CURRENT_TIMESTAMP)"


def moved_to(read: Read, backend: Backend) -> str | None:
    """Where the journal was copied to; None if it was not, and is to be used."""
    rows = read(_READ, ()) if backend.has_table(read, "known") else ()
    return rows[0][0] if rows else None


def require_not_moved(read: Read, backend: Backend) -> None:
    """Raise WrongJournalError if another journal is used instead."""
    place = moved_to(read, backend)
    if place is not None:
        raise moved(backend.name, place)


def moved(name: str, place: str) -> WrongJournalError:
    """The error if the journal called `name`, which was copied to `place`, is to be used."""
    return WrongJournalError(
        f"The journal {name} was copied to {place}, and that one is used since.",
        code="journal_moved",
        hint="Use that one: see state.url and state.directory. To return to this place, copy it back: see "
        "docs/database.md, 'Moving a journal there, and back'.",
    )


def note_moved(connection: Connection, place: str) -> None:
    """Leave the sign, in the transaction of the caller."""
    connection.execute(_TABLE)
    connection.execute(_CLEAR)
    connection.execute(_NOTE, (place,))


def clear(connection: Connection, backend: Backend) -> None:
    """Remove the sign if there is one, in the transaction of the caller: this is the journal again."""
    if backend.has_table(read_on(connection), "known"):
        connection.execute(_CLEAR)


def require_copied(directory: Path, database: str) -> None:
    """Refuse to leave a journal with recordings in the state directory, and use `database` instead.

    `database` is what the copy's sign calls it.

    Raises:
        WrongJournalError: the one there was not copied to it.
        JournalError: it can't be read.
    """
    file = directory / FILENAME
    if not file.exists():
        return
    backend = FileBackend(file, create=False)
    try:
        with closing(backend.open_reader()) as reader:
            read = read_on(reader)
            is_used = backend.version_of(read) > 0 and read("SELECT 1 FROM jobs LIMIT 1", ())
            place = moved_to(read, backend)
            if not is_used or place == database:
                return
    except sqlite3.Error as error:
        raise backend.unusable(error) from None
    if place is None:
        hint = (
            "Copy it first: invox-watcher journal copy --from state.directory --to state.url. If it is "
            "another inbox's, or not needed any more, move it away."
        )
    else:
        hint = (
            f"It was copied to {place}: correct state.url. If that is the same database by another address, "
            "or its journal was copied on from there, move the file away."
        )
    raise WrongJournalError(
        f"{file} has recordings, and was never copied to {database}: what was uploaded would be uploaded "
        "again.",
        code="journal_not_copied",
        hint=hint,
    )
