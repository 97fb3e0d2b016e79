"""Every command of the README is run, in order, in a copy of what the README says that the reader has."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
RUN = "runuser -u invox -- /opt/invox-watcher/bin/invox-watcher run"
MAKE_USER = "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin invox"
# What the reader pastes where a terminal asks.
ASKED = {"'APP Id:'": "sandbox-app", "'API Key:'": "sandbox-key"}
# Run by other means: `make demo` and the demo's own tests do the same; this test is part of `make test`. The
# user is left to the reader.
DEMOS = {f".venv/bin/invox-watcher demo --{option}" for option in ("webhook", "page")}
ELSEWHERE = {"make demo", "make test", *DEMOS, MAKE_USER}


def commands() -> list[str]:
    """The lines of all `sh` blocks, in order."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


class Reader:
    """A reader in a folder of their own who types the commands; `/` is replaced by a folder of the test."""

    def __init__(self, home: Path) -> None:
        self.home = home
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path}

    def elsewhere(self, command: str) -> str:
        """The command with the system's folders replaced by ones of the test's own."""
        # Making a user, and becoming it, is left to the reader: the test may not be root.
        command = re.sub(" -o (invox|root) -g invox", "", command).removeprefix("runuser -u invox -- ")
        for question, answer in ASKED.items():
            command = command.replace(f"systemd-ask-password {question}", f"echo {answer}")
        for folder in ("/opt", "/etc/invox-watcher", "/srv", "/var/lib"):
            command = command.replace(f" {folder}", f" {self.home}{folder}")
            command = re.sub(rf"^{folder}", f"{self.home}{folder}", command)
        return command

    def types(self, command: str) -> str:
        """Run it as a shell would; what it printed."""
        done = subprocess.run(
            ["sh", "-c", self.elsewhere(command)],
            cwd=self.home, env=self.environment, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    home = tmp_path / "clone"
    (home / ".venv/bin").mkdir(parents=True)
    (home / ".venv/bin/activate").write_text("")  # the reader's environment is the one that runs this test
    write_wav(home / "smith.wav")
    reader = Reader(home)
    sandbox = subprocess.Popen(
        # As the README says, but on a port that is free for certain.
        [sys.executable, "-m", "invox_watcher", "sandbox", "--folder", "invox-sandbox", "--port", "0"],
        cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for("the sandbox listens", (home / "invox-sandbox/config.yaml").exists)
    yield reader
    sandbox.terminate()
    sandbox.wait(20)


def test_trying_it_by_hand(reader: Reader) -> None:
    lines = commands()
    first = lines.index("invox-watcher sandbox --folder invox-sandbox") + 1
    last = lines.index("invox-watcher jobs --all") + 1
    printed = {}
    for line in lines[first:last]:
        if line.startswith("export "):
            name, value = line.removeprefix("export ").split("=")
            reader.environment[name] = value.replace("$PWD", str(reader.home))
        else:
            printed[line] = reader.types(line)
    assert not re.search("^failed", printed["invox-watcher check"], re.MULTILINE)
    assert "smith.wav" in printed["invox-watcher jobs --all"]

    (reader.home / "invox-sandbox/inbox/letter.wav").write_text("not audio\n")
    subprocess.run(
        ["invox-watcher", "run", "--once"], env=reader.environment, capture_output=True, check=False
    )
    error, show, retry = lines[-3:]
    failure = json.loads(reader.types(error))
    assert failure["code"] == "not_audio"
    assert "letter.wav" in reader.types(f"{shlex.join(show.split()[:-1])} {failure['job_id']}")
    reader.types(f"{shlex.join(retry.split()[:-1])} {failure['job_id']}")
    assert (reader.home / "invox-sandbox/inbox/letter.wav").exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_running_it_for_real(reader: Reader) -> None:
    lines = commands()
    first = next(number for number, line in enumerate(lines) if line.startswith("python3 -m venv"))
    install, pip, *others = lines[first : lines.index(RUN) + 1]
    reader.types(install.replace("python3", sys.executable))
    # pip builds where the source is
    for part in ("invox_watcher", "docs", "packaging", "systemd", "setup.py", "pyproject.toml", "README.md"):
        subprocess.run(["cp", "-r", str(ROOT / part), str(reader.home)], check=True)
    (reader.home / "LICENSE").write_bytes((ROOT / "LICENSE").read_bytes())
    reader.types(pip)
    for line in others[:-2]:
        if line != MAKE_USER:
            reader.types(line)
    configuration = reader.home / "etc/invox-watcher/config.yaml"
    base_url = re.search(r"http://\S+", (reader.home / "invox-sandbox/config.yaml").read_text())
    assert base_url is not None
    text = configuration.read_text().replace("https://api.example.com", base_url[0])
    for folder in ("/srv/dictation", "/var/lib/invox-watcher"):
        text = text.replace(f": {folder}", f": {reader.home}{folder}")
    configuration.write_text(text.replace("127.0.0.1:8787", "127.0.0.1:0"))
    reader.environment["INVOX_WATCHER_CONFIG"] = str(configuration)
    assert stat.S_IMODE((reader.home / "etc/invox-watcher/api_key").stat().st_mode) == 0o640
    assert not re.search("^failed", reader.types(others[-2]), re.MULTILINE)
    (reader.home / "srv/dictation/inbox").mkdir(exist_ok=True)
    write_wav(reader.home / "srv/dictation/inbox/smith.wav")
    reader.types(others[-1] + " --once")
    assert (reader.home / "srv/dictation/outbox/smith.json").exists()


def test_every_command_is_run_somewhere() -> None:
    lines = commands()
    by_hand = lines[: lines.index("invox-watcher jobs --all") + 1]
    for_real = [line for line in lines[len(by_hand) : -3] if line not in ELSEWHERE]
    assert set(lines) >= ELSEWHERE
    assert for_real[0].startswith("python3 -m venv")
    assert for_real[-1] == RUN
    assert [line.split()[0] for line in lines[-3:]] == ["cat", "invox-watcher", "invox-watcher"]
