"""The real daemon against every reading of the vendor's API: right words, one upload, nothing in failed/."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.readings import READINGS
from invox_watcher.sandbox.server import Sandbox
from tests.acceptance.readings.client import Client
from tests.acceptance.vendor_readings import CASES, Case
from tests.kit import event_page
from tests.kit.clinic import Clinic, free_port, running, sandbox
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

_SECONDS = 0.6  # of a recording; the sandbox's words are later, as no real ones are
_MP3_FRAME = bytes.fromhex("fffb9064") + bytes(413)  # MPEG-1 layer III, 128 kbit/s, 44.1 kHz: silence
_TIMES = ((0.0, 1.5), (1.5, 3.25), (3.5, 5.0))

_ids = "+".join
_needing_keys = {names: case for names, case in CASES.items() if case.names}


def test_every_reading_has_a_case() -> None:
    assert {name for names in CASES for name in names} == set(READINGS)


@pytest.mark.parametrize("names", CASES, ids=_ids)
def test_reading(names: tuple[str, ...], tmp_path: Path) -> None:
    case = CASES[names]
    with sandbox(tmp_path / "api", readings=names, **case.settings) as api:
        clinic = _clinic(tmp_path / "clinic", api, case, case.keys)
        recordings = _put(clinic, case)
        status = clinic.once()
        match case.ends:
            case "done":
                assert status == 0, clinic.log.read_text()
                _assert_done(clinic, recordings, case)
            case "failed":
                assert status == 1
                _assert_failed(clinic, recordings, case)
            case "held":
                assert status == 77
                _assert_held(clinic, case)
        _assert_log(clinic, case)
        _assert_paid_once(api, recordings)
        stats = api.stats()
        assert case.polls <= stats["status_calls"] <= case.most_polls
        if case.ends != "held":
            assert stats["upload_attempts"] == case.uploads_each * len(recordings)


@pytest.mark.parametrize("names", _needing_keys, ids=_ids)
def test_reading_without_its_key(names: tuple[str, ...], tmp_path: Path) -> None:
    case = CASES[names]
    with sandbox(tmp_path / "api", readings=names, **case.settings) as api:
        clinic = _clinic(tmp_path / "clinic", api, case, _wrong(case))
        recordings = _put(clinic, case)
        assert clinic.once() != 0
        assert clinic.files(clinic.failed) == []
        assert _waiting(clinic) == list(recordings)
        if not case.paid_before_key:
            assert api.stats()["uploads"] == 0
        hint = _hints(clinic)
        for word in case.names.split():
            assert word in hint
        if case.says:
            assert case.says in clinic.log.read_text()

        assert _clinic(tmp_path / "clinic", api, case, case.keys).once() == 0
        assert clinic.files(clinic.done) == list(recordings)
        _assert_paid_once(api, recordings)


# ---- paid once, whatever happens ---------------------------------------------------------------------------


def test_retry_waits_for_what_was_acknowledged(tmp_path: Path) -> None:
    """A recording that failed after its upload is asked about, and not sent again, whatever 404 comes."""
    with sandbox(tmp_path / "api") as api:
        clinic = _clinic(tmp_path / "clinic", api, Case(), {})
        with running(clinic):
            write_wav(clinic.inbox / "1.wav", seconds=_SECONDS, pitch=400)
            wait_for("the first is done", lambda: clinic.files(clinic.done) == ["1.wav"])
            api.fault({"on": "status", "do": "status", "status": 422})
            write_wav(clinic.inbox / "2.wav", seconds=_SECONDS, pitch=401)
            wait_for("the second failed", lambda: clinic.events("failed") != [])
            assert "2.wav" in clinic.files(clinic.failed)
            # For longer than a denial is doubted.
            api.fault({"on": "status", "do": "status", "status": 404, "times": 8})
            assert clinic.run("retry", "--code", "api_rejected").returncode == 0
            wait_for("both are done", lambda: clinic.files(clinic.done) == ["1.wav", "2.wav"])
        paid = api.stats()["recordings"].values()
        assert [counts["acknowledged"] for counts in paid] == [1, 1]


def test_a_retry_after_three_lost_uploads_polls_first(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("upload-500-lost",)) as api:
        clinic = _clinic(tmp_path / "clinic", api, Case(), {})
        write_wav(clinic.inbox / "1.wav", seconds=_SECONDS)
        assert clinic.once() == 1
        polls = api.stats()["status_calls"]
        assert clinic.run("retry", "--all").returncode == 0
        assert clinic.once() == 1
        stats = api.stats()
    assert stats["upload_attempts"] == 6
    assert stats["status_calls"] >= 2 * polls


def test_another_program_that_buys_tokens_is_put_up_with(tmp_path: Path) -> None:
    """Each new token ends the one before: that of the daemon dies while it polls."""
    with sandbox(tmp_path / "api", readings=("one-token",), result_delay_seconds=1.0) as api:
        clinic = _clinic(tmp_path / "clinic", api, Case(), {})
        with running(clinic):
            write_wav(clinic.inbox / "1.wav", seconds=_SECONDS)
            wait_for("it is uploaded", lambda: bool(clinic.events("uploaded")))
            Client(api).token()
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["1.wav"])
        assert api.stats()["tokens"] == 3
        assert clinic.events("api_refused", "breaker_opened") == []


# ---- a clinic for a reading -------------------------------------------------------------------------------


def _clinic(root: Path, api: Sandbox, case: Case, keys: Mapping[str, Mapping[str, Any]]) -> Clinic:
    sections: dict[str, dict[str, Any]] = {
        "credentials": {"app_id": "sandbox-app", "api_key": "sandbox-key"},
        "watch": {"settle_seconds": 0.05, "rescan_seconds": 2, "patience_seconds": 1.5},
        "polling": {"first_seconds": 0.1, "max_seconds": 0.2, "unknown_seconds": 0.3},
        "retry": {"base_seconds": 0.05, "max_seconds": 0.2},
    }
    if case.webhooks:
        port = free_port()
        sections["credentials"]["app_secret"] = api.settings.app_secret
        sections["http"] = {"listen": f"127.0.0.1:{port}"}
        sections["webhook"] = {"enabled": True, "public_url": f"http://127.0.0.1:{port}/webhook"}
    for section, values in keys.items():
        sections[section] = sections.get(section, {}) | _addressed(values, api)
    sections["api"] = {"base_url": api.base_url} | sections.get("api", {})
    return Clinic(root, api.base_url, **sections)


def _addressed(values: Mapping[str, Any], api: Sandbox) -> dict[str, Any]:
    addresses = {"{api_url}": api.api_url, "{token_url}": api.token_url}

    def addressed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: addressed(item) for key, item in value.items()}
        return addresses.get(value, value) if isinstance(value, str) else value

    return {key: addressed(value) for key, value in values.items()}


def _wrong(case: Case) -> dict[str, dict[str, Any]]:
    """The configuration without the keys; credentials, which can't be missing, are wrong."""
    return {"credentials": {"api_key": "another-key"}} if "credentials" in case.keys else {}


