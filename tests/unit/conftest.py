"""A journal and folders; and what keeps the unit tests what they are: none may start a process or connect."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from invox_watcher.journal import Journal
from tests.kit.captured_log import own_log
from tests.kit.parts import folders, journal

__all__ = ["attempts", "folders", "journal", "open_journal", "own_log"]

HERE = Path(__file__).parent
# See https://docs.python.org/3/library/audit_events.html
FORBIDDEN = frozenset(
    {
        *("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"),
        *("socket.bind", "socket.connect"),
    }
)
_attempts: list[str] = []
_unit_test_under_way = False


def _refuse(event: str, _arguments: tuple[object, ...]) -> None:
    """The audit hook, which can be switched off but never removed."""
    if _unit_test_under_way and event in FORBIDDEN:
        _attempts.append(event)
        raise AssertionError(f"{event} in a unit test: move it to tests/acceptance")


sys.addaudithook(_refuse)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Around a test with all its fixtures, those of the session included. Called for every folder's tests."""
    global _unit_test_under_way  # noqa: PLW0603
    _unit_test_under_way = item.path.is_relative_to(HERE)
    try:
        return (yield)
    finally:
        _unit_test_under_way = False


@pytest.fixture(autouse=True)
def attempts() -> Iterator[list[str]]:
    """What the test tried: anything left in it fails the test, even if the code caught the error."""
    _attempts.clear()
    yield _attempts
    assert not _attempts, f"{', '.join(_attempts)} in a unit test: move it to tests/acceptance"


@pytest.fixture
def open_journal(tmp_path: Path) -> Callable[..., Journal]:
    """Opens the same journal each time; the caller closes it."""
    return partial(Journal, tmp_path)
