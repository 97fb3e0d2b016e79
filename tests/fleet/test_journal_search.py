"""What the page finds on SQLite it finds on PostgreSQL."""

from tests.unit.test_journal_search import *  # noqa: F403
