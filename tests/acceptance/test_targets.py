"""Targets of a running daemon: delivered after the recording is done, whatever happens to the target."""

from __future__ import annotations

import json
from pathlib import Path

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running
from tests.kit.http_target import Receiver, deliveries, http_target, receiving
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for


def test_a_target_that_is_down_delays_only_its_own_deliveries(tmp_path: Path, api: Sandbox) -> None:
    port, up = free_port(), Receiver()
    with receiving(up) as server:
        targets = {"ris": http_target(tmp_path, port), "archive": http_target(tmp_path, server.port)}
        clinic = Clinic(tmp_path / "clinic", api.base_url, targets=targets)
        write_wav(clinic.inbox / "smith.wav")
        write_wav(clinic.inbox / "jones.wav", pitch=500)
        with running(clinic):
            wait_for("both are at the archive", lambda: len(up.keys) == 2)
            wait_for("both are done", lambda: clinic.files(clinic.done) == ["jones.wav", "smith.wav"])
            wait_for("the other is reported", lambda: bool(clinic.events("target_unavailable")))
        jobs = [event["job"] for event in clinic.events("done")]
        assert sorted(up.keys) == sorted(f"{job}.archive" for job in jobs)
        text = clinic.transcript("smith.json")["text"]
        assert any("3da3a63f8ed4" in delivered for delivered in up.texts), up.texts
        assert text not in clinic.log.read_text()
        owed = deliveries(clinic, jobs[0])
        assert (owed["archive"]["state"], owed["ris"]["state"]) == ("sent", "due")
        late = Receiver()
        with receiving(late, port), running(clinic):  # the daemon was restarted meanwhile
            wait_for("both arrive late", lambda: len(late.keys) == 2)
        assert sorted(late.keys) == sorted(f"{job}.ris" for job in jobs)
        assert len(up.keys) == 2
        assert api.stats()["uploads"] == 2


def test_a_refused_delivery_is_sent_again_by_an_operator(tmp_path: Path, api: Sandbox) -> None:
    receiver = Receiver()
    receiver.refuse = 422
    with receiving(receiver) as server:
        clinic = Clinic(
            tmp_path / "clinic", api.base_url, targets={"ris": http_target(tmp_path, server.port)}
        )
        write_wav(clinic.inbox / "smith.wav")
        with running(clinic):
            wait_for("it is refused", lambda: bool(clinic.events("delivery_failed")))
            assert clinic.files(clinic.done) == ["smith.wav"]
            [event] = clinic.events("delivery_failed")
            assert deliveries(clinic, event["job"])["ris"]["state"] == "failed"
            receiver.refuse = None
            again = clinic.run("retry", event["job"], "--target", "ris")
            assert (again.returncode, again.stderr) == (0, "")
            wait_for("it arrives", lambda: receiver.keys == [f"{event['job']}.ris"])
            wait_for("it is sent", lambda: bool(clinic.events("delivery_sent")))
        assert api.stats()["uploads"] == 1


def test_what_a_removed_target_is_owed_stays_until_it_is_forgotten(tmp_path: Path, api: Sandbox) -> None:
    target = {"ris": http_target(tmp_path, free_port())}
    clinic = Clinic(tmp_path / "clinic", api.base_url, targets=target)
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 0
    without = Clinic(clinic.root, api.base_url)
    with running(without):
        owed = json.loads(without.run("jobs", "--owed", "--json").stdout)
        assert [(one["target"], one["state"]) for one in owed] == [("ris", "due")]
        assert "no longer" in without.run("jobs", "--owed").stdout
        forgotten = without.run("forget", "ris")
        assert forgotten.returncode == 0, forgotten.stderr
        wait_for("it is given up", lambda: bool(without.events("deliveries_given_up")))
        assert json.loads(without.run("jobs", "--owed", "--json").stdout) == []
