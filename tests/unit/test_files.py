"""What moves between the folders: nothing is overwritten, half-written, lost, or reached through a link."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import FolderBlockedError, FolderError, RecordingVanishedError, StorageError
from invox_watcher.files import (
    Deletion,
    Folders,
    NameTakenError,
    delete_unchanged,
    durable,
    prepare_folders,
)
from invox_watcher.recording import FileIdentity

JOB = "20261123t000000-000000000000"
PAYLOAD = ".invox-watcher-prepared.flac"
EMPTY_OBJECT = hashlib.sha256(b"{}").hexdigest()


def folders_below(root: Path, **changes: Path | int) -> Folders:
    names = ("inbox", "processing", "outbox", "done", "failed")
    return Folders(**({name: root / name for name in names} | changes))  # type: ignore[arg-type]


def put(folders: Folders, path: str, content: bytes = b"sound") -> FileIdentity:
    """A recording in the inbox, as the intake sees it."""
    target = folders.inbox / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return FileIdentity.of(target.stat())


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# ---- prepare -----------------------------------------------------------------------------------------------


def test_prepare_makes_private_empty_folders(folders: Folders, tmp_path: Path) -> None:
    prepare_folders(folders)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "done", "failed", "inbox", "outbox", "processing",
    ]  # fmt: skip
    assert tree(tmp_path) == []


@pytest.mark.parametrize("name", ["outbox", "done", "failed", "processing"])
def test_no_folder_may_lie_inside_the_inbox(tmp_path: Path, name: str) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "inbox")
    for inside in (tmp_path / "inbox" / name, tmp_path / "link" / name):
        with pytest.raises(FolderError, match=rf"folders\.{name}: .* inside"):
            prepare_folders(folders_below(tmp_path, **{name: inside}))


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "done").write_text("")
    with pytest.raises(FolderError, match=r"folders\.done: .*/done is not a folder") as caught:
        prepare_folders(folders_below(tmp_path))
    assert "Move that file elsewhere" in caught.value.hint


# ---- claim -------------------------------------------------------------------------------------------------


def test_a_claim_moves_the_recording_with_its_subfolder(folders: Folders) -> None:
    seen = put(folders, "ward 3/smith.wav")
    assert folders.claim(JOB, "ward 3/smith.wav", seen)
    assert tree(folders.inbox) == []
    assert tree(folders.processing) == [f"{JOB}/ward 3/smith.wav"]
    assert folders.processing_ids() == [JOB]
    with folders.open_recording(JOB, "ward 3/smith.wav") as file:
        assert file.read() == b"sound"


def test_a_claim_of_a_missing_recording_leaves_no_folder(folders: Folders) -> None:
    seen = put(folders, "smith.wav")
    (folders.inbox / "smith.wav").unlink()
    assert not folders.claim(JOB, "smith.wav", seen)
    assert folders.processing_ids() == []


def test_a_recording_that_changed_since_it_was_seen_goes_back(folders: Folders) -> None:
    seen = put(folders, "smith.wav")
    (folders.inbox / "smith.wav").write_bytes(b"sound and more")
    assert not folders.claim(JOB, "smith.wav", seen)
    assert (folders.inbox / "smith.wav").read_bytes() == b"sound and more"
    assert folders.processing_ids() == []


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EEXIST, errno.EIO], ids=errno.errorcode.get)
def test_a_rename_may_have_happened_although_it_failed(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As on NFS, if the server's answer is lost: the request is sent again, and finds nothing."""
    rename = durable.rename_new

    def answer_lost(*arguments: Any) -> None:
        rename(*arguments)
        raise OSError(code, os.strerror(code))

    seen = put(folders, "ward3/smith.wav")
    monkeypatch.setattr(durable, "rename_new", answer_lost)
    assert folders.claim(JOB, "ward3/smith.wav", seen)
    assert tree(folders.processing) == [f"{JOB}/ward3/smith.wav"]


def test_a_returned_recording_never_overwrites(folders: Folders) -> None:
    seen = put(folders, "ward/smith.wav", b"first")
    assert folders.claim(JOB, "ward/smith.wav", seen)
    put(folders, "ward/smith.wav", b"second")
    assert folders.unclaim(JOB) == ["ward/smith-2.wav"]
    assert (folders.inbox / "ward/smith.wav").read_bytes() == b"second"
    assert (folders.inbox / "ward/smith-2.wav").read_bytes() == b"first"
    assert folders.processing_ids() == []


def test_unclaiming_a_missing_recording_is_harmless(folders: Folders) -> None:
    assert folders.unclaim(JOB) == []


