"""What another user may do, by owner, group and mode."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from invox_watcher.host.users import User, owner_of

R, W, X = os.R_OK, os.W_OK, os.X_OK
NOT_ME, NOT_MY_GROUP = os.geteuid() + 4711, os.getegid() + 4711
STRANGER = User(NOT_ME, "stranger", frozenset({NOT_MY_GROUP}))
COLLEAGUE = User(NOT_ME, "colleague", frozenset({NOT_MY_GROUP, os.getegid()}))


@pytest.mark.parametrize(
    ("user", "mode", "wanted", "expected"),
    [
        (STRANGER, 0o604, R, True),
        (STRANGER, 0o640, R, False),
        (STRANGER, 0o602, R | W, False),
        (STRANGER, 0o606, R | W, True),
        (COLLEAGUE, 0o640, R, True),
        (COLLEAGUE, 0o640, R | W, False),
        (COLLEAGUE, 0o604, R, False),  # the group's bits count, even if others may do more
        (COLLEAGUE, 0o770, R | W | X, True),
    ],
)
def test_another_user_may_do_what_the_mode_says(
    tmp_path: Path, user: User, mode: int, wanted: int, expected: bool
) -> None:
    path = tmp_path / "x"
    path.touch()
    os.chown(path, -1, os.getegid())
    path.chmod(mode)
    assert user.may(path, wanted) is expected


@pytest.mark.parametrize(
    ("mode", "owner", "expected"),
    [
        (0o777, os.geteuid(), True),
        (0o755, os.geteuid(), False),
        (0o1777, os.geteuid(), False),  # sticky: only one's own
        (0o1777, NOT_ME, True),
    ],
)
def test_a_sticky_folder_gives_only_its_owners_files(
    tmp_path: Path, mode: int, owner: int, expected: bool
) -> None:
    tmp_path.chmod(mode)
    assert STRANGER.may_take_from(tmp_path, owner) is expected


def test_a_user_without_a_name_is_its_number() -> None:
    assert User.of(NOT_ME) == User(NOT_ME, str(NOT_ME), frozenset())


def test_the_owner_is_printed_like_ls(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "x").chmod(0o640)
    user, group, mode = owner_of(tmp_path / "x").replace(":", " ").split()
    assert (user, mode) == (User.current().name, "rw-r-----")
    assert group
