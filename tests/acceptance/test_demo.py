"""The demo as a person meets it: run for real with and without a terminal, refused, stopped, gone wrong."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import pytest
from rich.console import Console

from invox_watcher.demo.stage import Exhibit
from invox_watcher.demo.verdict import Outcome, report
from invox_watcher.errors import ExitStatus
from invox_watcher.job import Job, State
from invox_watcher.recording import FileIdentity
from invox_watcher.times import utc_now
from tests.kit import demo_picture
from tests.kit.browser import Browser
from tests.kit.forks import forks

DEMO = (sys.executable, "-m", "invox_watcher", "demo")
# Where the words don't matter: to recognize speech takes most of a demo's time.
DEMO_OF_PLACEHOLDERS = (
    sys.executable,
    "-c",
    "from invox_watcher.sandbox import speech; speech._recognize = speech._from_digest; "
    "import sys; from invox_watcher.cli import main; sys.exit(main(['demo', *sys.argv[1:]]))",
)
CONSULTATION_MB = 4.3
# Takes the terminal of that descriptor for its own, then becomes the program.
LOGIN = "import os, sys; os.login_tty(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclasses.dataclass(frozen=True)
class Finished:
    """A demo that ran to its end without a terminal."""

    folder: Path
    status: int
    printed: str
    errors: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One demo in ./invox-demo, its output in a pipe."""
    home = tmp_path_factory.mktemp("home")
    done = run(DEMO, home, timeout=110)
    return Finished(home / "invox-demo", done.returncode, done.stdout, done.stderr)


def run(command: Sequence[str], folder: Path, *, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=timeout,
    )  # fmt: skip


# ---- to the end, without a terminal ------------------------------------------------------------------------


@pytest.mark.slow
def test_it_succeeds(finished: Finished) -> None:
    assert (finished.status, finished.errors) == (0, "")
    assert len(re.findall(r"^ok  ", finished.printed, re.MULTILINE)) == 5
    assert "\x1b" not in finished.printed
    assert finished.printed.count("Watch it at http://127.0.0.1:") == 1


@pytest.mark.slow
def test_with_webhooks_it_succeeds_and_its_page_stays(tmp_path: Path) -> None:
    """And until Ctrl-C the page shows what happened."""
    errors = tmp_path / "errors"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(
            [*DEMO_OF_PLACEHOLDERS, "--webhook", "--page"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as demo,
    ):
        assert demo.stdout is not None
        printed = list(itertools.takewhile(lambda line: not line.startswith("The page stays"), demo.stdout))
        invited = re.fullmatch(r"Watch it at http://(.+):(\d+)/ too: name (.+), password (.+)\n", printed[-1])
        assert invited is not None, printed
        browser = Browser((invited[1], int(invited[2])))
        assert browser.sign_in(invited[3], invited[4]).status == 303
        assert "phone call.ogg" in browser.get("/find").text
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
    assert (demo.returncode, errors.read_text()) == (0, "")
    assert "ok  every result came by webhook, and was confirmed by one poll" in rest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recording", "format"),
    [
        ("consultation.wav", "WAV (PCM), 4.3 MB"),
        ("ward 3/Dr Müller/round.mp3", "MP3, "),
        ("ward 3/Dr Müller/note.m4a", "M4A (AAC), "),
        ("Ærøskøbing/visit.flac", "FLAC, "),
        ("ward 3/phone call.ogg", "Ogg Opus, "),
        ("beckett.webm", "WebM (Opus), "),
    ],
)
def test_it_shows_the_stages_of_each_recording(finished: Finished, recording: str, format: str) -> None:
    lines = [line for line in finished.printed.splitlines() if re.match(rf" *\d+\.\d s  {recording} ", line)]
    states = [line.split(recording)[1].split()[0] for line in lines]
    assert states == [
        "claimed", "identified", "uploading", "waiting", "transcribed", "delivered", "done",
    ]  # fmt: skip
    assert format in lines[0]


