"""The page's Unix socket: where it can be, whom it lets in, and that it takes nobody's place."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from invox_watcher.errors import FolderError
from invox_watcher.page.sockets import listen_on_socket, remove_socket

LONGEST = 107  # what the configuration allows; see unix(7)


def test_the_longest_path_can_be_listened_on(tmp_path: Path) -> None:
    path = tmp_path / ("s" * (LONGEST - len(f"{tmp_path}/")))
    for _ in range(2):  # the second replaces what the first has left behind
        with listen_on_socket(path), socket.socket(socket.AF_UNIX) as browser:
            browser.connect(str(path))
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
    remove_socket(path)
    assert list(tmp_path.iterdir()) == []


def test_a_busy_process_keeps_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "page.sock"
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as waiting:
        busy.bind(str(path))
        busy.listen(0)  # one may wait: another one is not even queued
        waiting.connect(str(path))
        with pytest.raises(FolderError, match="another process listens there"):
            listen_on_socket(path)
        remove_socket(path)
        assert path.is_socket()