# ---- links and paths that lead elsewhere -------------------------------------------------------------------


def test_a_folder_swapped_for_a_link_leads_nowhere(folders: Folders, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "smith.wav").write_bytes(b"sound")
    (folders.inbox / "ward").symlink_to(secret)
    with pytest.raises(StorageError):
        folders.claim(JOB, "ward/smith.wav", FileIdentity.of((secret / "smith.wav").stat()))
    (folders.outbox / "ward").symlink_to(secret)
    with pytest.raises(StorageError):
        folders.publish(JOB, folders.outbox, "ward/smith.json", b"{}")
    assert tree(secret) == ["smith.wav"]


def test_a_claimed_link_is_not_read(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("words")
    (folders.processing / JOB).mkdir()
    (folders.processing / JOB / "smith.wav").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError), folders.open_recording(JOB, "smith.wav"):
        raise AssertionError("it was opened")


@pytest.mark.parametrize("path", ["../x.wav", "a/../../x.wav", "/etc/passwd", "a//b", "", ".", "a\0b"])
def test_a_path_that_would_leave_its_folder_is_not_followed(folders: Folders, path: str) -> None:
    with pytest.raises(StorageError, match="leads outside its folder"):
        folders.publish(JOB, folders.outbox, path, b"{}")


# ---- publish -----------------------------------------------------------------------------------------------


def test_a_published_file_is_whole_private_and_alone(folders: Folders) -> None:
    folders.publish(JOB, folders.outbox, "ward/smith.json", b"words")
    assert tree(folders.outbox) == ["ward/smith.json"]
    assert (folders.outbox / "ward/smith.json").read_bytes() == b"words"
    assert stat.S_IMODE((folders.outbox / "ward/smith.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((folders.outbox / "ward").stat().st_mode) == 0o700


def test_a_mode_for_groups_overrides_the_umask(tmp_path: Path) -> None:
    folders = folders_below(tmp_path, directory_mode=0o2770)
    prepare_folders(folders)
    before = os.umask(0o077)
    try:
        folders.publish(JOB, folders.outbox, "ward/smith.json", b"words")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folders.outbox / "ward/smith.json").stat().st_mode) == 0o660
    assert stat.S_IMODE((folders.outbox / "ward").stat().st_mode) == 0o2770


def test_publishing_again_after_a_kill_is_harmless(folders: Folders) -> None:
    folders.publish(JOB, folders.outbox, "smith.json", b"words")
    inode = (folders.outbox / "smith.json").stat().st_ino
    (folders.outbox / f".{JOB}.json.tmp").write_bytes(b"wor")  # what the killed attempt left
    folders.publish(JOB, folders.outbox, "smith.json", b"words")
    assert (folders.outbox / "smith.json").stat().st_ino == inode
    assert tree(folders.outbox) == ["smith.json"]


