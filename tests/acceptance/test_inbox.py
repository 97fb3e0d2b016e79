"""Which files of an inbox are offered, and when, as a user sees it: real files, real writing processes."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from invox_watcher import events
from invox_watcher.errors import StorageError
from invox_watcher.inbox.stability import Evidence
from invox_watcher.priority import Priority
from tests.kit.inbox import Intake, wav
from tests.kit.waiting import eventually


def only_refusal(intake: Intake, path: str, *, within: float = 5.0) -> str:
    """The code of the refusal with which `path` is offered."""
    eventually(lambda: path in intake.claimed, within=within)
    refusal = intake.claimed[path].refusal
    assert refusal is not None
    assert refusal.message
    assert refusal.hint
    return refusal.code


# ---- the fast path ----


def test_a_wav_closed_locally_is_offered_after_the_grace(intake: Intake) -> None:
    intake.start_and_scan(grace_seconds=0.4, settle_seconds=30)
    began = time.monotonic()
    (intake.root / "smith.wav").write_bytes(wav(0.5))
    eventually(lambda: "smith.wav" in intake.claimed)
    assert 0.4 <= time.monotonic() - began < 0.8
    candidate = intake.claimed["smith.wav"]
    assert candidate.evidence is Evidence.PROVEN
    assert candidate.mime_type == "audio/wav"
    assert candidate.duration_seconds == pytest.approx(0.5)
    assert candidate.identity.size_bytes == len(wav(0.5))
    assert candidate.refusal is None


def test_what_a_sender_does_after_the_close_starts_the_grace_again(intake: Intake) -> None:
    intake.start_and_scan(grace_seconds=1.5, settle_seconds=30)
    path = intake.root / "smith.wav"
    path.write_bytes(wav())
    for step in (
        lambda: os.utime(path, (1e9, 1e9)),
        lambda: path.chmod(0o640),
        lambda: path.rename(intake.root / "jones.wav"),
        lambda: os.utime(intake.root / "jones.wav"),
    ):
        time.sleep(0.5)
        began = time.monotonic()
        step()
    eventually(lambda: intake.claimed)
    assert time.monotonic() - began >= 1.5
    assert [candidate.path for candidate in intake.offers] == ["jones.wav"]


def test_closing_without_a_change_starts_the_grace_again(intake: Intake) -> None:
    intake.start_and_scan(grace_seconds=0.4, settle_seconds=30)
    with (intake.root / "smith.wav").open("wb", buffering=0) as file:
        file.write(wav())
        time.sleep(1)
        began = time.monotonic()
    eventually(lambda: intake.claimed)
    assert time.monotonic() - began >= 0.4


def test_recordings_that_follow_a_claim_are_not_held_up(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=30)
    took = []
    for number in range(10):
        (intake.root / f"{number}.wav").write_bytes(wav())
        took.append(eventually(lambda name=f"{number}.wav": name in intake.claimed))  # type: ignore[misc]
    assert max(took) < 0.3  # half a second where watchdog waits for the second half of a move


def test_recordings_present_at_the_start_are_offered_at_once(intake: Intake) -> None:
    (intake.root / "old.wav").write_bytes(wav())
    os.utime(intake.root / "old.wav", (4e9, 4e9))  # a clock far ahead
    intake.start(settle_seconds=30)
    eventually(lambda: intake.claimed, within=1)
    assert intake.claimed["old.wav"].evidence is Evidence.PROVEN


def test_a_recording_moved_in_is_offered_at_once(intake: Intake, tmp_path: Path) -> None:
    intake.start_and_scan(settle_seconds=30)
    (tmp_path / "x").write_bytes(wav())
    (tmp_path / "x").rename(intake.root / "smith.wav")
    eventually(lambda: intake.claimed, within=1)
    assert intake.claimed["smith.wav"].evidence is Evidence.PROVEN


def test_a_temporary_name_is_offered_once_after_renaming(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=30)
    (intake.root / "smith.wav.part").write_bytes(wav())
    (intake.root / "smith.wav.part").rename(intake.root / "smith.wav")
    eventually(lambda: intake.claimed)
    assert [candidate.path for candidate in intake.offers] == ["smith.wav"]


def test_a_file_held_open_is_not_offered_until_it_is_closed(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=0.1, patience_seconds=0.5)
    script = (
        "import sys, os\n"
        "file = open(sys.argv[1], 'wb', buffering=0)\n"
        "file.write(bytes.fromhex(sys.argv[2]))\n"
        "sys.stdin.read()\n"
    )
    path = intake.root / "held.wav"

    def reasons() -> list[str]:
        return [line["reason"] for line in intake.logged(events.Event.INBOX_UNFINISHED)]

    arguments = [sys.executable, "-c", script, str(path), wav().hex()]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as writer:
        eventually(lambda: "open for writing" in reasons())
        assert intake.offers == []
        assert path.stat().st_size == len(wav())
        eventually(lambda: intake.status.unfinished == 1)
        assert writer.stdin is not None
        writer.stdin.close()
        eventually(lambda: "held.wav" in intake.claimed, within=1)
    assert intake.bytes_of("held.wav") == wav()
    assert len(set(reasons())) == len(reasons())  # each is said once


# ---- the quiet path ----


def test_without_any_witness_the_longest_wait_counts(intake: Intake) -> None:
    frame = b"\xff\xfb\x90\x00" + b"\x11" * 413
    intake.start_and_scan(mode="polling", settle_seconds=0.2, unproven_seconds=1)
    (intake.root / "smith.wav").write_bytes(wav())
    began = time.monotonic()
    (intake.root / "talk.mp3").write_bytes(frame * 40)
    eventually(lambda: "talk.mp3" in intake.claimed)
    assert time.monotonic() - began >= 1
    assert [candidate.path for candidate in intake.offers] == ["smith.wav", "talk.mp3"]
    evidence = {path: candidate.evidence for path, candidate in intake.claimed.items()}
    assert evidence == {"smith.wav": Evidence.LIKELY, "talk.mp3": Evidence.UNPROVEN}


@pytest.mark.parametrize("mode", ["native", "polling"])
def test_a_slow_writer_gives_one_whole_recording(intake: Intake, mode: str) -> None:
    intake.start_and_scan(mode=mode, settle_seconds=0.3)
    content = wav()
    step = len(content) // 10 + 1
    for start in range(0, len(content), step):
        with (intake.root / "slow.wav").open("ab") as file:
            file.write(content[start : start + step])
        time.sleep(0.05)
    eventually(lambda: intake.claimed)
    assert len(intake.offers) == 1
    assert intake.bytes_of("slow.wav") == content


def test_a_wav_preallocated_with_zeros_waits_for_its_content(intake: Intake) -> None:
    intake.start_and_scan(mode="polling", settle_seconds=0.1)
    content = wav()
    (intake.root / "pre.wav").write_bytes(bytes(len(content)))
    eventually(lambda: intake.status.unfinished == 1)
    with (intake.root / "pre.wav").open("r+b") as file:
        file.write(content)
    eventually(lambda: intake.claimed)
    assert intake.claimed["pre.wav"].refusal is None
    assert len(intake.offers) == 1


def test_a_recording_with_no_end_in_its_header_settles_first(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=0.5)
    frame = b"\xff\xfb\x90\x00" + b"\x11" * 413  # MPEG 1 layer III, 128 kbit/s, 44.1 kHz
    began = time.monotonic()
    (intake.root / "talk.mp3").write_bytes(frame * 40)
    eventually(lambda: intake.claimed)
    assert time.monotonic() - began >= 0.5
    assert intake.claimed["talk.mp3"].mime_type == "audio/mp3"


def test_a_truncated_wav_is_refused_after_patience(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=0.1, patience_seconds=2)
    (intake.root / "cut.wav").write_bytes(wav()[:-100])
    eventually(lambda: intake.status.unfinished == 1)
    assert intake.offers == []
    assert only_refusal(intake, "cut.wav") == "truncated"
    reports = intake.logged(events.Event.INBOX_UNFINISHED)
    assert [(line["recording"], line["reason"]) for line in reports] == [("cut.wav", "incomplete")]


def test_a_writer_that_never_stops_is_reported_once(intake: Intake) -> None:
    intake.start_and_scan(mode="polling", settle_seconds=0.3, patience_seconds=0.5)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.02):
            with (intake.root / "endless.wav").open("ab") as file:
                file.write(b"x")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        eventually(lambda: intake.logged(events.Event.INBOX_UNFINISHED))
        (intake.root / "other.wav").write_bytes(wav())
        eventually(lambda: "other.wav" in intake.claimed)
    finally:
        stop.set()
        thread.join()
    reports = intake.logged(events.Event.INBOX_UNFINISHED)
    assert [(line["recording"], line["reason"]) for line in reports] == [("endless.wav", "still growing")]


# ---- what can't be transcribed ----


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("empty.wav", b"", "empty"),
        ("notes.wav", b"Dear colleague,\nthank you for the referral.\n" * 20, "not_audio"),
        ("page.wav", b"%PDF-1.7\n" + b"x" * 2000, "not_audio"),
        ("phone.wav", b"#!AMR\n" + b"\x3c" + b"\x11" * 2000, "unsupported_format"),
        ("talk.ogg", b"fLaC" + b"\x80\x00\x00\x22" + bytes(8) + b"\x0a\xc4\x42\xf0" + bytes(22), "truncated"),
    ],
    ids=["empty", "text", "pdf", "amr", "flac without audio"],
)
def test_an_incomplete_recording_is_refused_with_a_reason(
    intake: Intake, name: str, content: bytes, code: str
) -> None:
    intake.start_and_scan(settle_seconds=0.1, patience_seconds=0.3)
    (intake.root / name).write_bytes(content)
    assert only_refusal(intake, name) == code


def test_a_type_that_the_account_does_not_list_is_refused(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=0.1, accepted_mime_types=["audio/mp3"])
    (intake.root / "smith.wav").write_bytes(wav())
    assert only_refusal(intake, "smith.wav") == "not_accepted"


def test_a_terabyte_of_zeros_is_refused_unread(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=0.1)
    with (intake.root / "huge.wav").open("wb") as file:
        file.truncate(1 << 40)
    before = time.monotonic()
    assert only_refusal(intake, "huge.wav") == "too_large"
    assert time.monotonic() - before < 2


def test_a_hard_link_to_a_secret_is_refused_unread(intake: Intake, tmp_path: Path) -> None:
    intake.start_and_scan(settle_seconds=0.1)
    (tmp_path / "secret").write_bytes(wav())
    os.link(tmp_path / "secret", intake.root / "link.wav")
    assert only_refusal(intake, "link.wav") == "hard_link"
    assert intake.claimed["link.wav"].format == "unknown"


def test_a_rename_by_link_and_unlink_is_no_hard_link(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=2)
    (intake.root / ".upload").write_bytes(wav())
    os.link(intake.root / ".upload", intake.root / "smith.wav")
    eventually(lambda: intake.status.settling == 1)
    (intake.root / ".upload").unlink()
    eventually(lambda: "smith.wav" in intake.claimed)
    assert intake.claimed["smith.wav"].refusal is None


# ---- names and kinds of files ----


def test_links_pipes_and_sockets_are_skipped_and_reported_once(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(wav())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.wav").write_bytes(wav())
    (intake.root / "link.wav").symlink_to(tmp_path / "secret")
    (intake.root / "ward").symlink_to(tmp_path / "elsewhere")
    (intake.root / "folder.wav").mkdir()
    os.mkfifo(intake.root / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(intake.root / "socket.wav"))
        intake.start_and_scan(settle_seconds=0.05, rescan_seconds=0.1)
        os.mkfifo(intake.root / "later.wav")
        scans = intake.status.scans
        eventually(lambda: intake.status.scans >= scans + 3)
    assert intake.offers == []
    skipped = intake.logged(events.Event.INBOX_SKIPPED)
    assert sorted((line["recording"], line["reason"]) for line in skipped) == [
        ("later.wav", "FIFO"),
        ("link.wav", "symbolic link"),
        ("pipe.wav", "FIFO"),
        ("socket.wav", "socket"),
        ("ward", "symbolic link"),
    ]


def test_a_folder_swapped_for_a_link_leads_nowhere(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.wav").write_bytes(wav())
    (intake.root / "ward").mkdir()
    (intake.root / "ward" / "x.wav").write_bytes(b"")
    intake.start_and_scan(settle_seconds=0.1, patience_seconds=3)
    eventually(lambda: intake.status.unfinished == 1)
    shutil.rmtree(intake.root / "ward")
    (intake.root / "ward").symlink_to(tmp_path / "outside")
    eventually(lambda: intake.status.unfinished == 0)
    assert intake.offers == []


NAMES = [
    b"two\nlines.wav",
    b"\xff\xfe latin \xe9.wav",
    b"n" * 251 + b".wav",
    "\u202egnol.wav".encode(),
    b"-rf *.wav",
]


@pytest.mark.parametrize("mode", ["native", "polling"])
def test_any_name_is_found(intake: Intake, mode: str) -> None:
    intake.start_and_scan(mode=mode, settle_seconds=0.1)
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(intake.root) + b"/" + name)).write_bytes(wav())
    eventually(lambda: len(intake.claimed) == len(NAMES))
    assert {os.fsencode(path) for path in intake.claimed} == set(NAMES)


def test_files_of_other_software_are_ignored(intake: Intake) -> None:
    ignored = [".DS_Store", "._x.wav", "THUMBS.DB", "x.wav.part", "x.filepart", "x.crdownload", "~$x.docx"]
    ignored += [
        ".syncthing.x.tmp",
        "x.TMP",
        ".~lock.x.wav#",
        "@eaDir/x.wav",
        ".Trash-1000/x.wav",
        "private/x.wav",
    ]
    ignored += ["x.bak"]
    for name in ignored:
        (intake.root / name).parent.mkdir(exist_ok=True)
        (intake.root / name).write_bytes(wav())
    intake.start_and_scan(settle_seconds=0.05, ignore=["*.bak", "Private/*"])
    for name in ignored:
        (intake.root / name).write_bytes(wav(0.3))
    (intake.root / "real.wav").write_bytes(wav())
    eventually(lambda: "real.wav" in intake.claimed)
    assert list(intake.claimed) == ["real.wav"]


# ---- trees ----


def test_a_folder_tree_moved_in_is_found(intake: Intake, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(20):
        (tree / f"ward{number}" / "deep").mkdir(parents=True)
        (tree / f"ward{number}" / "deep" / "x.wav").write_bytes(wav())
    intake.start_and_scan(settle_seconds=30)
    tree.rename(intake.root / "tree")
    eventually(lambda: len(intake.claimed) == 20, within=2)
    assert "tree/ward7/deep/x.wav" in intake.claimed


def test_new_folders_filled_at_once_are_found(intake: Intake, tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(wav())
    intake.start_and_scan(settle_seconds=30)
    script = "for i in $(seq 30); do mkdir -p $i/a/b/c && cp ../x.wav $i/a/b/c/; done"
    subprocess.run(["/bin/sh", "-c", script], cwd=intake.root, check=True)
    eventually(lambda: len(intake.claimed) == 30, within=3)
    assert intake.claimed.keys() == {f"{number}/a/b/c/x.wav" for number in range(1, 31)}


def test_subfolders_are_left_alone_unless_configured(intake: Intake) -> None:
    (intake.root / "ward").mkdir()
    (intake.root / "ward" / "x.wav").write_bytes(wav())
    intake.start_and_scan(recursive=False)
    (intake.root / "later").mkdir()
    (intake.root / "later" / "x.wav").write_bytes(wav())
    (intake.root / "top.wav").write_bytes(wav())
    eventually(lambda: intake.claimed)
    assert list(intake.claimed) == ["top.wav"]


def test_five_thousand_files_at_once_are_all_offered_once(intake: Intake, tmp_path: Path) -> None:
    content = wav(0.01)
    intake.start_and_scan(settle_seconds=30)
    for number in range(5000):
        folder = intake.root / f"ward{number % 50}"
        if number < 50:
            folder.mkdir()
        (folder / f"{number}.wav").write_bytes(content)
    eventually(lambda: len(intake.claimed) == 5000, within=20)
    assert len(intake.offers) == 5000


# ---- room, errors, stopping ----


def test_a_file_without_capacity_is_offered_again_after_wake(intake: Intake) -> None:
    intake.refuse_to_take = True
    for number in range(5):
        (intake.root / f"{number}.wav").write_bytes(wav())
    intake.start_and_scan(settle_seconds=30)
    eventually(lambda: intake.status.refused_now == 5)
    assert intake.status.settling == 0
    assert len(intake.offers) == 1  # the first "no" is heard for all
    intake.refuse_to_take = False
    intake.inbox.wake()
    assert eventually(lambda: len(intake.claimed) == 5) < 0.5
    eventually(lambda: intake.status.refused_now == 0)


def test_an_urgent_recording_waits_for_no_other_of_its_batch(intake: Intake) -> None:
    (intake.root / "stat").mkdir()
    for path in ("a.wav", "b.wav", "stat/c.wav", "stat/d.wav"):
        (intake.root / path).write_bytes(wav())
    intake.start(priority_of=lambda path, _attributes: Priority.STAT if "/" in path else Priority.ROUTINE)
    eventually(lambda: len(intake.claimed) == 4)
    # Each file has a grace time of its own, so on a slow machine those of a kind may come one by one.
    kinds = [{os.path.dirname(path) for path in batch} for batch in intake.batches]
    assert [kind for kind, _ in itertools.groupby(kinds)] == [{"stat"}, {""}]


def test_room_that_comes_while_a_file_is_refused_is_not_missed(intake: Intake) -> None:
    intake.refuse_to_take = intake.makes_room = True
    (intake.root / "x.wav").write_bytes(wav())
    intake.start_and_scan(mode="polling", polling_seconds=30)
    eventually(lambda: "x.wav" in intake.claimed)
    assert len(intake.offers) == 2


def test_room_that_comes_bit_by_bit_is_used_for_several_at_once(intake: Intake) -> None:
    intake.room = threading.Semaphore(1)
    for number in range(12):
        (intake.root / f"{number}.wav").write_bytes(wav())
    intake.start_and_scan()
    eventually(lambda: intake.status.refused_now == 11)
    began = time.monotonic()
    for _ in range(11):
        intake.room.release()
        intake.inbox.has_room()
        time.sleep(0.001)
    eventually(lambda: len(intake.claimed) == 12)
    assert len(intake.batches) <= 3 + (time.monotonic() - began) / 0.02


def test_a_file_without_capacity_is_offered_again_at_a_rescan(intake: Intake) -> None:
    intake.refuse_to_take = True
    (intake.root / "x.wav").write_bytes(wav())
    intake.start_and_scan(rescan_seconds=0.3)
    eventually(lambda: intake.status.refused_now == 1)
    intake.refuse_to_take, scans = False, intake.status.scans
    eventually(lambda: "x.wav" in intake.claimed)
    eventually(lambda: intake.status.scans > scans)
    assert intake.status.refused_now == 0


@pytest.mark.parametrize(
    ("error", "reason", "hint"),
    [
        (OSError(errno.EIO, "smith.wav"), "Input/output error", None),
        (StorageError("processing/ is full", hint="Free up space."), "processing/ is full", "Free up space."),
    ],
)
def test_a_failed_claim_is_reported_once_and_retried(
    intake: Intake, error: Exception, reason: str, hint: str | None
) -> None:
    intake.raises = error
    (intake.root / "x.wav").write_bytes(wav())
    intake.start_and_scan(rescan_seconds=0.1)
    eventually(lambda: len(intake.offers) >= 3)
    eventually(lambda: intake.status.troubled == 1)
    (said,) = intake.logged(events.Event.CLAIM_FAILED)
    assert (said["reason"], said.get("hint")) == (reason, hint)
    (waiting,) = intake.inbox.waiting()
    assert (waiting.stage, waiting.reason.message) == ("error", reason)
    intake.raises = None
    eventually(lambda: "x.wav" in intake.claimed)


def test_any_other_error_of_a_claim_ends_the_run(intake: Intake) -> None:
    intake.raises = ZeroDivisionError("a bug")
    (intake.root / "x.wav").write_bytes(wav())
    intake.start()
    eventually(lambda: not intake.running)
    assert isinstance(intake.error, ZeroDivisionError)


def test_a_file_that_disappears_is_forgotten_silently(intake: Intake) -> None:
    intake.start_and_scan(mode="polling", settle_seconds=2)
    (intake.root / "x.wav").write_bytes(wav())
    eventually(lambda: intake.status.settling == 1)
    (intake.root / "x.wav").unlink()
    eventually(lambda: intake.status.settling == 0)
    assert intake.offers == []


def test_an_unfinished_file_that_disappears_is_forgotten(intake: Intake) -> None:
    (intake.root / "x.wav").write_bytes(b"")
    intake.start_and_scan(settle_seconds=0.05, rescan_seconds=0.2)
    eventually(lambda: intake.status.unfinished == 1)
    (intake.root / "x.wav").unlink()
    eventually(lambda: intake.status.unfinished == 0)
    assert intake.offers == []


def test_a_stop_takes_effect_at_once(intake: Intake) -> None:
    intake.start_and_scan()
    started = time.monotonic()
    intake.stop()
    assert time.monotonic() - started < 0.5
    assert intake.error is None


def test_waiting_costs_no_processor_time(intake: Intake) -> None:
    for number in range(200):
        (intake.root / f"{number}.wav").write_bytes(b"")
    intake.start_and_scan(settle_seconds=0.1)
    eventually(lambda: intake.status.unfinished == 200)
    before = time.process_time()
    time.sleep(1.5)
    assert time.process_time() - before < 0.1


def test_a_replaced_recording_is_offered_as_a_new_one(intake: Intake) -> None:
    intake.start_and_scan(settle_seconds=30)
    (intake.root / "x.wav").write_bytes(wav(0.1))
    eventually(lambda: "x.wav" in intake.claimed)
    (intake.root / "x.wav").write_bytes(wav(0.2))
    eventually(lambda: len(intake.offers) == 2)
    assert intake.offers[1].duration_seconds == pytest.approx(0.2)
