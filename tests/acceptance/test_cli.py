"""The command line as a person or a script meets it: usage, help, completion, exit statuses of `run`.

What commands say of recordings is in test_cli_jobs.py, of a file in test_explain.py, of a set-up in
test_check.py.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import shlex
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from invox_watcher import version
from invox_watcher.cli._parser import build
from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic
from tests.kit.commands import QUICK, run, terminal
from tests.kit.recordings import write_wav

COMMANDS = (
    *("run", "start", "stop", "status", "check", "jobs", "show", "inbox", "explain", "retry", "forget"),
    *("hooks", "backup", "config", "completion", "help", "sandbox", "demo"),
)


# ---- usage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("transcribe",),
        ("run", "--twice"),
        ("show",),
        ("retry",),
        ("retry", "an-id", "--all"),
        ("retry", "--all", "--code", "not_audio"),
        ("explain",),
        ("completion",),
        ("completion", "fish"),
        ("jobs", "--all", "--state", "done"),
        ("jobs", "--all", "--failed"),
        ("jobs", "--state", "lost"),
        ("jobs", "--since", "last week"),
        ("jobs", "--until", "tomorrow"),
        ("jobs", "--watch", "--wide"),
        ("jobs", "--since", "99999999999w"),
        ("jobs", "--watch", "--json"),
        ("jobs", "--limit", "many"),
        ("jobs", "--limit", "0"),
        ("jobs", "--limit", "-1"),
        ("config",),
        ("config", "examples"),
        ("check", "--config", ""),
        ("explain", ""),
        ("show", ""),
        ("retry", ""),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_64_and_shows_the_usage(arguments: tuple[str, ...]) -> None:
    wrong = run(*arguments)
    assert wrong.returncode == 64
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("usage: invox-watcher")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["chek"], "there is no command chek; did you mean check?"),
        (["zzz"], "there is no command zzz, see `invox-watcher help`"),
        (["jobs", "--sate", "done"], "unrecognized arguments: --sate done; did you mean --state?"),
        (["help", "chek"], "there is no command chek; did you mean check?"),
        (["sandbox", "--port", "99999"], "argument --port: must be a number from 0 (any free port) to 65535"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_slip_is_answered_by_what_was_meant(arguments: list[str], says: str) -> None:
    wrong = run(*arguments)
    assert (wrong.returncode, wrong.stdout) == (64, "")
    assert wrong.stderr.splitlines()[-1].endswith(f": {says}")


def test_help_and_version_have_short_forms() -> None:
    assert run("help").stdout == run("--help").stdout
    assert run("help", "jobs").stdout == run("jobs", "--help").stdout
    assert run("-V").stdout == run("--version").stdout


def test_on_a_terminal_run_is_for_people_and_sums_up(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "smith.wav")
    (clinic.inbox / "letter.wav").write_text("Dear colleague")
    with terminal(clinic.command("run", "--once"), columns=300) as screen:
        assert screen.ended(seconds=60) == 1
    lines = screen.raw.replace("\r", "").splitlines()
    assert re.match(r"....-..-..T..:..:..Z info    started ", lines[0])
    assert lines[-1] == "1 done, 1 failed."
    (clinic.inbox / "empty.wav").touch()
    assert clinic.once() == 75
    assert clinic.events()[-1]["event"] == "stopped"
    assert "1 left in the inbox" not in clinic.log.read_text()


def test_the_sandboxs_files_are_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "config.yaml").touch(0o644)
    command = [sys.executable, "-m", "invox_watcher", "sandbox", "--folder", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert any("Ctrl-C stops the sandbox" in line for line in process.stdout)
        checked = run("check", "--config", str(folder / "config.yaml"))
        process.terminate()
    assert "ok       credentials files" in checked.stdout
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in folder.rglob("*")} == {0}


def test_check_prints_each_finding_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        clinic = Clinic(tmp_path / "clinic", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with subprocess.Popen(clinic.command("check"), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            assert next(lines).startswith("ok       configuration: ")
            assert any(line.startswith("ok       formats: ") for line in lines)  # the last before the API
            assert process.poll() is None
            process.kill()


def test_arguments_are_echoed_as_harmless_text(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    assert clinic.once() == 0
    hostile = "\x1b[31mx\u202e"
    for command in (("show", hostile), ("retry", hostile), ("retry", "--code", hostile), ("jobs", hostile)):
        said = clinic.run(*command)
        assert r"\x1b[31mx\u202e" in said.stdout + said.stderr, command
        assert "\x1b" not in said.stdout + said.stderr
    refused = run("check", "--config", str(tmp_path / hostile))
    assert refused.stderr.count("\n") == 2  # and what has several lines keeps them
    assert r"\x1b[31m" in refused.stderr


def test_help_and_version_go_to_standard_output() -> None:
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^    {command} ", shown.stdout, re.MULTILINE)
    for status in (
        "0 success",
        "1 a recording",
        "64 usage",
        "69 API",
        "75 try",
        "77 permission",
        "78 configuration",
    ):
        assert status in " ".join(shown.stdout.split())
    first, clone, last = run("--version").stdout.splitlines()
    assert first == f"invox-watcher {version()}"
    # The tests run from a clone, whose files may be newer than what pip noted.
    assert re.fullmatch(rf"runs from {Path.cwd()}, now at commit ([0-9a-f]+(-dirty)?|unknown)", clone)
    assert f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, Linux" in last


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    shown = run(command, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith(f"usage: invox-watcher {command} ")
    examples = shown.stdout.partition("\nexamples:\n")[2].splitlines()
    assert examples
    parser = build()
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "invox-watcher"
        if ">" in words:
            words = words[: words.index(">")]
        assert parser.parse_args(words).parser.prog == f"invox-watcher {command}"
    assert max(map(len, shown.stdout.splitlines())) <= 100


def test_every_command_leads_somewhere() -> None:
    needed = {"show": ["an-id"], "explain": ["a-file"], "config": ["example"], "completion": ["bash"]}
    needed["hooks"] = ["test"]
    needed["backup"], needed["forget"] = ["a-file"], ["a-target"]
    for command in COMMANDS:
        module, function = build().parse_args([command, *needed.get(command, [])]).command.split(":")
        assert callable(getattr(importlib.import_module(f"invox_watcher.cli.{module}"), function))


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from invox_watcher.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stderr.split()
    heavy = {"sqlite3", "pydantic", "requests", "starlette", "uvicorn", "watchdog", "av"}
    assert heavy.isdisjoint(loaded)


# ---- completion --------------------------------------------------------------------------------------------


def completed(*words: str, folder: Path) -> list[str]:
    """What bash offers after these words."""
    script = run("completion", "bash")
    assert (script.returncode, script.stderr) == (0, "")
    (folder / "script").write_text(script.stdout)
    line = shlex.join(words) if words[-1] else f"{shlex.join(words[:-1])} ''"
    lines = [
        ". ./script",
        f"COMP_WORDS=(invox-watcher {line})",
        f"COMP_CWORD={len(words)}",
        'spec=$(complete -p invox-watcher); function=${spec##*-F }; "${function% *}" invox-watcher',
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    bash = subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert bash.stderr == ""
    return bash.stdout.split()


def test_bash_completes_commands_options_choices_and_files(tmp_path: Path) -> None:
    (tmp_path / "smith.wav").write_text("")
    assert set(completed("", folder=tmp_path)) >= set(COMMANDS)
    assert completed("exp", folder=tmp_path) == ["explain"]
    assert "--watch" in completed("jobs", "--w", folder=tmp_path)
    assert completed("config", "sch", folder=tmp_path) == ["schema"]
    assert completed("jobs", "--state", "fail", folder=tmp_path) == ["failing", "failed"]
    assert completed("explain", "smi", folder=tmp_path) == ["smith.wav"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_the_other_shells_get_a_script_with_every_command(shell: str) -> None:
    script = run("completion", shell)
    assert (script.returncode, script.stderr) == (0, "")
    assert [command for command in COMMANDS if command not in script.stdout] == []


# ---- configuration -----------------------------------------------------------------------------------------

WRONG = """\
api:
  base_url: http://api.example.com
  read_timeout_seconds: .nan
