"""What an operator asks of deliveries: `jobs --owed`, `retry --target`, `forget`, and a reload."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.acceptance.test_reload import started
from tests.kit.clinic import Clinic, free_port, reload, running
from tests.kit.commands import as_nobody, give, ids, public_folder, terminal
from tests.kit.http_target import Receiver, deliveries, http_target, receiving
from tests.kit.loopback import Peer, serve
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

LONG = "ward 3 of the hospital of the Holy Ghost/dictation of Doctor Smith number 17.wav"


def test_a_target_that_has_it_gets_it_again(tmp_path: Path, api: Sandbox) -> None:
    receiver, hook = Receiver(), tmp_path / "ran"
    with receiving(receiver) as server:
        clinic = Clinic(
            tmp_path / "clinic",
            api.base_url,
            targets={"ris": http_target(tmp_path, server.port)},
            hooks={"on_done": ["/bin/sh", "-c", f"echo x >> {hook}"]},
        )
        write_wav(clinic.inbox / "smith.wav")
        (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
        with running(clinic):
            wait_for("both were told", lambda: len(clinic.events("delivery_sent")) == 2)
            wait_for("the other failed", lambda: bool(clinic.events("failed")))
            smith, letter = (ids(clinic)[name] for name in ("smith.wav", "letter.wav"))
            again = clinic.run("retry", smith, "--target", "ris")
            assert again.stdout == f"{smith}: will be sent to ris\n"
            wait_for("it comes again", lambda: receiver.keys == [f"{smith}.ris"] * 2)
            assert clinic.run("retry", smith, "--target", "hooks.on_done").returncode == 0
            wait_for("it runs again", lambda: hook.read_text() == "x\nx\n")
            for arguments, said in (
                ((letter, "--target", "ris"), f"{letter} is failed, not done."),
                ((smith, "--target", "pacs"), "No target is called pacs."),
                ((smith, "--target", "hooks.on_failed"), "No target is called hooks.on_failed."),
            ):
                refused = clinic.run("retry", *arguments)
                assert refused.returncode == 64, arguments
                assert said in refused.stderr
            assert clinic.run("retry", "--all", "--target", "ris").stdout == "Nothing failed for ris.\n"
            wait_for("all is noted", lambda: deliveries(clinic, smith)["hooks.on_done"]["state"] == "sent")
        assert len(receiver.keys) == 2
        assert api.stats()["uploads"] == 1


def test_what_is_owed_fits_a_terminal_and_reads_well_in_a_pipe(tmp_path: Path, api: Sandbox) -> None:
    receiver = Receiver()
    receiver.refuse = 422
    with receiving(receiver) as server:
        targets = {
            "radiology-system": http_target(tmp_path, server.port),
            "ris": http_target(tmp_path, free_port()),
        }
        clinic = Clinic(tmp_path / "clinic", api.base_url, targets=targets)
        write_wav(clinic.inbox / LONG)
        with running(clinic):
            wait_for("one refuses", lambda: bool(clinic.events("delivery_failed")))
            wait_for("one is down", lambda: bool(clinic.events("target_unavailable")))
    with terminal(clinic.command("jobs", "--owed"), columns=80) as shown:
        assert shown.ended() == 0
    assert len(shown.screen) == 3
    assert max(map(len, shown.screen)) <= 80
    assert shown.screen[0].split() == ["Id", "Target", "State", "Age", "Tried", "Recording", "Why"]
    assert "due" in shown.screen[1]
    assert shown.screen[1].rstrip().endswith("network")
    assert "17.wav" in shown.screen[1]
    assert shown.screen[2].rstrip().endswith("http_422")
    [due, failed] = clinic.run("jobs", "--owed").stdout.splitlines()
    [job] = ids(clinic).values()
    assert due.startswith(f"{job}  ris  due        ")
    assert LONG in due
    assert failed.endswith("1 attempts  http_422")
    # Without a daemon it happens at the next start, in the order in which it was asked for.
    forgotten = clinic.run("forget", "ris").stdout
    assert "To be given up: 1 delivery to ris." in forgotten
    assert "No daemon is running" in forgotten
    assert "No daemon is running" in clinic.run("retry", "--all", "--target", "radiology-system").stdout
    receiver.refuse = None
    with receiving(receiver, server.port), running(clinic):
        wait_for("it arrives", lambda: receiver.keys == [f"{job}.radiology-system"])
        wait_for("nothing is owed", lambda: "Nothing is owed" in clinic.run("jobs", "--owed").stdout)
    assert deliveries(clinic, job)["ris"]["state"] == "cancelled"
    assert clinic.run("forget", "ris").stdout == "Nothing is owed to ris.\n"


def test_a_reload_moves_and_removes_targets_under_way(tmp_path: Path, api: Sandbox) -> None:
    asked, receiver = threading.Event(), Receiver()

    def stay_silent(peer: Peer) -> None:
        while peer.request() is not None:
            asked.set()
            peer.stay_silent()

    with serve(stay_silent) as silent, receiving(receiver) as server:
        clinic = Clinic(
            tmp_path / "clinic", api.base_url, targets={"ris": http_target(tmp_path, silent.port)}
        )
        write_wav(clinic.inbox / "smith.wav")
        with started(clinic) as daemon:
            assert asked.wait(20)
            [job] = ids(clinic).values()
            Clinic(clinic.root, api.base_url)  # removed while it is being asked
            assert reload(clinic, daemon)["event"] == "reloaded"
            assert deliveries(clinic, job)["ris"]["state"] in ("due", "uncertain")
            write_wav(clinic.inbox / "jones.wav", pitch=500)
            wait_for("another is done", lambda: len(clinic.files(clinic.done)) == 2)
            Clinic(  # back elsewhere, with a second one
                clinic.root,
                api.base_url,
                targets={name: http_target(tmp_path, server.port) for name in ("ris", "pacs")},
            )
            assert reload(clinic, daemon)["event"] == "reloaded"
            wait_for("it arrives", lambda: receiver.keys == [f"{job}.ris"])
            wait_for("that is noted", lambda: deliveries(clinic, job)["ris"]["state"] == "sent")
        assert len(receiver.keys) == 1  # nothing is owed to a target that came later
        silent.closing.set()


@pytest.mark.needs("root")
def test_what_root_asks_is_done_by_the_daemon_of_another_user(api: Sandbox) -> None:
    receiver = Receiver()
    with public_folder() as folder, receiving(receiver) as server:
        target = http_target(folder, server.port)
        clinic = Clinic(folder / "clinic", api.base_url, targets={"ris": target})
        clinic.config.chmod(0o644)
        for place in (folder / "secret", clinic.root, clinic.inbox):
            give(place)
        (clinic.root / "state").mkdir(mode=0o700)
        give(clinic.root / "state")
        write_wav(clinic.inbox / "smith.wav")
        give(clinic.inbox / "smith.wav")
        assert as_nobody(clinic, "run", "--once").returncode == 0
        [job] = ids(clinic).values()
        asked = clinic.run("retry", job, "--target", "ris")
        assert asked.returncode == 0, asked.stderr
        orders = clinic.root / "state" / "orders"
        owners = {path.stat().st_uid for path in (orders, *orders.iterdir())}
        assert owners == {clinic.inbox.stat().st_uid}
        assert as_nobody(clinic, "run", "--once").returncode == 0
        assert list(orders.iterdir()) == []