@pytest.mark.slow
def test_it_shows_results_a_failure_and_no_second_upload(
    finished: Finished,
) -> None:
    cues = finished.printed.partition("What was recognized: ")[2].partition("Why it failed: ")[0]
    assert re.search(r"00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n  It was the best of times", cues)
    reason = finished.printed.partition("Why it failed: ")[2]
    assert "invox-demo/failed/letter.wav.error.json" in reason
    assert "code: not_audio" in reason
    assert re.search(r"copy of round\.mp3 +identified +same content", finished.printed)
    assert "6 upload URLs and 6 uploads for 8 files" in finished.printed
    transcripts = [json.loads(path.read_text()) for path in finished.folder.glob("outbox/**/*.json")]
    assert len(transcripts) == 7
    assert [each["source"]["name"] for each in transcripts if "suspect" in each] == []  # all speech has words


@pytest.mark.slow
def test_times_go_on_across_the_windows_of_a_long_recording(finished: Finished) -> None:
    """The consultation is recognized in two windows."""
    segments = json.loads((finished.folder / "outbox/consultation.json").read_text())["segments"]
    assert "superlative degree" in segments[-1]["text"].lower()
    assert 38 < segments[-1]["end"] < 45
    assert [each["start"] for each in segments] == sorted(each["start"] for each in segments)


@pytest.mark.slow
def test_it_shows_where_everything_lies(finished: Finished) -> None:
    tree = finished.printed.partition("\ninvox-demo\n")[2].partition("What was recognized")[0]
    names = re.findall(r"[─│├└ ]*(.+)", tree)
    tops = [names.index(f"{top}/") for top in ("inbox", "processing", "outbox", "done", "failed")]
    inbox, processing, outbox, done, failed = (
        names[begin + 1 : end] for begin, end in zip(tops, [*tops[1:], None], strict=True)
    )
    assert all(name.endswith("/") for name in inbox)
    assert processing == ["(empty)"]
    assert {"round.json", "round.srt", "visit.srt", "copy of round.srt", "Dr Müller/"} <= set(outbox)
    assert {"consultation.wav", "phone call.ogg", "copy of round.mp3"} <= set(done)
    assert failed == ["letter.wav", "letter.wav.error.json"]


@pytest.mark.slow
def test_the_commands_it_ends_with_can_be_pasted(finished: Finished) -> None:
    block = finished.printed.partition("Inspect the recordings:\n")[2].partition("\n\n")[0]
    assert len(block.splitlines()) == 3
    again = finished.printed.partition("will fail again):\n")[2].partition("\n\n")[0]
    assert len(again.splitlines()) == 1
    pasted = run(["sh", "-ec", f"{block}\n{again}"], finished.folder.parent)
    assert pasted.returncode == 0, pasted.stderr
    assert "Ærøskøbing/visit.flac" in pasted.stdout  # jobs --all
    assert re.search(r"^delivered_by +polling$", pasted.stdout, re.MULTILINE)  # show ID
    assert "back in the inbox as letter.wav" in pasted.stdout  # retry ID


# ---- in a terminal -----------------------------------------------------------------------------------------


