"""Files and folders of the inbox: which names are ignored, and that none is opened through a link."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from invox_watcher.inbox import tree
from invox_watcher.inbox.tree import Filter, NotAFileError, open_file, open_folder, program_of
from tests.kit.litter import LITTER, RECORDINGS


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("smith.wav", None),
        ("ward3/smith.wav", None),
        ("ward3/.smith.wav", ".*"),
        (".hidden/smith.wav", ".*"),
        ("SMITH.WAV.PART", "*.part"),
        ("~$smith.docx", "~$*"),
        ("@eaDir/smith.wav", "@eaDir/"),
        ("@eaDir", None),
        ("ward3/old/x.wav", "ward3/old/*"),
        ("new\nline.part", "*.part"),
    ],
)
def test_the_filter_names_its_reason(path: str, reason: str | None) -> None:
    names = Filter(["ward3/old/*"])
    assert names.why_ignored(path) == reason


@pytest.mark.parametrize("path", LITTER)
def test_the_names_of_known_programs_are_ignored(path: str) -> None:
    pattern = Filter().why_ignored(path)
    assert pattern is not None
    assert LITTER[path] in (program_of(pattern) or "")


@pytest.mark.parametrize("path", RECORDINGS)
def test_what_may_be_a_recording_is_not_ignored(path: str) -> None:
    assert Filter().why_ignored(path) is None


def test_a_walk_skips_what_the_filter_ignores() -> None:
    names = Filter()
    for path in LITTER:
        steps = path.split("/")
        skipped = [
            names.why_skipped("/".join(steps[:depth]), folder=depth < len(steps))
            for depth in range(1, len(steps) + 1)
        ]
        assert any(skipped), path


def test_only_built_in_patterns_have_a_program() -> None:
    assert program_of("draft-*") is None
    assert Filter(["draft-*"]).why_ignored("draft-1.wav") == "draft-*"


def test_nothing_is_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_bytes(b"secret")
    root = tmp_path / "inbox"
    root.mkdir()
    (root / "folder").symlink_to(tmp_path / "outside")
    (root / "file").symlink_to(tmp_path / "outside" / "x")
    root_fd = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(NotADirectoryError):
            open_file(root_fd, "folder/x")
        with pytest.raises(NotADirectoryError):
            open_folder(root_fd, "folder")
        with pytest.raises(NotAFileError):
            open_file(root_fd, "file")
    finally:
        os.close(root_fd)


def test_a_file_that_turns_into_a_link_when_looked_at_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "file").touch()

    def turn(_mode: int) -> None:
        (tmp_path / "file").unlink()
        (tmp_path / "file").symlink_to("secret")

    monkeypatch.setattr(tree, "_require_file", turn)
    root_fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            open_file(root_fd, "file")
    finally:
        os.close(root_fd)
