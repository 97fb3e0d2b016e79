"""What the journal does on SQLite it does on PostgreSQL: the same tests, with a server below."""

from tests.unit.test_journal import *  # noqa: F403
