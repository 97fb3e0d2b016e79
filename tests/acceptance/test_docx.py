"""A daemon that writes documents: held up by a broken template, and never at the price of a recording."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from invox_watcher.config import load
from invox_watcher.errors import ConfigurationError
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.documents import save, text_of
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

PROFILE = {"name": "letters", "match": {"name": r"(?P<author>[a-z]+)_.*"}}


def with_template(tmp_path: Path, base_url: str, template: Path) -> Clinic:
    clinic = Clinic(tmp_path / "clinic", base_url, outputs={"formats": ["json", "docx"]})
    profiles = [{**PROFILE, "set": {"template": str(template), "attributes": {"unit": "R&D <3"}}}]
    clinic.config.write_text(clinic.config.read_text() + f"profiles: {json.dumps(profiles)}\n")
    return clinic


def test_a_document_waits_for_its_template(tmp_path: Path) -> None:
    letter = save(tmp_path / "letter.docx", "{{ author }} {{ units }}")
    with sandbox(tmp_path / "api") as api:
        clinic = with_template(tmp_path, api.base_url, letter)
        checked = clinic.run("check")
        assert "profiles[0].set.template uses what recordings do not have: units" in checked.stdout
        with running(clinic):
            write_wav(clinic.inbox / "smith_4711.wav", pitch=441)
            write_wav(clinic.inbox / "4712.wav", pitch=442)  # of no profile: the template in the package
            wait_for("the other's files", lambda: clinic.files(clinic.outbox) == ["4712.docx", "4712.json"])
            wait_for("the template's problem", lambda: bool(clinic.events("step_retry")))
            wait_for("the other is done", lambda: len(clinic.events("done")) == 1)
            (job,) = json.loads(clinic.run("jobs", "--json").stdout)
            assert job["state"] == "transcribed"
            shown = clinic.run("show", job["id"]).stdout
            assert f"The template {letter} uses units, which this recording does not have." in shown
            wait_for("not ready", lambda: "uses units" in clinic.run("status").stdout)
            wait_for("it is logged", lambda: bool(clinic.events("template_error")))
            (told,) = clinic.events("template_error")
            assert told["code"] == "missing_attribute"
            letter.unlink()
            gone = f"The template {letter} can't be read: No such file or directory."
            wait_for("its absence", lambda: gone in clinic.run("show", job["id"]).stdout)
            assert clinic.files(clinic.outbox) == ["4712.docx", "4712.json"]
            save(letter, "{{ author }} of {{ unit }}", "{{ turns[0].text }}")
            wait_for(
                "the recording's end", lambda: clinic.files(clinic.done) == ["4712.wav", "smith_4711.wav"]
            )
        assert api.stats()["uploads"] == 2
    said = clinic.transcript("smith_4711.json")["segments"][0]["text"]
    assert text_of((clinic.outbox / "smith_4711.docx").read_bytes()) == f"smith of R&D <3\n{said}"
    lines = text_of((clinic.outbox / "4712.docx").read_bytes()).split("\n")
    assert any(line.startswith("Not reviewed by a person.") for line in lines)
    assert clinic.files(clinic.failed) == []


def test_a_single_run_does_not_wait_for_a_template(tmp_path: Path) -> None:
    letter = tmp_path / "letter.docx"
    with sandbox(tmp_path / "api") as api:
        clinic = with_template(tmp_path, api.base_url, letter)
        write_wav(clinic.inbox / "smith_4711.wav")
        assert clinic.once() == 75
        assert clinic.files(clinic.outbox) == []
        save(letter, "{{ unit }}")
        assert clinic.once() == 0
        assert clinic.files(clinic.outbox) == ["smith_4711.docx", "smith_4711.json"]
        assert api.stats()["uploads"] == 1


def test_equal_bytes_in_any_process() -> None:
    program = (
        "import sys; from tests.unit.test_docx import DICTATION, NAMES, render; "
        "sys.stdout.buffer.write(render(DICTATION, 'docx', NAMES))"
    )
    first, second = (
        subprocess.run(
            [sys.executable, "-c", program],
            check=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    )  # fmt: skip
    assert first == second
    assert len(first) > 10_000


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("outputs: {formats: [json, docx]}", "outputs.formats"),
        ("profiles: [{name: a, set: {formats: [docx]}}]", "profiles[0].set.formats"),
        (
            "targets: {ehr: {kind: http, url: 'https://example.com', secret_file: /a, formats: [docx]}}",
            "targets.ehr.formats",
        ),
    ],
)
def test_without_the_extra_docx_is_no_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, key: str
) -> None:
    config = Clinic(tmp_path, "https://api.example.com").config
    config.write_text(config.read_text() + given)
    assert load(config)
    monkeypatch.setitem(sys.modules, "docxtpl", None)
    with pytest.raises(ConfigurationError) as refused:
        load(config)
    assert [problem.path for problem in refused.value.problems] == [key]
    assert "an extra and not installed: pip install 'PATH[docx]'" in str(refused.value)
