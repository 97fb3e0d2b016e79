"""The command line as a person or a script meets it: what is printed where, and every exit status."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from invox_watcher import __version__
from invox_watcher.inbox.mounts import mount_of
from invox_watcher.sandbox.server import Sandbox
from tests.support import Clinic, sandbox, write_wav

QUICK = {"settle_seconds": 0.05, "patience_seconds": 1.5}


def run(
    *arguments: str, environ: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """One command without any configuration given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INVOX_")}
    return subprocess.run(
        [sys.executable, "-m", "invox_watcher", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=inherited | {"PYTHONPATH": os.getcwd()} | (environ or {}),
        cwd=cwd,
    )


def clinic_of_two(folder: Path) -> Clinic:
    """A clinic after one good recording and one bad one."""
    with sandbox(folder / "api") as api:
        clinic = Clinic(folder / "clinic", api.base_url, watch=QUICK)
        write_wav(clinic.inbox / "ward 3" / "smith.wav")
        (clinic.inbox / "letter.wav").write_text("Dear colleague,\nthank you for referring this patient.\n")
        assert clinic.once() == 1
    return clinic


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    """A clinic of two for the tests that only look."""
    return clinic_of_two(tmp_path_factory.mktemp("looked-at"))


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    """A clinic of two of the test's own."""
    return clinic_of_two(tmp_path)


def ids(clinic: Clinic) -> dict[str, str]:
    """The id of each recording."""
    return {job["path"]: job["id"] for job in json.loads(clinic.run("jobs", "--all", "--json").stdout)}


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
        ("jobs", "--all", "--state", "done"),
        ("jobs", "--state", "lost"),
        ("jobs", "--limit", "many"),
        ("jobs", "--limit", "0"),
        ("jobs", "--limit", "-1"),
        ("config",),
        ("config", "examples"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_64_and_shows_the_usage(arguments: tuple[str, ...]) -> None:
    wrong = run(*arguments)
    assert wrong.returncode == 64
    assert wrong.stdout == ""
    assert wrong.stderr.startswith("usage: invox-watcher")


def test_help_and_version_go_to_standard_output() -> None:
    shown = run("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    for command in ("run", "check", "jobs", "show", "retry", "config", "sandbox", "demo"):
        assert re.search(rf"^    {command} ", shown.stdout, re.MULTILINE)
    for status in ("0 well", "1 some", "64 usage", "69 API", "75 try", "77 permission", "78 configuration"):
        assert status in " ".join(shown.stdout.split())
    assert run("--version").stdout == f"invox-watcher {__version__}\n"


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
  formats: [json, docx]
"""


@pytest.mark.parametrize("command", [("run", "--once"), ("check",)])
def test_everything_wrong_with_the_configuration_is_told_at_once(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
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


def test_the_configuration_is_found_by_option_variable_or_default_place(tmp_path: Path) -> None:
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


# ---- check -------------------------------------------------------------------------------------------------


def test_check_says_ok_line_by_line(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    good = clinic.run("check")
    assert (good.returncode, good.stderr) == (0, "")
    names = ["configuration", "folders", "state", "credentials and API"]
    as_json = json.loads(clinic.run("check", "--json").stdout)
    if mount_of(os.path.realpath(tmp_path)).type == "tmpfs":  # as /tmp often is: two warnings are right then
        assert "failed" not in good.stdout
        return
    assert good.stdout == "".join(f"ok       {name}\n" for name in names)
    assert [row["problem"] for row in as_json] == [None] * 4


def test_check_tells_every_problem_and_the_first_ones_status(tmp_path: Path, api: Sandbox) -> None:
    wrong = {"app_id": "sandbox-app", "api_key": "not-the-key"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, credentials=wrong)
    refused = clinic.run("check")
    assert refused.returncode == 77
    assert "failed   credentials and API: " in refused.stdout
    assert "Check credentials.app_id" in refused.stdout
    assert "not-the-key" not in refused.stdout

    (clinic.root / "done").rmdir()
    (clinic.root / "done").write_text("")
    refused = clinic.run("check", "--json")
    assert refused.returncode == 78
    problems = {row["check"]: row["problem"] for row in json.loads(refused.stdout)}
    assert problems["configuration"] is None
    assert "folders.done" in problems["folders"]
    assert "credentials" in problems["credentials and API"]


def test_check_of_an_api_that_is_down_is_69(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api") as api:
        base_url = api.base_url
    down = Clinic(tmp_path / "clinic", base_url).run("check")
    assert down.returncode == 69
    assert "failed   credentials and API: " in down.stdout


# ---- the journal -------------------------------------------------------------------------------------------


def test_before_the_first_run_there_is_nothing_to_ask(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    for command in (("jobs",), ("show", "an-id"), ("retry", "--all")):
        asked = clinic.run(*command)
        assert asked.returncode == 75
        assert "There is no journal at" in asked.stderr
    assert not (clinic.root / "state").exists()


def test_jobs_lists_what_is_asked_for(looked_at: Clinic) -> None:
    assert looked_at.run("jobs").stdout == "Nothing under way. done: 1, failed: 1.\n"
    assert looked_at.run("jobs", "--json").stdout == "[]\n"
    everything = looked_at.run("jobs", "--all").stdout
    assert re.search(
        r"^\S+  done +\d{4}-\d\d-\d\d [\d:]+[+-]\d\d:\d\d  ward 3/smith.wav$", everything, re.MULTILINE
    )
    assert re.search(r"^\S+  failed .*  letter.wav  not_audio$", everything, re.MULTILINE)
    failed = json.loads(looked_at.run("jobs", "--state", "failed", "--json").stdout)
    assert [job["path"] for job in failed] == ["letter.wav"]
    assert failed[0]["failure"]["code"] == "not_audio"
    assert failed[0]["received_at"].endswith("Z")
    assert len(looked_at.run("jobs", "--all", "--limit", "1").stdout.splitlines()) == 1


def test_show_tells_the_life_of_one_recording(looked_at: Clinic) -> None:
    job_id = ids(looked_at)["ward 3/smith.wav"]
    shown = looked_at.run("show", job_id)
    assert shown.returncode == 0
    assert re.search(r"^path +ward 3/smith.wav$", shown.stdout, re.MULTILINE)
    states = re.findall(r"^\d{4}-\d\d-\d\d [\d:]+[+-]\d\d:\d\d  (\w+)", shown.stdout, re.MULTILINE)
    assert states == [
        "claimed", "identified", "uploading", "waiting", "transcribed", "delivered", "done",
    ]  # fmt: skip
    as_json = json.loads(looked_at.run("show", job_id, "--json").stdout)
    assert as_json["state"] == "done"
    assert [moment["state"] for moment in as_json["history"]] == states
    assert all(moment["at"].endswith("Z") for moment in as_json["history"])


def test_show_says_why_a_recording_failed(looked_at: Clinic) -> None:
    shown = looked_at.run("show", ids(looked_at)["letter.wav"]).stdout
    for name, value in (
        ("failed_at_stage", "claimed"),
        ("code", "not_audio"),
        ("hint", "This is not a sound"),
    ):
        assert re.search(rf"^{name} +{value}", shown, re.MULTILINE)
    assert re.search(r"^received_at +\d{4}-\d\d-\d\d [\d:]+[+-]\d\d:\d\d$", shown, re.MULTILINE)
    assert "Failure(" not in shown
    assert "{" not in shown


def test_retry_brings_a_failed_recording_back(clinic: Clinic) -> None:
    job_id = ids(clinic)["letter.wav"]
    back = clinic.run("retry", job_id)
    assert (back.returncode, back.stdout) == (0, f"{job_id}: back in the inbox as letter.wav\n")
    assert clinic.files(clinic.inbox) == ["letter.wav"]
    assert clinic.files(clinic.failed) == []
    again = clinic.run("retry", job_id)
    assert again.returncode == 1
    assert "no longer in failed/" in again.stderr
    assert clinic.run("retry", "--all").stdout == "No failed recording lies in the failed folder.\n"


def test_retry_all_brings_back_every_one_without_overwriting(clinic: Clinic) -> None:
    (clinic.inbox / "letter.wav").write_text("another letter\n")
    assert clinic.once() == 1
    (clinic.inbox / "letter.wav").write_text("a third letter\n")
    back = clinic.run("retry", "--all")
    assert back.returncode == 0
    assert len(back.stdout.splitlines()) == 2
    letters = {path.read_text().split()[0] for path in clinic.inbox.glob("*.wav")}
    assert letters == {"Dear", "another", "a"}
    assert (clinic.inbox / "letter.wav").read_text() == "a third letter\n"
    assert clinic.files(clinic.failed) == []


def test_what_can_not_be_asked_for_is_64(looked_at: Clinic) -> None:
    for command in (("show", "nonsense"), ("retry", "nonsense")):
        unknown = looked_at.run(*command)
        assert unknown.returncode == 64
        assert "No job has the id nonsense." in unknown.stderr
        assert "jobs --all" in unknown.stderr
    done = looked_at.run("retry", ids(looked_at)["ward 3/smith.wav"])
    assert done.returncode == 64
    assert "is done, not failed" in done.stderr


def test_hostile_names_are_printed_as_harmless_text(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    hostile = "a\n\x1b[31m\u202e\udcff.wav"
    (clinic.inbox / hostile).write_text("a letter\n")
    assert clinic.once() == 1
    job_id = ids(clinic)[hostile]
    for command in (("jobs", "--all"), ("show", job_id), ("retry", job_id)):
        shown = clinic.run(*command)
        assert shown.returncode == 0
        assert all(line.isprintable() for line in shown.stdout.splitlines())
        assert r"\x1b[31m\u202e\udcff" in shown.stdout


def test_a_reader_that_leaves_is_no_error(looked_at: Clinic) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        left = subprocess.run(
            looked_at.command("jobs", "--all"), stdout=output, stderr=subprocess.PIPE, check=False
        )
    assert (left.returncode, left.stderr) == (0, b"")


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


def test_looking_needs_no_credentials(clinic: Clinic) -> None:
    job = ids(clinic)["letter.wav"]
    text = clinic.config.read_text().replace("sandbox-key", "${A_SECRET_OF_THE_SERVICE}")
    clinic.config.write_text(text)
    assert clinic.run("run", "--once").returncode == 78
    assert job in clinic.run("jobs", "--all").stdout
    shown = clinic.run("show", job)
    assert shown.returncode == 0
    assert re.search(r"^code +not_audio$", shown.stdout, re.MULTILINE)
    assert clinic.run("retry", job).returncode == 0


def test_check_finds_what_would_keep_run_from_starting(tmp_path: Path, api: Sandbox) -> None:
    root = tmp_path / "clinic"
    inside = Clinic(root, api.base_url, state={"directory": str(root / "inbox" / "state")})
    result = inside.run("check")
    assert result.returncode == 78
    assert "failed   state: state.directory" in result.stdout
    foreign = Clinic(root, api.base_url, http={"listen": "192.0.2.1:8787"}).run("check")  # RFC 5737: nobody's
    assert foreign.returncode == 78
    assert "failed   http.listen: http.listen: can't listen on 192.0.2.1:8787" in foreign.stdout
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        tempfile.TemporaryDirectory(dir="/dev/shm") as in_memory,
    ):
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        clinic = Clinic(root, api.base_url, http={"listen": listen}, folders={"root": in_memory})
        result = clinic.run("check")
    assert result.returncode == 0
    assert f"warning  http.listen: {listen} is in use: by this daemon, if it is running" in result.stdout
    assert re.search(
        r"^warning  folders: .* lies on tmpfs, which does not survive", result.stdout, re.MULTILINE
    )