class Terminal:
    """A program in a pseudo terminal of its own, 100 by 40, which it has as its controlling terminal."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.seen = ""
        self._raw = b""
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 100))
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, str(slave), *command],
            cwd=folder,
            env=os.environ | {"TERM": "xterm-256color"},
            pass_fds=[slave],
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._master)
        self._process.terminate()
        self._process.wait(30)

    def read_until(self, condition: Callable[[str], object], seconds: float = 60) -> None:
        """Read on until `condition` holds for what was written so far, escape sequences left out."""
        give_up = time.monotonic() + seconds
        while not condition(self.seen):
            assert select.select([self._master], [], [], max(give_up - time.monotonic(), 0))[0], self.seen
            assert self._read(), f"it ended: {self.seen}"

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def end(self) -> int:
        """Read what is still to come, and return the exit status."""
        while self._read():
            pass
        return self._process.wait(30)

    def _read(self) -> bool:
        """Read some more; False at the end."""
        try:
            self._raw += os.read(self._master, 65536)
        except OSError:  # EIO: the program has closed its end
            return False
        self.seen = ESCAPES.sub("", self._raw.decode("utf-8", "replace"))
        return True


def shown_megabytes(seen: str) -> set[float]:
    """The sizes shown as uploaded while the consultation was on its way."""
    found = re.findall(r"consultation\.wav +WAV \(PCM\) +uploading +\S+ +([\d.]+) (kB|MB)", seen)
    return {float(size) / (1 if unit == "MB" else 1000) for size, unit in found}


@pytest.mark.slow
def test_the_readmes_picture_is_of_this_demo(finished: Finished) -> None:
    def steady(lines: list[str]) -> list[str]:
        """Without what differs: times, numbers, the words. The recordings end in any order."""
        first = next(number for number, line in enumerate(lines) if line.startswith("What was recognized"))
        lines = [*lines[: first + 1], *lines[lines.index("  …") :]]
        return sorted(
            re.sub(r"^ +[\d.]+ s|process \d+|:\d{5}|password \w+", "", line).rstrip()
            for line in lines
            if line
        )

    picture = demo_picture.PICTURE.read_text()
    assert steady(demo_picture.shown(picture)) == steady(
        ["$ invox-watcher demo", *demo_picture.excerpt(finished.printed)]
    )
    assert "@font-face" not in picture  # no page that shows it loads anything else


@pytest.mark.slow
def test_in_a_terminal_progress_is_live_and_ctrl_c_stops(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "invox-demo")
    with Terminal(DEMO, tmp_path) as terminal:
        terminal.read_until(lambda seen: any(0 < size < CONSULTATION_MB for size in shown_megabytes(seen)))
        terminal.read_until(lambda seen: re.search(r"round\.mp3 +MP3 +done +━+ +\d+ kB", seen))
        terminal.press(b"\x03")
        assert terminal.end() == 130
    assert "Removed the files of an earlier demo from invox-demo." in terminal.seen
    # Nothing after it: recognition was under way, and its library complains where it is unloaded at work.
    assert terminal.seen.rstrip().endswith("Stopped. The files of the demo are in invox-demo.")
    assert "Traceback" not in terminal.seen
    found = re.search(r"A daemon \(process (\d+)\)", terminal.seen)
    assert found is not None
    with pytest.raises(ProcessLookupError):
        os.kill(int(found[1]), 0)
    assert (tmp_path / "invox-demo/daemon.log").read_text().splitlines()[-1].split()[-1] == "stopped"


# ---- refused -----------------------------------------------------------------------------------------------


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("three years of work")
    refused = forks().complete(["demo", "--folder", "."], folder=tmp_path)
    assert refused.returncode == 78
    assert "thesis.odt" in refused.stderr
    assert "--folder DIRECTORY" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.odt"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["done/mine.wav", "inbox/ward 9/mine.wav", "failed/mine.wav", "notes.txt"])
def test_what_a_person_put_into_an_earlier_demo_is_left_alone(
    finished: Finished, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "invox-demo"))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    before = sorted(folder.rglob("*"))
    refused = forks().complete(["demo"], folder=tmp_path)
    assert refused.returncode == 78
    assert f"a file that is not from a demo: {name}" in refused.stderr
    assert sorted(folder.rglob("*")) == before


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path) -> None:
    blocked = "import sys; sys.modules['moonshine_voice'] = None; "
    call = "from invox_watcher.cli import main; sys.exit(main(['demo']))"
    refused = run([sys.executable, "-c", blocked + call], tmp_path)
    assert refused.returncode == 69
    assert "pip install 'PATH[sandbox]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert list(tmp_path.iterdir()) == []


# ---- gone wrong --------------------------------------------------------------------------------------------


def an_outcome(folder: Path) -> Outcome:
    """A demo of three exhibits, in which everything went well."""
    names = {"a.wav": State.DONE, "copy.wav": State.DONE, "letter.wav": State.FAILED}
    for name, state in names.items():
        write(folder / state / name)
    for name in ("a", "copy"):
        write(folder / "outbox" / f"{name}.json", '{"text": "Hello."}')
        write(folder / "outbox" / f"{name}.srt", "1\n00:00:00,000 --> 00:00:01,000\nHello.\n")
    write(folder / "failed/letter.wav.error.json", '{"code": "not_audio", "message": "", "hint": ""}')
    for name in ("inbox", "processing"):
        (folder / name).mkdir()
    exhibits = [
        Exhibit("a.wav", folder, "aa"),
        Exhibit("copy.wav", folder, "aa", copy_of="a.wav"),
        Exhibit("letter.wav", folder, "bb", is_audio=False),
    ]
    jobs = {name: a_job(name, state) for name, state in names.items()}
    jobs["copy.wav"] = dataclasses.replace(jobs["copy.wav"], delivered_by="reuse")
    calls = {"presigns": 1, "uploads": 1, "requests": [{"sha256": "aa", "uploads": 1}]}
    return Outcome(folder, exhibits, jobs, calls, daemon_status=0, webhook=False)


def a_job(path: str, state: State) -> Job:
    return Job(
        id=path, state=state, path=path, identity=FileIdentity(1, 1, 1, 1), received_at=utc_now(),
        delivered_by="polling",
    )  # fmt: skip


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def reported(outcome: Outcome) -> tuple[ExitStatus, str]:
    paper = io.StringIO()
    status = report(Console(file=paper, markup=False, soft_wrap=True), outcome)
    return status, paper.getvalue()


def with_uploads(outcome: Outcome, *requests: tuple[str, int]) -> Outcome:
    listed = [{"sha256": sha256, "uploads": uploads} for sha256, uploads in requests]
    return dataclasses.replace(outcome, calls=dict(outcome.calls) | {"requests": listed})


def without(outcome: Outcome, path: str) -> Outcome:
    (outcome.folder / path).unlink()
    return outcome


def with_job(outcome: Outcome, job: Job) -> Outcome:
    return dataclasses.replace(outcome, jobs=dict(outcome.jobs) | {job.path: job})


def test_a_successful_demo_is_reported_as_one(tmp_path: Path) -> None:
    status, printed = reported(an_outcome(tmp_path))
    assert status is ExitStatus.OK
    assert "NO  " not in printed


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda o: without(o, "outbox/a.srt"), "a.srt has no captions"),
        (lambda o: without(o, "outbox/copy.json"), "copy.json has no words"),
        (lambda o: without(o, "done/a.wav"), "a.wav: it is not in done/"),
        (lambda o: without(o, "failed/letter.wav.error.json"), "letter.wav: there is no"),
        (lambda o: with_job(o, a_job("a.wav", State.WAITING)), "a.wav: it is waiting, not done"),
        (lambda o: with_job(o, a_job("copy.wav", State.DONE)), "did not come from a.wav"),
        (lambda o: with_uploads(o, ("aa", 1), ("aa", 1)), "a.wav: the API received it 2 times"),
        (lambda o: with_uploads(o, ("aa", 1), ("bb", 1)), "letter.wav: the API received it 1 times"),
        (lambda o: dataclasses.replace(o, daemon_status=-9), "it exited with status -9"),
    ],
)
def test_a_broken_promise_is_named_and_fails_the_demo(
    tmp_path: Path, spoil: Callable[[Outcome], Outcome], problem: str
) -> None:
    status, printed = reported(spoil(an_outcome(tmp_path)))
    assert status is ExitStatus.SOME_FAILED
    assert problem in printed.partition("NO  ")[2]
