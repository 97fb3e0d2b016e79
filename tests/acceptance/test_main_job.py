"""The main job, seen from outside: files in, files out, what the API counted, and the exit status."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, peak_kib, stop
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import wait_for

FORMATS = {
    "wav": [],
    "mp3": ["-c:a", "libmp3lame"],
    "m4a": ["-c:a", "aac"],
    "flac": [],
    "ogg": ["-c:a", "libvorbis"],
    "webm": ["-c:a", "libopus"],
}


def make_recordings(inbox: Path) -> list[str]:
    """24 recordings of different content in six formats, in nested folders with spaces and accents."""
    folders = ["", "ward 3", "ward 3/Dr Müller", "Cirugía/año 2026"]
    names = []
    for number, folder in enumerate(folders):
        for suffix, options in FORMATS.items():
            path = inbox / folder / f"dictée {number} {suffix}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            tone = f"sine=frequency={300 + 50 * number}:duration=1"
            subprocess.run(
                ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", tone, *options, str(path)], check=True
            )
            names.append(str(path.relative_to(inbox)))
    return names


def test_24_recordings_in_six_formats_and_one_text_file(clinic: Clinic, api: Sandbox) -> None:
    names = make_recordings(clinic.inbox)
    (clinic.inbox / "letter.wav").write_text("Dear colleague,\nthank you for referring this patient.\n")

    assert clinic.once() == 1

    stems = [name.rpartition(".")[0] for name in names]
    expected = sorted(f"{stem}.{suffix}" for stem in stems for suffix in ("json", "srt"))
    assert clinic.files(clinic.outbox) == expected
    assert clinic.files(clinic.done) == sorted(names)
    assert clinic.files(clinic.failed) == ["letter.wav", "letter.wav.error.json"]
    assert clinic.files(clinic.inbox) == clinic.files(clinic.processing) == []
    reason = json.loads((clinic.failed / "letter.wav.error.json").read_text())
    assert reason["code"] == "not_audio"
    assert "text" in reason["message"]
    stats = api.stats()
    assert (stats["presigns"], stats["uploads"]) == (24, 24)
    for name, stem in zip(names, stems, strict=True):
        transcript = clinic.transcript(f"{stem}.json")
        assert transcript["source"]["name"] == name
        assert transcript["source"]["sha256"][:12] in transcript["text"]  # the text of its own content


def test_a_file_copied_in_slowly_is_taken_once_and_whole(clinic: Clinic, api: Sandbox) -> None:
    source = write_wav(clinic.root / "source.wav", seconds=5).read_bytes()
    daemon = clinic.start()
    step = len(source) // 10 + 1
    for start in range(0, len(source), step):
        with (clinic.inbox / "slow.wav").open("ab") as file:
            file.write(source[start : start + step])
        time.sleep(0.5)
    wait_for("slow.wav is done", lambda: clinic.files(clinic.done) == ["slow.wav"])
    assert stop(daemon) == 0
    assert (clinic.done / "slow.wav").read_bytes() == source
    assert len(clinic.events("claimed")) == 1
    assert [request["bytes"] for request in api.stats()["requests"]] == [len(source)]


def test_a_wav_written_and_closed_is_taken_at_once(tmp_path: Path, api: Sandbox) -> None:
    # With these settings only the close event can lead to it; the benchmark says how many milliseconds.
    clinic = Clinic(
        tmp_path / "clinic",
        api.base_url,
        watch={"settle_seconds": 60, "rescan_seconds": 3600, "patience_seconds": 120},
    )
    daemon = clinic.start()
    write_wav(clinic.inbox / "quick.wav")
    wait_for("quick.wav is done", lambda: clinic.files(clinic.done) == ["quick.wav"])
    assert stop(daemon) == 0


def test_the_same_content_twice_is_uploaded_once(clinic: Clinic, api: Sandbox) -> None:
    write_wav(clinic.inbox / "first.wav")
    shutil.copy(clinic.inbox / "first.wav", clinic.inbox / "second.wav")
    assert clinic.once() == 0
    (clinic.inbox / "later").mkdir()
    shutil.copy(clinic.done / "first.wav", clinic.inbox / "later" / "third.wav")
    assert clinic.once() == 0

    names = [f"{stem}.{suffix}" for stem in ("first", "later/third", "second") for suffix in ("json", "srt")]
    assert clinic.files(clinic.outbox) == names
    assert api.stats()["uploads"] == api.stats()["presigns"] == 1
    transcripts = [clinic.transcript(name) for name in ("first.json", "second.json", "later/third.json")]
    assert len({transcript["text"] for transcript in transcripts}) == 1
    assert sorted(transcript["delivered_by"] for transcript in transcripts) == ["polling", "reuse", "reuse"]


@pytest.mark.parametrize(("rule", "uploads", "status"), [("process", 2, 0), ("fail", 1, 1)])
def test_duplicates_by_rule(tmp_path: Path, api: Sandbox, rule: str, uploads: int, status: int) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, intake={"on_duplicate": rule})
    write_wav(clinic.inbox / "first.wav")
    assert clinic.once() == 0
    shutil.copy(clinic.done / "first.wav", clinic.inbox / "second.wav")
    assert clinic.once() == status
    assert api.stats()["uploads"] == uploads
    assert clinic.files(clinic.failed) == (["second.wav", "second.wav.error.json"] if status else [])


def test_a_name_that_is_taken_gives_the_whole_set_a_suffix(clinic: Clinic) -> None:
    write_wav(clinic.inbox / "smith.wav", pitch=300)
    assert clinic.once() == 0
    write_wav(clinic.inbox / "smith.wav", pitch=400)
    assert clinic.once() == 0
    (clinic.outbox / "jones.srt").write_text("somebody else's")
    write_wav(clinic.inbox / "jones.wav", pitch=500)
    assert clinic.once() == 0

    assert clinic.files(clinic.done) == ["jones-2.wav", "smith-2.wav", "smith.wav"]
    expected = ["jones-2.json", "jones-2.srt", "jones.srt", "smith-2.json", "smith-2.srt"]
    assert clinic.files(clinic.outbox) == [*expected, "smith.json", "smith.srt"]
    assert (clinic.outbox / "jones.srt").read_text() == "somebody else's"


def test_files_and_folders_are_private(clinic: Clinic) -> None:
    write_wav(clinic.inbox / "ward" / "smith.wav")
    assert clinic.once() == 0
    modes = {path: path.stat().st_mode & 0o777 for path in (clinic.outbox / "ward").iterdir()}
    assert set(modes.values()) == {0o600}
    for folder in (clinic.outbox, clinic.outbox / "ward", clinic.done, clinic.done / "ward"):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.needs  # minutes
@pytest.mark.slow
def test_a_gigabyte_costs_no_memory(clinic: Clinic, api: Sandbox) -> None:
    daemon = clinic.start(
        clinic.command("run")
    )  # an interpreter of its own, whose memory is the daemon's alone
    write_wav(clinic.inbox / "warm up.wav")  # what the first job loads is not what a large one costs
    wait_for("the warm-up is done", lambda: clinic.files(clinic.done) == ["warm up.wav"])
    idle = peak_kib(daemon.pid)
    write_sparse_wav(clinic.root / "big.wav", 1 << 30)
    os.rename(clinic.root / "big.wav", clinic.inbox / "big.wav")
    wait_for("the gigabyte is done", lambda: "big.wav" in clinic.files(clinic.done), seconds=100)
    grown = peak_kib(daemon.pid) - idle
    assert stop(daemon) == 0
    assert api.stats()["requests"][-1]["bytes"] == 1 << 30
    assert grown < 16 << 10, f"peak memory grew by {grown} KiB"


class Appearances(FileSystemEventHandler):
    """How each name in a folder came to be there."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def on_created(self, event: FileSystemEvent) -> None:
        self.seen.append(("written in place", Path(os.fsdecode(event.src_path)).name))

    def on_moved(self, event: FileSystemEvent) -> None:
        self.seen.append(("moved in whole", Path(os.fsdecode(event.dest_path)).name))


def test_a_file_in_the_outbox_is_never_half_there(clinic: Clinic) -> None:
    clinic.outbox.mkdir()
    appearances, observer = Appearances(), Observer()
    observer.schedule(appearances, str(clinic.outbox))
    observer.start()
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    wait_for("both were noticed", lambda: ("moved in whole", "smith.srt") in appearances.seen)
    observer.stop()
    observer.join()
    shown = [seen for seen in appearances.seen if not seen[1].startswith(".")]
    assert shown == [("moved in whole", "smith.json"), ("moved in whole", "smith.srt")]
