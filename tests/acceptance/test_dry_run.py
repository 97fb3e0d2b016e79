"""`run --once --dry-run`: what would be done, while nothing is moved, written or sent; and `config show`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import yaml

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic
from tests.kit.commands import QUICK, run
from tests.kit.recordings import write_wav


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of all that is below it; SQLite's own files for readers come and go."""
    found = {}
    for current, folders, names in os.walk(folder):
        for name in (*folders, *names):
            status = os.lstat(path := os.path.join(current, name))
            if "journal.sqlite-" not in name and name != "state":
                found[path] = (status.st_size, status.st_mtime_ns)
    return found


def test_a_dry_run_tells_all_and_changes_nothing(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "new.wav", pitch=400)
    before = tree(clinic.root)
    first = clinic.run("run", "--once", "--dry-run")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("upload  new.wav: WAV (PCM), ")
    assert tree(clinic.root) == before  # not even folders or a journal

    assert clinic.once() == 0
    write_wav(clinic.inbox / "again.wav", pitch=400)
    write_wav(clinic.inbox / "ward" / "one.wav", pitch=500)
    write_wav(clinic.inbox / "ward" / "two.wav", pitch=500)
    (clinic.inbox / "letter.wav").write_text("Dear colleague,\n")
    (clinic.inbox / "half.part").write_text("x")
    before, calls = tree(clinic.root), api.stats()
    second = clinic.run("run", "--once", "--dry-run")
    lines = second.stdout.splitlines()
    assert [line.partition(":")[0].split() for line in lines[:-1]] == [
        ["reuse", "again.wav"],
        ["left", "half.part"],
        ["failed", "letter.wav"],
        ["upload", "ward/one.wav"],
        ["reuse", "ward/two.wav"],
    ]
    size = (clinic.inbox / "ward" / "one.wav").stat().st_size
    assert lines[-1] == (
        f"1 would be uploaded ({size} bytes), 2 would get a known transcript without an upload, 1 would be "
        "moved to failed/, 1 would be ignored. Nothing was moved, written or sent."
    )
    assert (tree(clinic.root), api.stats()) == (before, calls)
    assert clinic.run("run", "--dry-run").returncode == 64

    assert clinic.once() == 1
    assert api.stats()["uploads"] == calls["uploads"] + 1  # as it said


SECRETS = ("tell-no-one", "proxy-word", "url-word", "from-variable", "from-file", "from-systemd")


def configuration(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file with values and secrets of every origin, and the environment that it needs."""
    (tmp_path / "key").write_text("from-file\n")
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "app_secret").write_text("from-systemd\n")
    file = tmp_path / "config.yaml"
    file.write_text(f"""\
api:
  base_url: https://api.example.com
  headers: {{X-Auth: tell-no-one, Accept-Language: es, X-Own: "${{WORD}}", x-api-key: "{{api_key}}"}}
  proxy: http://me:proxy-word@proxy.example.com:3128
credentials:
  app_id: ${{WORD}}
  api_key_file: {tmp_path}/key
folders: {{root: "{tmp_path}/${{WARD}}"}}
watch:
webhook: {{enabled: true, public_url: "https://in.example.com/webhook?t=url-word"}}
""")
    service = str(tmp_path / "service")
    return file, {"WARD": "ward3", "WORD": "from-variable", "CREDENTIALS_DIRECTORY": service}


def test_the_configuration_in_effect_names_origins_and_no_secret(tmp_path: Path) -> None:
    file, environ = configuration(tmp_path)
    shown = run("config", "show", "--config", str(file), environ=environ)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert [secret for secret in SECRETS if secret in shown.stdout] == []
    origins = dict(line.split("  # ", 1) for line in shown.stdout.splitlines() if "  # " in line)
    origins = {entry.strip(): origin for entry, origin in origins.items()}
    assert origins["base_url: https://api.example.com"] == "line 2"
    assert origins["proxy: http://********@proxy.example.com:3128"] == "line 4"
    assert origins["app_id: '********'"] == "line 6, from $WORD"
    assert origins["api_key: '********'"] == f"line 7, file {tmp_path}/key"
    assert origins["app_secret: '********'"] == "systemd credential app_secret"
    assert origins[f"root: {tmp_path}/ward3"] == "line 8, from $WARD"
    assert origins[f"inbox: {tmp_path}/ward3/inbox"] == "default"
    assert origins["public_url: https://in.example.com/webhook?********"] == "line 10"
    assert origins["settle_seconds: 5.0"] == "default"

    # What is printed is a configuration.
    keys = yaml.safe_load(shown.stdout)
    assert keys["api"]["headers"] == {
        "X-Auth": "********",
        "Accept-Language": "es",
        "X-Own": "********",
        "x-api-key": "{api_key}",
    }
    listed = json.loads(run("config", "show", "--json", "--config", str(file), environ=environ).stdout)
    assert {"key": "watch.mode", "value": "auto", "origin": "default"} in listed


def test_the_configuration_in_effect_needs_its_variables(tmp_path: Path) -> None:
    file, environ = configuration(tmp_path)
    without = run("config", "show", "--config", str(file), environ={"WARD": "x", "WORD": "y"})
    assert "app_secret: null " in without.stdout
    del environ["WORD"]
    unset = run("config", "show", "--config", str(file), environ=environ)
    assert unset.returncode == 78  # of a header, not only of a credential
    assert "the environment variable WORD is not set" in unset.stderr
    assert run("config", "example", "--json").returncode == 64
