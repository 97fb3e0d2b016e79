"""FAULTS.md 12-19: names that are no recordings', that lead elsewhere, and that no file should have.

The folders, the log and the command line are looked at as a person would; names come back as they went in.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.daemons import Daemons, Death, Fate
from tests.faults.evidence import assert_all_quiet, assert_own_transcript, jobs, reason_for, sha256, uploaded
from tests.faults.swapper import swapping
from tests.faults.witness import everything_in, openings_in
from tests.kit.clinic import Clinic, running
from tests.kit.litter import LITTER, RECORDINGS
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

LETTER = b"Dear colleague,\nthank you for referring this patient.\n"


def tone(folder: Path, pitch: int) -> bytes:
    """A short recording; another pitch is other content."""
    path = write_wav(folder / "tone.wav", pitch=pitch, seconds=0.1)
    content = path.read_bytes()
    path.unlink()
    return content


def put(clinic: Clinic, name: str, content: bytes) -> None:
    """Put a whole file into the inbox under any name."""
    path = clinic.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    (clinic.root / "new").write_bytes(content)
    os.rename(clinic.root / "new", path)


def skipped(clinic: Clinic) -> list[str]:
    """What the log says about names that are no files, each as often as it says it."""
    return sorted(event["reason"] for event in clinic.events("inbox_skipped"))


def by_source(clinic: Clinic) -> dict[str, dict[str, Any]]:
    """Every transcript of the outbox, by the name that its recording had in the inbox."""
    names = [name for name in clinic.files(clinic.outbox) if name.endswith(".json")]
    transcripts = [clinic.transcript(name) for name in names]
    found = {transcript["source"]["name"]: transcript for transcript in transcripts}
    assert len(found) == len(names)
    return found


# ---- 12: no files ------------------------------------------------------------------------------------------


def test_12_anything_but_a_file_is_skipped_at_once(clinic: Clinic, api: Sandbox) -> None:
    os.mkfifo(clinic.inbox / "before.wav")
    put(clinic, "folder.wav/inside.wav", content := tone(clinic.root, 440))
    with socket.socket(socket.AF_UNIX) as listener, running(clinic):
        os.mkfifo(clinic.inbox / "fed.wav")
        fed = os.open(clinic.inbox / "fed.wav", os.O_RDWR | os.O_NONBLOCK)
        os.write(fed, b"for somebody else")
        os.mkfifo(clinic.inbox / "nobody writes.wav")
        listener.bind(str(clinic.inbox / "socket.wav"))
        wait_for("they are skipped", lambda: skipped(clinic) == ["FIFO", "FIFO", "FIFO", "socket"])
        put(clinic, "next.wav", tone(clinic.root, 500))
        wait_for("others go on", lambda: len(clinic.files(clinic.done)) == 2)
        time.sleep(2)  # longer than our patience with a file that stays empty
    assert os.read(fed, 100) == b"for somebody else"
    os.close(fed)
    assert clinic.files(clinic.inbox) == ["before.wav", "fed.wav", "nobody writes.wav", "socket.wav"]
    assert_own_transcript(clinic, "folder.wav/inside.wav", content)
    assert clinic.files(clinic.failed) == []
    assert len(uploaded(api)) == 2


@pytest.mark.needs("root")
def test_12_a_device_is_never_opened(clinic: Clinic, api: Sandbox) -> None:
    with openings_in(clinic.inbox) as opened, running(clinic):
        os.mknod(clinic.inbox / "zeros.wav", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        os.mknod(clinic.inbox / "disk.wav", stat.S_IFBLK | 0o666, os.makedev(7, 0))
        put(clinic, "smith.wav", content := tone(clinic.root, 440))
        wait_for("the recording is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        wait_for("they are skipped", lambda: skipped(clinic) == ["device", "device"])
    assert clinic.files(clinic.inbox) == [".last", "disk.wav", "zeros.wav"]
    assert "smith.wav" in opened
    assert {"zeros.wav", "disk.wav"}.isdisjoint(opened)
    assert uploaded(api) == [sha256(content)]


def test_12_a_file_that_turns_into_a_pipe_blocks_nothing(clinic: Clinic) -> None:
    begun = tone(clinic.root, 440)[:1000]  # never whole, so that it is looked at and never taken
    over = threading.Event()

    def turn() -> None:
        while not over.is_set():
            for make in (os.mkfifo, lambda path: path.write_bytes(begun)):
                make(clinic.root / "next")
                os.replace(clinic.root / "next", clinic.inbox / "turning.wav")

    with running(clinic):
        turning = threading.Thread(target=turn)
        turning.start()
        try:
            for number in range(8):
                put(clinic, f"{number}.wav", tone(clinic.root, 300 + number))
                time.sleep(0.2)
            wait_for("all others are done", lambda: len(clinic.files(clinic.done)) == 8)
        finally:
            over.set()
            turning.join()
        (clinic.inbox / "turning.wav").unlink()
    assert clinic.files(clinic.failed) == []


# ---- 13-14: somewhere else ---------------------------------------------------------------------------------


def test_13_a_symbolic_link_to_a_secret_is_never_opened(clinic: Clinic, api: Sandbox, tmp_path: Path) -> None:
    secret = write_wav(tmp_path / "secrets" / "secret.wav", pitch=700)
    with openings_in(secret.parent) as opened, running(clinic):
        (clinic.inbox / "absolute.wav").symlink_to(secret)
        (clinic.inbox / "relative.wav").symlink_to("../../secrets/secret.wav")
        (clinic.inbox / "folder").symlink_to(secret.parent)
        (clinic.inbox / "dangling.wav").symlink_to(tmp_path / "nowhere")
        (clinic.inbox / "circle.wav").symlink_to("circle.wav")
        put(clinic, "smith.wav", content := tone(clinic.root, 440))
        wait_for("the recording is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
        put(clinic, "turns.wav", tone(clinic.root, 500)[:1000])  # unfinished: it is looked at again and again
        (clinic.root / "turned").symlink_to(secret)
        os.replace(clinic.root / "turned", clinic.inbox / "turns.wav")
        for _ in range(3):  # an event each, that brings us to look again
            (clinic.root / "turned").symlink_to(secret)
            os.replace(clinic.root / "turned", clinic.inbox / "turns.wav")
            time.sleep(0.1)
        wait_for("a rescan has passed", lambda: len(skipped(clinic)) == 6, seconds=30)
    assert opened == []
    assert skipped(clinic) == ["symbolic link"] * 6
    assert len(list(clinic.inbox.glob("[!.]*"))) == 6
    assert uploaded(api) == [sha256(content)]
    assert clinic.files(clinic.outbox) == ["smith.json", "smith.srt"]
    assert clinic.files(clinic.failed) == []


def test_13_a_hard_link_to_a_secret_fails_unread(clinic: Clinic, api: Sandbox, tmp_path: Path) -> None:
    secret = write_wav(tmp_path / "secret.wav", pitch=700)
    secret.chmod(0o640)
    content, before = secret.read_bytes(), secret.stat()
    os.link(secret, clinic.inbox / "linked.wav")
    assert clinic.once() == 1
    assert clinic.files(clinic.failed) == ["linked.wav", "linked.wav.error.json"]
    reason = reason_for(clinic, "linked.wav")
    assert (reason["code"], reason["source"]["sha256"]) == ("hard_link", None)
    assert "copy" in reason["hint"]
    assert (clinic.failed / "linked.wav").samefile(secret)  # the same name in another folder, not a copy
    assert secret.read_bytes() == content
    assert (secret.stat().st_mode, secret.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert clinic.files(clinic.outbox) == clinic.files(clinic.done) == []
    assert api.stats()["presigns"] == 0
    assert sha256(content) not in clinic.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_14_folders_swapped_for_links_are_not_followed(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, retry={"base_seconds": 0.05, "max_seconds": 0.2})
    contents = {}
    for number in range(120):  # every fourth one is no recording, so that failed/ has work too
        contents[f"{number}.wav"] = (
            tone(tmp_path, 300 + number) if number % 4 else LETTER + bytes([64, number])
        )
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "night" / "empty").mkdir(parents=True)
    secrets = set()
    for number, name in enumerate(contents):
        secrets.add(sha256(write_wav(elsewhere / "night" / name, pitch=1000 + number).read_bytes()))
    (elsewhere / "night" / ".last").touch()
    before = everything_in(elsewhere)
    for folder in (clinic.inbox, clinic.outbox, clinic.done, clinic.failed):
        (folder / "ward" / "night").mkdir(parents=True, mode=0o700)
    night = os.open(clinic.inbox / "ward" / "night", os.O_RDONLY)  # the way in that no link can bend
    with openings_in(elsewhere / "night") as opened, running(clinic):
        with swapping(clinic.root, "ward", elsewhere):
            for name, content in contents.items():
                (clinic.root / "new").write_bytes(content)
                os.rename(clinic.root / "new", name, dst_dir_fd=night)
                time.sleep(0.05)
        wait_for("all have an end", lambda: len(clinic.events("done", "failed")) == len(contents), seconds=60)
    os.close(night)
    assert opened == []
    assert everything_in(elsewhere) == before
    assert secrets.isdisjoint(uploaded(api))
    kept = [clinic.done / name for name in clinic.files(clinic.done)]
    kept += [clinic.failed / name for name in clinic.files(clinic.failed) if not name.endswith(".json")]
    assert sorted(path.read_bytes() for path in kept) == sorted(contents.values())
    assert clinic.files(clinic.inbox) == clinic.files(clinic.processing) == []
    assert len(clinic.events("done")) > 0.7 * len(contents)


def test_14_recreated_folders_are_watched_again(clinic: Clinic) -> None:
    """Two folders that had one name, deleted one after the other, once confused the books of the watch."""
    ward, archive = clinic.inbox / "ward", clinic.root / "archive"
    with running(clinic):
        for number in range(3):
            put(clinic, f"ward/{number}.wav", tone(clinic.root, 300 + number))
            wait_for("it is done", lambda: len(clinic.files(clinic.done)) == number + 1)  # noqa: B023
            os.rename(ward, archive)
            ward.mkdir()
            time.sleep(0.2)
            ward.rmdir()
            time.sleep(0.2)
            archive.rmdir()
        put(clinic, "last.wav", tone(clinic.root, 500))
        wait_for("the last one is done", lambda: "last.wav" in clinic.files(clinic.done))
    assert clinic.events("thread_died", "watch_missed") == []


# ---- 15-16: names to be printed ----------------------------------------------------------------------------

TREACHEROUS = [
    "line\nbreak.wav",
    'forged.wav\n{"event": "done", "level": "info"}',
    "carriage\rreturn.wav",
    "\x1b[31mred\x1b[0m and \x1b]0;title\x07.wav",
    "\x9b31m eight-bit.wav",
    "right to left \u202egpj.wav",
    "isolate \u2066x\u2069 \u200b\ufeff.wav",
    "separator \u2028 \u2029 \x85 \x0b \x0c.wav",
]


@pytest.mark.parametrize("filenames", ["plain", "hashed"])
@pytest.mark.parametrize("format", ["json", "console"])
def test_15_a_hostile_name_is_printed_as_one_escaped_line(
    tmp_path: Path, api: Sandbox, format: str, filenames: str
) -> None:
    logging = {"format": format, "filenames": filenames, "level": "debug"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, logging=logging)
    for number, name in enumerate(TREACHEROUS):
        put(clinic, name, LETTER + bytes([64 + number]))
        put(clinic, f"good/{name}", tone(tmp_path, 300 + number))
        (clinic.inbox / f"link {name}").symlink_to("nowhere")
    assert clinic.once() == 1

    log = clinic.log.read_text()
    assert all(line.isprintable() for line in log.split("\n"))
    for event in ("failed", "done", "inbox_skipped"):
        said = [line for line in log.split("\n") if is_event(line, event, format)]
        assert len(said) == len(TREACHEROUS)
        shown = [any(escaped(name, format) in line for line in said) for name in TREACHEROUS]
        assert shown == [filenames == "plain"] * len(TREACHEROUS)
    assert sorted(reason_for(clinic, name)["source"]["name"] for name in TREACHEROUS) == sorted(TREACHEROUS)
    assert clinic.files(clinic.done) == sorted(f"good/{name}" for name in TREACHEROUS)
    assert set(by_source(clinic)) == {f"good/{name}" for name in TREACHEROUS}
    listed = clinic.run("jobs", "--all").stdout
    assert all(line.isprintable() for line in listed.split("\n"))
    assert len(listed.splitlines()) == 2 * len(TREACHEROUS)
    for job in jobs(clinic):
        assert all(line.isprintable() for line in clinic.run("show", job["id"]).stdout.split("\n"))


def is_event(line: str, event: str, format: str) -> bool:
    """Whether the line of the log tells of that event."""
    return f'"event": "{event}"' in line if format == "json" else line.split()[2:3] == [event]


def escaped(name: str, format: str) -> str:
    """How the log shows a name that it may show."""
    if format == "json":
        return json.dumps(name)[1:-1]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


NOT_UTF8 = [
    b"na\xefve.wav",
    b"caf\xe9/\xff\xfe.wav",
    b"half a surrogate \xed\xa0\x80.wav",
    b"\xf0\x9f\x8e.wav",
]


def test_16_names_that_are_not_utf8_are_processed(clinic: Clinic, api: Sandbox) -> None:
    names = [os.fsdecode(name) for name in NOT_UTF8]
    contents = {name: tone(clinic.root, 300 + number) for number, name in enumerate(names)}
    for name, content in contents.items():
        put(clinic, name, content)
        put(clinic, f"bad/{name}", LETTER)
    assert clinic.once() == 1

    assert clinic.files(clinic.done) == sorted(names)
    for name, content in contents.items():
        assert_own_transcript(clinic, name, content)
        assert clinic.transcript(os.path.splitext(name)[0] + ".json")["source"]["name"] == name
    failed = [f"bad/{name}{suffix}" for name in names for suffix in ("", ".error.json")]
    assert clinic.files(clinic.failed) == sorted(failed)
    assert_all_quiet(clinic)
    assert uploaded(api) == sorted(map(sha256, contents.values()))

    listed = jobs(clinic)
    assert {job["path"] for job in listed} == {*names, *(f"bad/{name}" for name in names)}
    for job in listed:
        shown = json.loads(clinic.run("show", job["id"], "--json").stdout)
        assert (shown["path"], shown["filed_as"]) == (job["path"], job["path"])
        assert clinic.run("show", job["id"]).returncode == 0
    assert clinic.run("jobs", "--all").returncode == 0
    assert clinic.run("retry", "--code", "not_audio").returncode == 0
    assert clinic.files(clinic.inbox) == sorted(f"bad/{name}" for name in names)


# ---- 17-18: names that don't fit, and names that clash -----------------------------------------------------

LONGEST = {
    "letters": "n" * 251 + ".wav",
    "almost the same": "n" * 250 + "m.wav",
    "two bytes each": "ü" * 125 + "x.wav",
    "four bytes each": "🎤" * 62 + "abc.wav",
    "combining": ("e\u0301" * 84)[:-1] + "x.wav",
    "no suffix": "s" * 255,
    "nothing but suffix": "a." + "w" * 253,
    "long folders": "f" * 255 + "/" + "ü" * 127 + "/" + "g" * 251 + ".wav",
    "not utf-8": "\udcff" * 251 + ".wav",
}


def test_17_names_as_long_as_can_be_get_outputs_that_fit(clinic: Clinic, api: Sandbox) -> None:
    contents = {name: tone(clinic.root, 300 + number) for number, name in enumerate(LONGEST.values())}
    for name, content in contents.items():
        assert max(len(os.fsencode(part)) for part in name.split("/")) > 250
        put(clinic, name, content)
        put(clinic, f"bad/{name}", LETTER)
    assert clinic.once() == 1

    transcripts = by_source(clinic)
    assert {name: transcript["source"]["sha256"] for name, transcript in transcripts.items()} == {
        name: sha256(content) for name, content in contents.items()
    }
    assert len(clinic.files(clinic.outbox)) == 2 * len(contents)
    assert sorted((clinic.done / name).read_bytes() for name in clinic.files(clinic.done)) == sorted(
        contents.values()
    )
    done = {os.path.splitext(name)[0] for name in clinic.files(clinic.done)}
    assert {os.path.splitext(name)[0] for name in clinic.files(clinic.outbox)} == done
    assert all(part.isprintable() or "\udcff" in part for part in done)  # no character is cut in half
    failed = clinic.files(clinic.failed)
    recordings = {name for name in failed if not name.endswith(".error.json")}
    assert {f"{name}.error.json" for name in recordings} == set(failed) - recordings
    assert len(recordings) == len(contents)
    assert {reason_for(clinic, name)["code"] for name in recordings} == {"not_audio"}
    assert_all_quiet(clinic)


ALIKE = ["Smith.wav", "smith.wav", "SMITH.WAV", "M\u00fcller.wav", "Mu\u0308ller.wav", "stra\u00dfe.wav"]
ALIKE += ["STRASSE.wav", "\ufb01nal.wav", "final.wav"]
DOS = [
    "CON.wav",
    "nul.wav",
    "COM1.wav",
    "dot..wav",
    "dot.",
    "space .wav",
    "space.wav ",
    "a:b.wav",
    "a\\b.wav",
]


def test_18_names_that_are_one_name_elsewhere_are_all_kept(clinic: Clinic, api: Sandbox) -> None:
    contents = {name: tone(clinic.root, 300 + number) for number, name in enumerate([*ALIKE, *DOS])}
    for name, content in contents.items():
        put(clinic, name, content)
    assert clinic.once() == 0
    assert_each_has_its_own(clinic, contents)
    assert uploaded(api) == sorted(map(sha256, contents.values()))


def assert_each_has_its_own(clinic: Clinic, contents: dict[str, bytes]) -> None:
    """Every recording is in done/, and has the transcript of its own content under its own name."""
    found = {name: transcript["source"]["sha256"] for name, transcript in by_source(clinic).items()}
    assert found == {name: sha256(content) for name, content in contents.items()}
    assert len(clinic.files(clinic.outbox)) == 2 * len(contents)
    done = [(clinic.done / name).read_bytes() for name in clinic.files(clinic.done)]
    assert sorted(done) == sorted(contents.values())
    assert clinic.files(clinic.failed) == []
    assert_all_quiet(clinic)


@pytest.mark.parametrize("taken", ["letter.wav", "letter.wav.error.json"])
def test_18_a_renamed_failure_keeps_its_error_file_beside_it(clinic: Clinic, taken: str) -> None:
    put(clinic, "letter.wav", LETTER)
    daemons = Daemons()
    try:
        # Right after its name in failed/ was chosen.
        killed = daemons.run(clinic, "run", "--once", fate=Fate(Death("move", 2)))
    finally:
        daemons.close()
    assert killed == -signal.SIGKILL
    assert [(job["state"], job["filed_as"]) for job in jobs(clinic)] == [("failing", "letter.wav")]
    (clinic.failed / taken).write_text("somebody else's")
    assert clinic.once() == 1
    assert clinic.files(clinic.failed) == ["letter-2.wav", "letter-2.wav.error.json", taken]
    assert (clinic.failed / "letter-2.wav").read_bytes() == LETTER
    assert reason_for(clinic, "letter-2.wav")["code"] == "not_audio"
    assert (clinic.failed / taken).read_text() == "somebody else's"
    assert_all_quiet(clinic)


def test_18_failures_named_like_error_files_keep_their_own(clinic: Clinic) -> None:
    names = ["x.wav", "x.wav.error.json", "x.wav.error.json.error.json"]
    for number, name in enumerate(names):
        put(clinic, name, LETTER + bytes([number + 65]))
    assert clinic.once() == 1
    failed = clinic.files(clinic.failed)
    written = [name for name in failed if (clinic.failed / name).read_bytes().startswith(b"{")]
    reasons = {name: json.loads((clinic.failed / name).read_bytes()) for name in written}
    assert sorted(reason["source"]["name"] for reason in reasons.values()) == names
    assert sorted(failed) == sorted([*reasons, *(name.removesuffix(".error.json") for name in reasons)])
    for name, reason in reasons.items():
        content = (clinic.failed / name.removesuffix(".error.json")).read_bytes()
        assert content == LETTER + bytes([names.index(reason["source"]["name"]) + 65])


@pytest.fixture
def caseless(tmp_path: Path) -> Iterator[Path]:
    """A folder on an NTFS where, as on Windows, `A` and `a` are one name."""
    image, folder = tmp_path / "ntfs", tmp_path / "caseless"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["/usr/sbin/mkntfs", "-q", "-F", "-T", str(image)], check=True, capture_output=True)
    subprocess.run(["lowntfs-3g", "-o", "ignore_case", str(image), str(folder)], check=True)
    try:
        (folder / "A").touch()
        assert (folder / "a").exists()
        (folder / "a").unlink()
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.needs("root", "mkntfs", "lowntfs-3g")
@pytest.mark.parametrize("one_by_one", [False, True], ids=["together", "one by one"])
def test_18_a_case_insensitive_outbox_keeps_them_all(
    tmp_path: Path, api: Sandbox, caseless: Path, one_by_one: bool
) -> None:
    folders = {"root": str(tmp_path / "clinic"), "outbox": str(caseless / "outbox")}
    clinic = Clinic(tmp_path / "clinic", api.base_url, folders=folders)
    clinic.outbox = caseless / "outbox"
    contents = {name: tone(tmp_path, 300 + number) for number, name in enumerate(ALIKE)}
    for name, content in contents.items():
        put(clinic, name, content)
        if one_by_one:
            assert clinic.once() == 0
    assert clinic.once() == 0
    assert_each_has_its_own(clinic, contents)


@pytest.mark.needs("root", "mkntfs", "lowntfs-3g")
def test_18_a_case_insensitive_tree_keeps_them_all(tmp_path: Path, api: Sandbox, caseless: Path) -> None:
    state = {"directory": str(tmp_path / "state")}
    clinic = Clinic(caseless / "clinic", api.base_url, state=state)
    contents = [tone(tmp_path, 300 + number) for number in range(3)]
    for name, content in zip(["Smith.wav", "smith.wav", "SMITH.WAV"], contents, strict=True):
        put(clinic, name, content)
        assert clinic.once() == 0
    (clinic.outbox / "JONES.SRT").write_text("somebody else's")
    put(clinic, "jones.wav", tone(tmp_path, 400))
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["jones-2.wav", "smith-2.wav", "smith-3.wav", "smith.wav"]
    for name, content in zip(["smith.wav", "smith-2.wav", "smith-3.wav"], contents, strict=True):
        assert_own_transcript(clinic, name, content)
    assert (clinic.outbox / "jones.srt").read_text() == "somebody else's"
    assert len(clinic.files(clinic.outbox)) == 9


# ---- 19: names of others -----------------------------------------------------------------------------------

IGNORED = [".DS_Store", "._x.wav", ".hidden.wav", "Thumbs.db", "THUMBS.DB", "desktop.ini", "x.wav.part"]
IGNORED += ["x.wav.partial", "x.wav.filepart", "x.wav.crdownload", "x.wav.download", "x.wav.tmp", "X.WAV.TMP"]
IGNORED += [
    "~$x.wav",
    ".syncthing.x.tmp",
    ".~lock.x.wav#",
    ".x.wav.AbC123",
    "@eaDir/x.wav",
    "ward/@eaDir/y/x.wav",
]
IGNORED += [
    ".Trash-1000/files/x.wav",
    "#recycle/x.wav",
    "$RECYCLE.BIN/x.wav",
    "lost+found/x.wav",
    "draft x.wav",
]


def test_71_litter_of_known_programs_is_left_alone(tmp_path: Path, api: Sandbox) -> None:
    """Each a whole recording, as the deleted ones of a NAS are; and recordings with names like theirs."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch={"rescan_seconds": 1})
    content = tone(tmp_path, 440)
    for name in list(LITTER)[::2]:
        put(clinic, name, content)
    with running(clinic):
        for name in list(LITTER)[1::2]:
            put(clinic, name, content)
        wanted = [name for name in RECORDINGS if name not in ("@Recycle", "#recycle")]  # folders, here
        for name in wanted:
            put(clinic, name, content)
        wait_for("the recordings are done", lambda: len(clinic.files(clinic.done)) == len(wanted))
        time.sleep(2)  # longer than a rescan and than our patience
        assert clinic.files(clinic.inbox) == sorted(LITTER)
    assert len(clinic.events("claimed")) == len(wanted)
    assert clinic.files(clinic.failed) == []
    assert len(uploaded(api)) == 1


