"""`check` against each reading of the vendor's API that needs a key: what it says leads to that key."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.config.loading import load
from invox_watcher.diagnostics.check._api import api as checks_of_api
from invox_watcher.sandbox.readings import READINGS
from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, sandbox
from tests.kit.recordings import write_wav
from tests.kit.vendor_keys import NEEDED, NEEDED_BY_UPLOADS, Keys, clinic_with

OF_API = frozenset({"API", "credentials", "permission", "storage", "clock"})
# One reading for each key.
FOR_EACH_KEY: dict[str, tuple[str, ...]] = {}
for _names, _keys in NEEDED.items():
    for _key in _keys:
        FOR_EACH_KEY.setdefault(_key, _names)
# What the API or the storage does wrong is no question of a key.
HOPELESS = ("no-permission", "web-filter")
WITHOUT_KEYS = sorted(
    {name for name in READINGS if not name.startswith(("webhook", "callback", "pending", "state", "words"))}
    - {name for names in (*NEEDED, *NEEDED_BY_UPLOADS) if len(names) == 1 for name in names}
    - set(HOPELESS)
)


def named(names: Sequence[str]) -> str:
    return "+".join(names)


def findings(clinic: Clinic) -> list[dict[str, Any]]:
    """What `check` finds out about the API, without the command: most of its time goes to other subjects."""
    return [dataclasses.asdict(finding) for finding in checks_of_api(load(clinic.config))]


def troubles(clinic: Clinic) -> list[dict[str, Any]]:
    return [row for row in findings(clinic) if row["level"] != "ok"]


@pytest.mark.parametrize(("names", "keys"), NEEDED.items(), ids=map(named, NEEDED))
def test_the_key_is_named(names: tuple[str, ...], keys: Keys, tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=names) as api:
        wrong = troubles(clinic_with(tmp_path / "clinic", api, {}))
        uploads = api.stats()["upload_attempts"]
    text = "\n".join(" ".join((row["check"], row["problem"], row["hint"])) for row in wrong)
    assert [key for key in keys if key not in text] == []
    assert uploads == 0
    assert all(row["hint"] for row in wrong)
    if not any(row["check"] == "credentials" for row in wrong):
        assert "credentials.api_key" not in text


@pytest.mark.parametrize("key", FOR_EACH_KEY)
def test_with_the_key_a_recording_goes_through(key: str, tmp_path: Path) -> None:
    names = FOR_EACH_KEY[key]
    with sandbox(tmp_path / "api", readings=names) as api:
        clinic = clinic_with(tmp_path / "clinic", api, NEEDED[names])
        assert troubles(clinic) == []
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 0
        assert api.stats()["upload_attempts"] == 1
    assert clinic.transcript("smith.json")["segments"]


@pytest.mark.parametrize("names", NEEDED_BY_UPLOADS, ids=named)
def test_what_only_a_recording_shows_is_named_by_try(names: tuple[str, ...], tmp_path: Path) -> None:
    keys = NEEDED_BY_UPLOADS[names]
    with sandbox(tmp_path / "api", readings=names) as api:
        clinic = clinic_with(tmp_path / "clinic", api, {})
        recording = write_wav(tmp_path / "smith.wav")
        assert troubles(clinic) == []
        tried = clinic.run("check", "--try", str(recording))
        assert tried.returncode == 69
        assert all(key in tried.stdout for key in keys)
        clinic = clinic_with(tmp_path / "clinic", api, keys)
        assert clinic.run("check", "--try", str(recording)).returncode == 0


def test_a_filter_before_storage_is_named_by_try(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("web-filter-storage",)) as api:
        clinic = clinic_with(tmp_path / "clinic", api, {})
        tried = clinic.run("check", "--try", str(write_wav(tmp_path / "smith.wav")))
    assert tried.returncode == 77
    assert "web filter" in tried.stdout


@pytest.mark.parametrize("name", WITHOUT_KEYS)
def test_what_needs_no_key_is_all_ok(name: str, tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=(name,)) as api:
        assert troubles(clinic_with(tmp_path / "clinic", api, {})) == []


def test_findings_come_in_the_order_of_the_calls(tmp_path: Path, api: Sandbox) -> None:
    rows = findings(clinic_with(tmp_path / "clinic", api, {}))
    assert [row["check"] for row in rows] == [
        *("API", "credentials", "api.presign_path", "storage", "api.status_path", "clock")
    ]


def test_the_command_prints_these_findings_and_nothing_else(tmp_path: Path) -> None:
    for names, key in (((), None), (("paths-v1",), "api.presign_path"), (("token-get",), "api.token.method")):
        with sandbox(tmp_path / named(names) / "api", readings=names) as api:
            clinic = clinic_with(tmp_path / named(names) / "clinic", api, {})
            done = clinic.run("check", "--json")
            printed = [row for row in json.loads(done.stdout) if _is_of_api(row["check"])]
            found = findings(clinic)
        assert done.stderr == "", names
        assert _without_times(printed) == _without_times(found), names
        assert [row["check"] for row in found if row["level"] == "failed"][:1] == [key] * bool(key), names


def _is_of_api(check: str) -> bool:
    return check in OF_API or check.startswith("api.")


def _without_times(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"seen": re.sub(r"[\d.]+ m?s\b", "", row["seen"] or "")} for row in rows]


def test_a_missing_permission(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("no-permission", "error-details")) as api:
        (wrong,) = troubles(clinic_with(tmp_path / "clinic", api, {}))
    assert (wrong["check"], wrong["status"]) == ("permission", 77)
    assert "BATCH-TRANSCRIBE" in wrong["hint"]
    assert "Jane Roe" not in json.dumps(wrong)


def test_a_web_filter(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("web-filter",)) as api:
        (wrong,) = troubles(clinic_with(tmp_path / "clinic", api, {}))
    assert wrong["check"] == "API"
    assert "web filter" in wrong["problem"]
    assert "credentials" not in wrong["hint"]


@pytest.mark.parametrize("names", [(), ("oauth-errors",), ("gateway",)], ids=named)
def test_wrong_credentials(names: tuple[str, ...], tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=names) as api:
        (wrong,) = troubles(clinic_with(tmp_path / "clinic", api, {"credentials.api_key": "not-mine"}))
    assert (wrong["check"], wrong["status"]) == ("credentials", 77)
    assert wrong["hint"].startswith("Check credentials.app_id and credentials.api_key.")


def test_both_paths_are_named_at_once(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("paths-v1",)) as api:
        wrong = troubles(clinic_with(tmp_path / "clinic", api, {}))
    assert [row["check"] for row in wrong] == ["api.presign_path", "api.status_path"]


def test_types_that_are_not_accepted_are_listed(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("mime-iana",)) as api:
        (wrong,) = troubles(clinic_with(tmp_path / "clinic", api, {}))
        assert (wrong["check"], wrong["level"]) == ("api.mime_types", "warning")
        assert "does not accept audio/x-wav, audio/mp3, audio/m4a: " in wrong["problem"]
        (wrong,) = troubles(clinic_with(tmp_path / "other", api, {"api.mime_types": ["audio/mp3"]}))
        assert (wrong["check"], wrong["level"]) == ("api.mime_types", "failed")


def test_the_fields_of_a_reply_without_a_token(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("token-odd",)) as api:
        (wrong,) = troubles(clinic_with(tmp_path / "clinic", api, {}))
    assert wrong["check"] == "api.token.field"
    assert wrong["problem"].endswith("{result: {credentials: {jwt: string}}}.")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, "", [("api.status_path", "warning")]),
        (404, {"message": "Not Found"}, [("api.status_path", "failed")]),
        (404, {"message": "Transcription not found."}, []),
        (400, {"message": "The id is malformed."}, []),
        (400, {"message": "Unknown API version."}, [("api.version", "failed")]),
        (200, "<html>Sign in</html>", [("api.status_path", "failed")]),
        (200, {"processingStatus": "COMPLETED", "transcription": []}, [("api.status_path", "warning")]),
        (503, {"message": "Busy"}, [("API", "failed")]),
    ],
)
def test_answers_about_a_request_that_does_not_exist(
    status: int, body: Any, expected: list[tuple[str, str]], tmp_path: Path, api: Sandbox
) -> None:
    api.fault({"on": "status", "do": "status", "status": status, "body": body})
    rows = troubles(clinic_with(tmp_path / "clinic", api, {}))
    assert [(row["check"], row["level"]) for row in rows] == expected
