"""The section `targets`: what is accepted, what is said about the rest, and what the example shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from invox_watcher.assembly import target_of, targets_of
from invox_watcher.config.loading import example_yaml, json_schema, load
from invox_watcher.config.targets import SECTIONS
from invox_watcher.errors import ConfigurationError

BASE = """\
api: {base_url: 'https://api.example.com'}
credentials: {app_id: a, api_key: b}
folders: {root: /srv/dictation}
"""
MAIL = "{kind: mail, host: h, from: a@b.example, to: [c@d.example]%s}"
SFTP = "{kind: sftp, host: h, user: u, key_file: /k, known_hosts: /n%s}"
HL7 = "{kind: hl7, host: h, port: 1, document_type: CN, patient_id: '{patient}'%s}"
HTTP = "{kind: http, url: 'https://h.example/x', secret_file: /s%s}"


def problem(tmp_path: Path, targets: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(f"{BASE}targets:\n  ward: {targets}\n")
    with pytest.raises(ConfigurationError) as caught:
        load(path, {})
    (only,) = caught.value.problems
    return str(only)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("{host: h}", ": must have a kind: one of mail, sftp, hl7, fhir, http"),
        ("{kind: fax}", ": must have a kind: one of mail, sftp, hl7, fhir, http"),
        (MAIL % ", prot: 5", ".prot: is not a known key: did you mean targets.ward.port?"),
        (MAIL % ", port: x", ".port: must be a whole number such as 4, without quotes"),
        (MAIL % ", port: 70000", ".port: must be less than or equal to 65535"),
        (MAIL % ", username: u", ".password_file: is required with the other of username and password_file"),
        (
            MAIL % ", username: u, password_file: /p, tls: none",
            ".tls: must not be none with a login: its password would cross the network readable",
        ),
        (MAIL % ", subject: '{name'", ".subject: has a brace that is not part of a field"),
        (MAIL % ", subject: '{name.__class__}'", ".subject: has a brace that is not part of a field"),
        (MAIL % ', body: "a\\0"', ".body: must not contain control characters other than line ends"),
        (MAIL.replace("a@b.example", '"x@y, z@w"') % "", ".from: must be one mail address"),
        (MAIL.replace("host: h", "host: -oProxyCommand=x") % "", ".host: must be the name or the address"),
        (SFTP % ", filename: '{name}'", ".filename: must contain {job_id}, or two recordings"),
        (SFTP % ", formats: []", ".formats: must not be empty"),
        (HL7.replace("document_type: CN, ", "") % "", ".document_type: is missing, for example CN"),
        (HTTP.replace("https:", "http:") % "", ".url: must be https: with plain http anyone on the network"),
        (HTTP % ", fields: {a: '}'}", ".fields: has a brace that is not part of a field"),
    ],
)
def test_one_wrong_value(tmp_path: Path, targets: str, message: str) -> None:
    assert problem(tmp_path, targets).startswith(f"line 5: targets.ward{message}")


def test_a_name_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"{BASE}targets:\n  'Ward 3': {MAIL % ''}\n")
    with pytest.raises(ConfigurationError, match="must be a name of small letters, digits, - and _"):
        load(path, {})


def test_targets_are_assembled_by_name(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with_visit = HL7 % ", visit: '{visit}'"
    path.write_text(f"{BASE}targets:\n  post: {MAIL % ''}\n  ris: {with_visit}\n")
    targets = targets_of(load(path, {}))
    assert {name: sorted(target.attributes) for name, target in targets.items()} == {
        "post": [],
        "ris": ["patient", "visit"],
    }
    assert [target.formats for target in targets.values()] == [("txt",), ()]


def test_the_example_shows_every_kind_ready_for_use(tmp_path: Path) -> None:
    shown = example_yaml()
    block = shown[shown.index("targets: {}\n") :].partition("\n\n")[0]
    uncommented = re.sub(r"(?m)^# ?", "", block.replace("targets: {}", "targets:"))
    path = tmp_path / "config.yaml"
    path.write_text(BASE + uncommented)
    config = load(path, {})
    assert [section.kind for section in config.targets.values()] == list(SECTIONS)
    for section in config.targets.values():
        target_of(section).close()
        shown_keys = yaml.safe_load(uncommented)["targets"][f"my-{section.kind}"].keys()
        assert shown_keys == {
            field.alias or name for name, field in SECTIONS[section.kind].model_fields.items()
        }


def test_every_key_of_every_kind_is_described_in_the_schema() -> None:
    definitions = json_schema()["$defs"]
    for section in SECTIONS.values():
        for key in definitions[section.__name__]["properties"].values():
            assert key["description"]


def test_secrets_are_read_when_they_are_used(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        f"{BASE}targets:\n  ward: {MAIL % ', username: u, password_file: /nonexistent/password'}\n"
    )
    assert str(load(path, {}).targets["ward"].password_file) == "/nonexistent/password"  # type: ignore[union-attr]