def test_71_explain_names_the_program(clinic: Clinic) -> None:
    put(clinic, "@Recycle/x.wav", b"")
    shown = clinic.run("explain", str(clinic.inbox / "@Recycle" / "x.wav"))
    assert "Names like this are ignored: @Recycle/ (QNAP: deleted files)" in shown.stdout
    assert shown.returncode == 1


def test_19_files_of_other_software_stay_where_they_are(tmp_path: Path, api: Sandbox) -> None:
    watch = {"settle_seconds": 0.3, "rescan_seconds": 1, "patience_seconds": 1.5, "ignore": ["draft *"]}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=watch)
    content = tone(tmp_path, 440)
    for name in IGNORED[::2]:
        put(clinic, name, content)
    with running(clinic):
        for name in IGNORED[1::2]:
            put(clinic, name, content)
        put(clinic, "@eaDir.wav", tone(tmp_path, 500))  # not a folder: its name only looks like one
        wait_for("the recording is done", lambda: clinic.files(clinic.done) == ["@eaDir.wav"])
        time.sleep(2)  # longer than a rescan and than our patience
        assert clinic.files(clinic.inbox) == sorted(IGNORED)
        assert len(clinic.events("claimed")) == 1
        assert clinic.files(clinic.failed) == []
        os.rename(clinic.inbox / "x.wav.part", clinic.inbox / "x.wav")
        wait_for("it is taken once it has its name", lambda: "x.wav" in clinic.files(clinic.done))
    assert_own_transcript(clinic, "x.wav", content)
    assert len(uploaded(api)) == 2