def test_a_link_under_the_temporary_name_is_not_written_through(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (folders.outbox / f".{JOB}.json.tmp").symlink_to(tmp_path / "theirs")
    with pytest.raises(StorageError):
        folders.publish(JOB, folders.outbox, "smith.json", b"words")
    folders.publish(JOB, folders.outbox, "smith.json", b"words")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert tree(folders.outbox) == ["smith.json"]


@pytest.mark.parametrize("other", [b"other", b"word!", b""])
def test_a_name_with_other_content_is_never_overwritten(folders: Folders, other: bytes) -> None:
    (folders.outbox / "smith.json").write_bytes(other)
    with pytest.raises(NameTakenError):
        folders.publish(JOB, folders.outbox, "smith.json", b"words")
    assert (folders.outbox / "smith.json").read_bytes() == other
    assert tree(folders.outbox) == ["smith.json"]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_name_that_is_no_file_is_taken_as_well(folders: Folders, kind: str) -> None:
    target = folders.outbox / "smith.json"
    {"link": lambda: target.symlink_to("words"), "fifo": lambda: os.mkfifo(target), "folder": target.mkdir}[
        kind
    ]()
    (folders.outbox / "words").write_bytes(b"words")
    with pytest.raises(NameTakenError):
        folders.publish(JOB, folders.outbox, "smith.json", b"words")


def test_only_our_own_files_are_retracted(folders: Folders) -> None:
    folders.publish(JOB, folders.outbox, "smith.json", b"words")
    folders.retract(folders.outbox, "smith.json", b"other words")
    assert tree(folders.outbox) == ["smith.json"]
    folders.retract(folders.outbox, "smith.json", b"words")
    assert tree(folders.outbox) == []


def test_a_set_is_free_only_if_every_name_of_it_is(folders: Folders) -> None:
    assert folders.outputs_free("ward/smith.wav", ["json", "srt"])
    folders.publish(JOB, folders.outbox, "ward/smith.srt", b"words")
    assert not folders.outputs_free("ward/smith.wav", ["json", "srt"])
    assert folders.outputs_free("ward/smith.wav", ["json"])
    (folders.done / "ward").mkdir()
    (folders.done / "ward/smith.wav").symlink_to("nowhere")
    assert not folders.outputs_free("ward/smith.wav", ["json"])


@pytest.mark.parametrize("taken", ["smith.wav", "smith.wav.error.json"])
def test_a_failure_takes_no_name_of_another(folders: Folders, taken: str) -> None:
    assert folders.failure_free("smith.wav")
    (folders.failed / taken).write_text("")
    assert not folders.failure_free("smith.wav")


# ---- file away ---------------------------------------------------------------------------------------------


def test_a_payload_appears_whole_beside_the_recording(folders: Folders) -> None:
    assert folders.claim(JOB, "ward/smith.dss", put(folders, "ward/smith.dss"))
    job = folders.processing / JOB
    with folders.new_payload(JOB, PAYLOAD) as file:
        file.write(b"fL")
        assert tree(job) == [f"{PAYLOAD}.part", "ward/smith.dss"]
        file.write(b"aC")
    assert (job / PAYLOAD).read_bytes() == b"fLaC"
    assert stat.S_IMODE((job / PAYLOAD).stat().st_mode) == 0o600
    with pytest.raises(StorageError, match="half"), folders.new_payload(JOB, PAYLOAD) as file:
        raise OSError(file.write(b"half"), "half")
    assert (job / PAYLOAD).read_bytes() == b"fLaC"  # that of an earlier attempt
    assert tree(job) == [PAYLOAD, "ward/smith.dss"]


def test_a_payload_goes_with_its_recording_and_never_to_the_inbox(folders: Folders) -> None:
    for way_out in ("filed", "returned", "discarded", "removed"):
        identity = put(folders, "smith.dss")
        assert folders.claim(JOB, "smith.dss", identity)
        with folders.new_payload(JOB, PAYLOAD) as file:
            file.write(b"fLaC")
        (folders.processing / JOB / f"{PAYLOAD}.part").write_bytes(b"of a killed attempt")
        match way_out:
            case "filed":
                folders.file_away(JOB, "smith.dss", folders.done, "smith.dss", identity)
                assert tree(folders.done) == ["smith.dss"]
            case "returned":
                assert folders.unclaim(JOB) == ["smith.dss"]
                assert tree(folders.inbox) == ["smith.dss"]
            case "discarded":
                folders.discard(JOB, "smith.dss")
            case "removed":
                folders.remove_payload(JOB)
                assert tree(folders.processing) == [f"{JOB}/smith.dss"]
                continue
        assert list(folders.processing.iterdir()) == []


def test_settling_moves_the_recording_and_clears_its_folder(folders: Folders) -> None:
    seen = put(folders, "ward/smith.wav")
    assert folders.claim(JOB, "ward/smith.wav", seen)
    assert (
        folders.file_away(JOB, "ward/smith.wav", folders.done, "ward/smith-2.wav", seen) == "ward/smith-2.wav"
    )
    assert tree(folders.done) == ["ward/smith-2.wav"]
    assert folders.processing_ids() == []
    # The attempt that was killed right after the move is taken again.
    assert (
        folders.file_away(JOB, "ward/smith.wav", folders.done, "ward/smith-2.wav", seen) == "ward/smith-2.wav"
    )


def test_a_move_makes_the_new_name_durable_before_the_old_one_goes(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = put(folders, "ward/smith.wav")
    synced = folders_synced(monkeypatch)
    assert folders.claim(JOB, "ward/smith.wav", identity)
    claimed = folders.processing / JOB / "ward"
    assert synced[-2:] == [claimed, folders.inbox / "ward"]
    folders.file_away(JOB, "ward/smith.wav", folders.done, "ward/smith.wav", identity)
    assert synced[-2:] == [folders.done / "ward", claimed]


def test_the_move_of_a_killed_attempt_is_made_durable(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = put(folders, "ward/smith.wav")
    assert folders.claim(JOB, "ward/smith.wav", identity)
    claimed = folders.processing / JOB / "ward"
    (folders.done / "ward").mkdir()
    os.rename(claimed / "smith.wav", folders.done / "ward" / "smith.wav")  # as far as it came
    synced = folders_synced(monkeypatch)
    folders.file_away(JOB, "ward/smith.wav", folders.done, "ward/smith.wav", identity)
    assert synced[-2:] == [folders.done / "ward", claimed]


def folders_synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What os.fsync is called with from now on."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(os.readlink(f"/proc/self/fd/{fd}"))))
    return synced


def test_settling_never_overwrites(folders: Folders) -> None:
    seen = put(folders, "smith.wav", b"ours")
    assert folders.claim(JOB, "smith.wav", seen)
    (folders.done / "smith.wav").write_bytes(b"theirs")
    assert folders.file_away(JOB, "smith.wav", folders.done, "smith.wav", seen) == "smith-2.wav"
    assert (folders.done / "smith.wav").read_bytes() == b"theirs"
    assert (folders.done / "smith-2.wav").read_bytes() == b"ours"


def test_settling_a_missing_recording_is_an_error(folders: Folders) -> None:
    seen = put(folders, "smith.wav")
    assert folders.claim(JOB, "smith.wav", seen)
    (folders.done / "smith.wav").write_bytes(b"theirs")
    (folders.processing / JOB / "smith.wav").unlink()
    with pytest.raises(RecordingVanishedError):
        folders.file_away(JOB, "smith.wav", folders.done, "smith.wav", seen)
    assert folders.processing_ids() == []


def test_moving_back_takes_the_error_file_away(folders: Folders) -> None:
    (folders.failed / "smith.wav").write_bytes(b"sound")
    (folders.failed / "smith.wav.error.json").write_text("{}")
    put(folders, "smith.wav", b"a newer one")
    assert folders.move_back(JOB, "smith.wav", EMPTY_OBJECT) == "smith-2.wav"
    assert tree(folders.failed) == []
    assert (folders.inbox / "smith-2.wav").read_bytes() == b"sound"
    (folders.failed / "smith.wav.error.json").write_text("another's")
    with pytest.raises(RecordingVanishedError, match="failed/"):
        folders.move_back(JOB, "smith.wav", hashlib.sha256(b"another's").hexdigest())
    assert tree(folders.failed) == ["smith.wav.error.json"]


def test_moving_back_leaves_other_files_named_like_ours(folders: Folders) -> None:
    (folders.failed / "smith.wav").write_bytes(b"sound")
    (folders.failed / "smith.wav.error.json").write_text("a note of somebody's")
    assert folders.move_back(JOB, "smith.wav", EMPTY_OBJECT) == "smith.wav"
    assert tree(folders.failed) == ["smith.wav.error.json"]


def test_a_failure_that_can_not_be_moved_back_keeps_its_reason(folders: Folders) -> None:
    (folders.failed / "ward").mkdir()
    (folders.failed / "ward" / "smith.wav").write_bytes(b"sound")
    (folders.failed / "ward" / "smith.wav.error.json").write_text("{}")
    (folders.inbox / "ward").write_text("a file where a folder is needed")
    with pytest.raises(FolderBlockedError):
        folders.move_back(JOB, "ward/smith.wav", EMPTY_OBJECT)
    assert tree(folders.failed) == ["ward/smith.wav", "ward/smith.wav.error.json"]
    assert (folders.failed / "ward" / "smith.wav.error.json").read_text() == "{}"


# ---- deleting ----------------------------------------------------------------------------------------------


def test_a_file_replaced_during_its_deletion_stays(folders: Folders, tmp_path: Path) -> None:
    (folders.outbox / "smith.srt").write_text("{}")

    def replace() -> None:
        (tmp_path / "edited").write_text("{ }")
        os.rename(tmp_path / "edited", folders.outbox / "smith.srt")

    assert delete_unchanged(folders.outbox, "smith.srt", EMPTY_OBJECT, replace) is Deletion.CHANGED
    assert (folders.outbox / "smith.srt").read_text() == "{ }"


@pytest.mark.parametrize("name", ["inbox", "processing", "outbox", "done", "failed"])
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, name: str) -> None:
    folders = folders_below(tmp_path)
    prepare_folders(folders)
    (tmp_path / "elsewhere").mkdir()
    os.rename(tmp_path / name, tmp_path / "elsewhere" / name)
    (tmp_path / name).symlink_to(tmp_path / "elsewhere" / name)
    with pytest.raises(FolderError, match=f"folders.{name}: .* is a symbolic link") as refused:
        prepare_folders(folders)
    assert str(tmp_path / "elsewhere" / name) in refused.value.hint