def _put(clinic: Clinic, case: Case) -> dict[str, str]:
    """Two recordings in the inbox: name → SHA-256."""
    paths = [clinic.inbox / f"{number}.{case.recording}" for number in (1, 2)]
    for number, path in enumerate(paths):
        if case.recording == "wav":
            write_wav(path, seconds=_SECONDS, pitch=400 + number)
        else:
            path.write_bytes(_MP3_FRAME * (23 + number))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


# ---- what came of it ---------------------------------------------------------------------------------------


def _assert_done(clinic: Clinic, recordings: Mapping[str, str], case: Case) -> None:
    assert clinic.files(clinic.done) == list(recordings)
    assert clinic.files(clinic.failed) == []
    for name, sha256 in recordings.items():
        transcript = clinic.transcript(f"{name.partition('.')[0]}.json")
        segments = transcript["segments"]
        expected = _spoken(sha256, case)
        assert [(segment["speaker"], segment["text"]) for segment in segments] == expected
        times = [(segment["start"], segment["end"]) for segment in segments]
        if case.times == "estimated":
            _assert_estimated(times, transcript["source"]["duration_seconds"])
        else:
            assert times == list(_TIMES)[: len(expected)]
        assert case.delivered_by in ("", transcript["delivered_by"])


def _spoken(sha256: str, case: Case) -> list[tuple[str | None, str]]:
    """Speaker and words of each segment, as the sandbox makes them from a recording's checksum."""
    mark = sha256[:12]
    texts = [
        f"This is recording {mark}.",
        "Is that what was dictated?",
        f"No, only the first digits of its checksum: {mark}.",
    ]
    match case.words:
        case "segments":
            return list(zip(case.speakers, texts, strict=True))
        case "text":
            return [(case.speakers[0], " ".join(texts))]
        case "none":
            return []


def _assert_estimated(times: Sequence[tuple[float, float]], duration_seconds: float) -> None:
    """They fill the recording from its beginning to its end, one after the other."""
    assert times[0][0] == 0
    assert times[-1][1] == pytest.approx(duration_seconds)
    assert all(start < end for start, end in times)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(times))


def _assert_failed(clinic: Clinic, recordings: Mapping[str, str], case: Case) -> None:
    assert clinic.files(clinic.outbox) == []
    assert [name for name in clinic.files(clinic.failed) if name in recordings] == list(recordings)
    for name in recordings:
        error = json.loads((clinic.failed / f"{name}.error.json").read_text())
        assert error["code"] == case.code
        assert case.says in error["message"]


def _assert_held(clinic: Clinic, case: Case) -> None:
    assert clinic.files(clinic.failed) == []
    assert len(_waiting(clinic)) == 2
    assert case.code in {event["code"] for event in clinic.events("api_refused")}
    assert case.says in clinic.log.read_text()


def _assert_log(clinic: Clinic, case: Case) -> None:
    event_page.check(clinic.events())
    if case.hides:
        assert case.hides not in clinic.log.read_text()
    if case.lifetime_seconds is not None:
        lifetimes = [event["lifetime_seconds"] for event in clinic.events("token_refreshed")]
        assert lifetimes == pytest.approx([case.lifetime_seconds], abs=3)


def _assert_paid_once(api: Sandbox, recordings: Mapping[str, str]) -> None:
    paid: Mapping[str, Mapping[str, int]] = api.stats()["recordings"]
    assert set(paid) <= set(recordings.values())
    assert all(counts["stored"] == 1 and counts["acknowledged"] <= 1 for counts in paid.values())


def _waiting(clinic: Clinic) -> list[str]:
    folders = (clinic.inbox, clinic.processing)
    return sorted(name.rpartition("/")[2] for folder in folders for name in clinic.files(folder))


def _hints(clinic: Clinic) -> str:
    return " ".join(_texts(clinic.events("api_refused", "breaker_opened")))


def _texts(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for event in events:
        yield f"{event['error']} {event['hint']}"
