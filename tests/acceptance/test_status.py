"""`status` and `inbox`: is it ready, if not why and since when; what waits, why, and what to do about it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running, sandbox
from tests.kit.commands import ids, terminal
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

PATIENT = {"settle_seconds": 0.2, "rescan_seconds": 0.5, "patience_seconds": 300}


def listening() -> dict[str, str]:
    return {"listen": f"127.0.0.1:{free_port()}"}


def status(clinic: Clinic) -> dict[str, Any]:
    """What `status --json` prints, with its exit status."""
    done = clinic.run("status", "--json")
    known: dict[str, Any] = json.loads(done.stdout)
    return known | {"exit": done.returncode}


def inbox(clinic: Clinic) -> dict[str, dict[str, str]]:
    """What `inbox --json` prints, by path."""
    done = clinic.run("inbox", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return {entry.pop("path"): entry for entry in json.loads(done.stdout)}


def served(clinic: Clinic, path: str) -> str:
    address = yaml.safe_load(clinic.config.read_text())["http"]["listen"]
    with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
        text: str = response.read().decode()
        return text


def test_an_outage_is_reported_with_its_beginning_over_restarts(tmp_path: Path, api: Sandbox) -> None:
    api.fault({"on": "presign", "do": "status", "status": 503, "times": 1000})
    quick = {"base_seconds": 0.02, "max_seconds": 0.2}
    clinic = Clinic(tmp_path / "clinic", api.base_url, http=listening(), retry=quick)
    with running(clinic):
        wait_for("it is ready", lambda: status(clinic)["exit"] == 0)
        known = status(clinic)
        assert (known["ready"], known["problems"], known["configuration"]) == (True, [], str(clinic.config))
        assert (known["inbox"]["available"], known["failed_and_not_retried"]) == (True, 0)
        write_wav(clinic.inbox / "Maria Lopez.wav")
        wait_for("the outage is noticed", lambda: status(clinic)["exit"] == 4)
        known = status(clinic)
        (problem,) = known["problems"]
        assert (problem["code"], known["ready"], known["jobs"]) == (
            "api_unavailable", False, {"identified": 1},
        )  # fmt: skip
        assert "answered 503" in problem["message"]
        assert problem["since"] == known["not_ready_since"]
        with terminal(clinic.command("status"), columns=80) as screen:
            assert screen.ended() == 4
            lines = screen.screen
        assert lines[0].startswith("invox-watcher is running, but not ready since ")
        assert re.match(r"problem        api_unavailable, since [-\d]+ [:\d]+\S+ \(", lines[1])
        assert any(
            re.match(r"under way      1 \(1 identified\), the oldest for .*: invox-", line) for line in lines
        )
        job_id = ids(clinic)["Maria Lopez.wav"]
        shown = json.loads(clinic.run("show", job_id, "--json").stdout)["ahead"]
        assert (shown["attempts"], shown["max_attempts"]) == (0, 8)
        assert shown["next_step"] == "get an upload address from the API, and upload"
        assert shown["held_up_by"][0] == problem
        assert shown["last_error"]["code"] == "api_unavailable"
        assert re.search(r"^held_up_by +api_unavailable, since", clinic.run("show", job_id).stdout, re.M)
        assert "Maria" not in served(clinic, "/status") + served(clinic, "/due") + served(clinic, "/inbox")
    assert status(clinic)["exit"] == 3
    silent = Clinic(clinic.root, api.base_url, retry=quick)  # it can't be asked, and notes it all the same
    with running(silent):
        wait_for("it is noticed again", lambda: status(silent)["exit"] == 4)
        known = status(silent)
        assert [one["since"] for one in known["problems"]] == [problem["since"]]
        assert (known["address"], known["not_asked_because"]) == (
            None, "it has no address to ask (http.listen)",
        )  # fmt: skip
        api.clear_faults()
        wait_for("it is ready again", lambda: status(silent)["exit"] == 0)
        assert status(silent)["ready_since"] > problem["since"]


def test_an_outage_began_when_it_did_after_a_stop_at_once(tmp_path: Path, api: Sandbox) -> None:
    api.fault({"on": "presign", "do": "status", "status": 503, "times": 1000})
    clinic = Clinic(
        tmp_path / "clinic", api.base_url, http=listening(), retry={"base_seconds": 0.02, "max_seconds": 0.2}
    )

    def since() -> list[str]:
        return [one["since"] for one in json.loads(served(clinic, "/status"))["problems"]]

    with running(clinic):
        write_wav(clinic.inbox / "a.wav")
        wait_for("the outage is noticed", lambda: bool(since()))
        first = since()
        os.kill(clinic.events("started")[0]["pid"], signal.SIGHUP)
        wait_for("it is reloaded", lambda: bool(clinic.events("reloaded")))
        wait_for("it is noticed after the reload", lambda: bool(since()))
        assert since() == first
    with running(clinic):
        wait_for("it is noticed after the restart", lambda: bool(since()))
        assert since() == first


def test_the_inbox_is_listed_with_and_without_a_daemon(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", result_delay_seconds=60) as api:
        clinic = Clinic(
            tmp_path / "clinic", api.base_url, http=listening(), watch=PATIENT, intake={"max_in_flight": 1}
        )
        assert clinic.run("inbox").stdout == "Nothing is waiting in the inbox.\n"
        with running(clinic):
            write_wav(clinic.inbox / "first.wav")
            wait_for("it is taken", lambda: clinic.files(clinic.inbox) == [])
            write_wav(clinic.inbox / "ward 3" / "held.wav", pitch=300)
            whole = write_wav(clinic.root / "whole.wav", pitch=350).read_bytes()
            (clinic.inbox / "half.wav").write_bytes(whole[: len(whole) // 2])
            (clinic.inbox / "draft.wav.part").touch()
            (clinic.inbox / "link.wav").symlink_to(clinic.root / "whole.wav")
            wait_for("one is held", lambda: inbox(clinic).get("ward 3/held.wav", {}).get("stage") == "held")
            wait_for(
                "what is in progress", lambda: inbox(clinic)["half.wav"]["stage"] in ("held", "unfinished")
            )
            found = inbox(clinic)
            assert (found["ward 3/held.wav"]["code"], set(found)) == (
                "capacity", {"ward 3/held.wav", "half.wav", "draft.wav.part", "link.wav"},
            )  # fmt: skip
            assert "intake.max_in_flight: 1" in found["ward 3/held.wav"]["reason"]
            assert found["draft.wav.part"]["reason"].startswith(
                "Names like this are ignored: *.part (Firefox"
            )
            assert "(symbolic link)" in found["link.wav"]["reason"]
            known = status(clinic)
            assert known["inbox"]["held"] + known["inbox"]["unfinished"] == 2
            assert known["inbox"]["oldest_since"] <= found["ward 3/held.wav"]["since"]
        found = inbox(clinic)
        assert {path: (entry["stage"], entry["code"]) for path, entry in found.items()} == {
            "half.wav": ("unfinished", "incomplete"),
            "ward 3/held.wav": ("held", "held"),
            "draft.wav.part": ("ignored", "ignored"),
            "link.wav": ("ignored", "not_a_file"),
        }
        assert "moved to failed/ (truncated)" in found["half.wav"]["reason"]


def test_a_file_that_a_program_has_open_is_told_from_an_incomplete_one(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, http=listening(), watch=PATIENT)
    with running(clinic):
        whole = write_wav(clinic.root / "whole.wav").read_bytes()
        (clinic.inbox / "half.wav").write_bytes(whole[:3000])
        copied = clinic.inbox / "copied.wav"
        with copied.open("wb") as output:
            program = subprocess.Popen(["sleep", "60"], stdout=output)
            output.write(whole[:3000])
        try:
            wait_for("it has been looked at", lambda: inbox(clinic)["half.wav"]["code"] == "incomplete")
            wait_for("so has the other", lambda: inbox(clinic)["copied.wav"]["code"] == "open")
            assert f"sleep (pid {program.pid})" in inbox(clinic)["copied.wav"]["reason"]
            explained = json.loads(clinic.run("explain", str(clinic.inbox), "--json").stdout)
            codes = {
                Path(one["file"]).name: [step["code"] for step in one["steps"] if step["code"]]
                for one in explained
            }
            assert codes == {"half.wav": ["incomplete"], "copied.wav": ["open"]}
        finally:
            program.kill()
            program.wait()
        with terminal(clinic.command("inbox"), columns=80) as screen:
            assert screen.ended() == 0
            lines = screen.screen
        assert "unfinished  half.wav" in lines
        assert max(map(len, lines)) <= 80


def test_a_name_from_the_log_leads_to_its_recording(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=PATIENT)
    unknown = clinic.run("explain", "name:0123456789ab")
    assert (unknown.returncode, "has no key for names" in unknown.stderr) == (1, True)
    for _time in range(2):  # the newest recording of a name is meant
        write_wav(clinic.inbox / "ward 3" / "smith.wav", pitch=400 + _time)
        assert clinic.once() == 0
    whole = write_wav(clinic.root / "whole.wav", pitch=350).read_bytes()
    (clinic.inbox / "half.wav").write_bytes(whole[:3000])
    assert clinic.once() == 75
    (smith,) = {event["recording"] for event in clinic.events("claimed")}
    (half,) = {event["recording"] for event in clinic.events("inbox_unfinished")}
    shown = clinic.run("show", smith)
    assert shown.returncode == 0
    assert re.search(r"^path +ward 3/smith.wav$", shown.stdout, re.MULTILINE)
    assert json.loads(clinic.run("show", smith, "--json").stdout)["filed_as"] == "ward 3/smith-2.wav"
    assert f"{clinic.done}/ward 3/smith-2.wav:" in clinic.run("explain", smith).stdout
    assert f"{clinic.inbox}/half.wav:" in clinic.run("explain", half).stdout
    in_inbox = clinic.run("show", half)
    assert in_inbox.returncode == 1
    assert f"is not in the journal yet: it is {clinic.inbox}/half.wav." in in_inbox.stderr
    for command in ("show", "explain", "retry"):
        unknown = clinic.run(command, "name:0123456789ab")
        assert unknown.returncode == 1
        assert "has the name name:0123456789ab" in unknown.stderr