credentials:
  app_id: ${NOT_SET_ANYWHERE}
folders:
  root: dictation
polling:
  max_secnods: 10
retry:
  base_seconds: 900
watch:
  recursive: "yes"
outputs:
  formats: [json, odt]
"""


@pytest.mark.parametrize("command", [("run", "--once"), ("check",)])
def test_every_problem_of_the_configuration_is_reported(tmp_path: Path, command: tuple[str, ...]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(WRONG)
    refused = run(*command, "--config", str(config))
    assert refused.returncode == 78
    assert refused.stdout == ""
    first, *problems = refused.stderr.splitlines()
    assert first == f"invox-watcher: {config}: 9 problems"
    told = [re.match(r"  (?:line (\d+): )?([\w.]+)", problem) for problem in problems]
    assert [(int(match[1] or 0), match[2]) for match in told if match] == [
        (2, "api.base_url"),
        (3, "api.read_timeout_seconds"),
        (4, "credentials.api_key"),
        (5, "credentials.app_id"),
        (7, "folders.root"),
        (9, "polling.max_secnods"),
        (11, "retry.base_seconds"),
        (13, "watch.recursive"),
        (15, "outputs.formats"),
    ]
    assert "did you mean polling.max_seconds?" in refused.stderr


def test_a_missing_credential_says_where_it_could_come_from(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("api: {base_url: 'https://api.example.com'}\nfolders: {root: /nowhere}\n")
    refused = run("check", "--config", str(config))
    assert refused.returncode == 78
    for name in ("app_id", "api_key"):
        assert f"credentials.{name}: is missing" in refused.stderr
        assert f"LoadCredential={name}:" in refused.stderr


def test_the_configuration_is_found_in_three_ways(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("")
    assert str(config) in run("check", "--config", str(config)).stderr
    assert str(config) in run("check", environ={"INVOX_WATCHER_CONFIG": str(config)}).stderr
    assert "--config FILE" in run("check", "--config", str(tmp_path / "none.yaml")).stderr
    missing = run("check", environ={"INVOX_WATCHER_CONFIG": ""})
    assert missing.returncode == 78
    assert "/etc/invox-watcher/config.yaml" in missing.stderr


def test_the_example_is_valid_yaml_with_every_section() -> None:
    example = run("config", "example")
    assert (example.returncode, example.stderr) == (0, "")
    schema = json.loads(run("config", "schema").stdout)
    assert set(schema["properties"]) >= {"api", "credentials", "folders", "watch", "retry", "logging"}
    for section in schema["properties"]:
        assert re.search(rf"^(# ?)?{section}:", example.stdout, re.MULTILINE), section
    assert yaml.safe_load(example.stdout)["folders"]["root"]


# ---- run ---------------------------------------------------------------------------------------------------


def test_once_with_nothing_to_do_is_0(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    assert clinic.once() == 0
    assert api.stats()["tokens"] == 0


def test_once_with_a_recording_that_is_not_finished_is_75(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(
        tmp_path / "clinic", api.base_url, watch={"settle_seconds": 0.05, "patience_seconds": 600}
    )
    whole = write_wav(clinic.root / "whole.wav").read_bytes()
    (clinic.inbox / "half.wav").write_bytes(whole[: len(whole) // 2])
    assert clinic.once() == 75
    assert clinic.files(clinic.inbox) == ["half.wav"]


def test_a_state_folder_that_can_not_be_made_is_78(tmp_path: Path, api: Sandbox) -> None:
    (tmp_path / "file").write_text("")
    state = {"directory": str(tmp_path / "file" / "state")}
    refused = Clinic(tmp_path / "clinic", api.base_url, state=state).run("run", "--once")
    assert refused.returncode == 78
    assert "state.directory: can't write in" in refused.stderr
    assert "install -d" in refused.stderr


def test_a_damaged_journal_is_75_and_no_recording_is_taken(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "smith.wav")
    (clinic.root / "state").mkdir()
    (clinic.root / "state" / "journal.sqlite").write_bytes(b"not a database at all\n" * 100)
    refused = clinic.run("run", "--once")
    assert refused.returncode == 75
    assert "not a database" in refused.stderr
    assert clinic.files(clinic.inbox) == ["smith.wav"]


# ---- standard streams --------------------------------------------------------------------------------------


def in_shell(clinic: Clinic, command: str) -> subprocess.CompletedProcess[str]:
    """A shell's command line, in which `invox` is the program."""
    invox = f'invox() {{ {shlex.join([sys.executable, "-m", "invox_watcher"])} "$@"; }}'
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", f"{invox}; {command}"], capture_output=True, text=True, timeout=60, check=False,
        env=environ | {"INVOX_WATCHER_CONFIG": str(clinic.config)},
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(tmp_path: Path, api: Sandbox, closed: str) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "smith.wav")
    assert in_shell(clinic, f"invox run --once {closed}").returncode == 0
    status = in_shell(clinic, f"invox status {closed}")
    assert (status.returncode, status.stderr) == (3, "")
    assert (status.stdout == "") == (">&-" in closed.split())
    for ours in (clinic.root / "state").iterdir():  # nothing was printed into what got a stream's number
        assert b"not running" not in ours.read_bytes()
    assert in_shell(clinic, f"invox show none {closed}").returncode == 1


@pytest.mark.parametrize(
    "command",
    [
        *("invox status", "invox jobs --all", "invox config schema", "invox --help"),
        *("PYTHONUNBUFFERED=1 invox jobs --all", "PYTHONUNBUFFERED=1 invox config schema"),
    ],
)
def test_output_that_can_not_be_written_is_75(tmp_path: Path, api: Sandbox, command: str) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    full = in_shell(clinic, f"{command} > /dev/full")
    assert full.returncode == 75
    assert full.stderr == "invox-watcher: can't write to standard output: No space left on device\n"


def test_an_error_that_can_not_be_printed_is_only_lost(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    assert in_shell(clinic, "invox jobs 2> /dev/full").returncode == 75
    clinic.config.write_text("")
    assert in_shell(clinic, "invox jobs 2> /dev/full").returncode == 78
