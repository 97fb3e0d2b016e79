"""A PostgreSQL server for all tests here, and a journal on it for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from invox_watcher.journal import Journal, Server
from tests.kit.captured_log import own_log
from tests.kit.parts import folders, journal
from tests.kit.postgres import Cluster

__all__ = ["cluster", "folders", "journal", "open_journal", "own", "own_log", "server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them need the server."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.needs("initdb"))


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.close()


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A server that the test may stop."""
    made = Cluster()
    yield made
    made.close()


@pytest.fixture
def server(cluster: Cluster) -> Server:
    """An empty database."""
    return Server(cluster.create("journal"))


@pytest.fixture
def open_journal(tmp_path: Path, server: Server) -> Callable[..., Journal]:
    """Opens the same journal each time; the caller closes it."""
    return partial(Journal, tmp_path, server=server)
