"""Hooks: the operator's command sees the job, gets its time and no more, and never harms a recording."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, running, stop
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for


def hook(folder: Path, body: str) -> list[str]:
    """A command that runs `body` in a shell; what it writes goes to files beside it."""
    script = folder / "hook.sh"
    folder.mkdir(parents=True, exist_ok=True)
    script.write_text(f"#!/bin/sh\ncd {folder}\n{body}\n")
    script.chmod(0o755)
    return [str(script), "first argument"]


def test_a_hook_gets_every_field_of_its_job(tmp_path: Path, api: Sandbox) -> None:
    command = hook(tmp_path / "hook", 'env > "env-$INVOX_WATCHER_STATE"; cat > "job-$INVOX_WATCHER_STATE"')
    hooks = {"on_done": command, "on_failed": list(command)}
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks=hooks)
    write_wav(clinic.inbox / "ward 3" / "smith.wav")
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    with running(clinic):
        wait_for("both hooks ran", lambda: len(clinic.events("delivery_sent")) == 2)
    done = json.loads((tmp_path / "hook" / "job-done").read_text())
    assert done["recording"] == str(clinic.done / "ward 3" / "smith.wav")
    outputs = [str(clinic.outbox / "ward 3" / f"smith.{suffix}") for suffix in ("json", "srt")]
    assert done["transcripts"] == outputs
    assert done["request_id"] == api.stats()["requests"][0]["id"]
    environment = (tmp_path / "hook" / "env-done").read_text()
    assert f"INVOX_WATCHER_RECORDING={done['recording']}\n" in environment
    assert "INVOX_WATCHER_TRANSCRIPTS=" + "\n".join(outputs) in environment
    failed = json.loads((tmp_path / "hook" / "job-failed").read_text())
    assert (failed["code"], failed["name"]) == ("not_audio", "letter.wav")


def test_a_hook_does_not_see_the_credentials(
    tmp_path: Path, api: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = hook(tmp_path / "hook", "env > env")
    credentials = {"app_id": "sandbox-app", "api_key": "${INVOX_API_KEY}"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": command}, credentials=credentials)
    write_wav(clinic.inbox / "smith.wav")
    monkeypatch.setenv("INVOX_API_KEY", "sandbox-key")
    with running(clinic):
        wait_for("the hook ran", lambda: bool(clinic.events("delivery_sent")))
    assert "sandbox-key" not in (tmp_path / "hook" / "env").read_text()


def test_the_output_is_kept_for_show_and_never_logged(tmp_path: Path, api: Sandbox) -> None:
    folder = tmp_path / "hook"
    on_done = hook(
        folder,
        "(sleep 60; echo late) &\nyes tremens | head -c 100000; printf 'no \\033[31mink\\n' >&2; exit 3",
    )
    clinic = Clinic(
        tmp_path / "clinic", api.base_url, hooks={"on_done": on_done, "on_failed": ["/nowhere/hook"]}
    )
    write_wav(clinic.inbox / "smith.wav")
    (clinic.inbox / "letter.wav").write_text("Dear Mrs Miller")
    with running(clinic):
        # A process that outlives the command delays nothing.
        wait_for("both are said", lambda: len(clinic.events("delivery_failed")) == 2)
    assert "tremens" not in clinic.log.read_text()
    jobs = {event["target"]: event["job"] for event in clinic.events("delivery_failed")}
    [kept] = json.loads(clinic.run("show", jobs["hooks.on_done"], "--json").stdout)["deliveries"]
    assert (kept["target"], kept["state"], kept["attempts"]) == ("hooks.on_done", "failed", 1)
    receipt = kept["receipt"]
    assert receipt["text"] == "ended with status 3"
    assert receipt["output"].startswith("[91820 bytes left out] ")
    assert len(receipt["output"]) < 9000
    shown = clinic.run("show", jobs["hooks.on_done"]).stdout
    assert shown.endswith("  | tremens\n  | no \\x1b[31mink\n")
    missing = clinic.run("show", jobs["hooks.on_failed"]).stdout
    assert "The command could not be started: No such file or directory." in missing


def test_hooks_test_shows_what_a_command_gets_and_says(tmp_path: Path) -> None:
    on_done = hook(
        tmp_path / "done", 'cat; echo; cat $INVOX_WATCHER_TRANSCRIPTS; wc -c < "$INVOX_WATCHER_RECORDING"'
    )
    on_failed = hook(tmp_path / "failed", "echo $INVOX_WATCHER_CODE; exit 4")
    clinic = Clinic(
        tmp_path / "clinic",
        "http://127.0.0.1:9",
        hooks={"on_done": on_done, "on_failed": on_failed},
        outputs={"formats": ["txt"]},
    )
    both = clinic.run("hooks", "test")
    done, failed = both.stdout.split("hooks.on_failed: ")
    assert both.returncode == 1
    given, said = (json.loads("\n".join(part)) for part in _json_blocks(done))
    assert said == given
    assert (given["name"], given["state"], given["code"]) == ("ward3/smith.wav", "done", None)
    assert "  | Speaker_00: This is an example of a transcript.\n" in done
    assert done.endswith("  | 64044\nResult: ended with status 0\n")
    assert failed.endswith("Output:\n  | example\nResult: ended with status 4\n")
    assert clinic.run("hooks", "test", "on_done").returncode == 0
    assert not Path(given["recording"]).exists()
    assert clinic.files(clinic.root / "state") == []
    without = Clinic(tmp_path / "without", "http://127.0.0.1:9").run("hooks", "test")
    assert (without.returncode, "No command is configured under hooks." in without.stderr) == (64, True)


def _json_blocks(printed: str) -> list[list[str]]:
    """The lines of what went in, and of the same as the command printed it, which is one line."""
    lines = printed.splitlines()
    first = lines.index("  {")
    return [lines[first : lines.index("  }") + 1], [line[4:] for line in lines if line.startswith("  | {")]]


def test_a_hook_that_fails_is_logged_and_loses_nothing(tmp_path: Path, api: Sandbox) -> None:
    for name, command, reason in (
        ("fails", hook(tmp_path / "fails", "exit 3"), "ended with status 3"),
        ("killed", hook(tmp_path / "killed", "kill -9 $$"), "killed by signal 9 (SIGKILL)"),
        ("hangs", hook(tmp_path / "hangs", "sleep 60 & sleep 60"), "killed after 0.5 seconds"),
        ("missing", ["/nowhere/hook"], "No such file"),
    ):
        hooks = {"on_done": command, "timeout_seconds": 0.5 if name == "hangs" else 20}
        clinic = Clinic(tmp_path / name / "clinic", api.base_url, hooks=hooks)
        write_wav(clinic.inbox / "smith.wav", pitch=300 + sum(name.encode()))
        with running(clinic):
            wait_for("it is said", lambda clinic=clinic: bool(clinic.events("delivery_failed")))  # type: ignore[misc]
        [event] = clinic.events("delivery_failed")
        assert reason in event["error"]
        assert "smith" not in clinic.log.read_text()
        assert clinic.files(clinic.done) == ["smith.wav"]


def test_children_of_a_hook_that_ignore_sigterm_are_killed(tmp_path: Path, api: Sandbox) -> None:
    command = hook(tmp_path / "hook", "(trap '' TERM; echo > begun; sleep 5; echo > lived_on) & sleep 60")
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": command, "timeout_seconds": 2})
    write_wav(clinic.inbox / "smith.wav")
    with running(clinic):
        wait_for("it is said", lambda: bool(clinic.events("delivery_failed")))
        time.sleep(5)  # longer than it would take
    assert (tmp_path / "hook" / "begun").exists()
    assert not (tmp_path / "hook" / "lived_on").exists()


@pytest.mark.needs("root", "setpriv")
def test_a_hook_that_may_not_be_killed_delays_nothing(tmp_path: Path, api: Sandbox) -> None:
    command = hook(
        tmp_path / "hook",
        "[ -e pid ] && exit; echo $$ > pid; exec setpriv --reuid=65534 --clear-groups sleep 60",
    )
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": command, "timeout_seconds": 0.5})
    write_wav(clinic.inbox / "smith.wav")
    # Root without CAP_KILL: as a daemon's user whose hook has become another by sudo.
    daemon = clinic.start(["setpriv", "--bounding-set=-kill", *clinic.command("run")])
    try:
        wait_for("it is said", lambda: bool(clinic.events("delivery_failed")))
        [event] = clinic.events("delivery_failed")
        assert "could not be killed after 0.5 seconds" in event["error"]
        daemon.send_signal(signal.SIGHUP)
        wait_for("it is reloaded", lambda: bool(clinic.events("reloaded")))
        write_wav(clinic.inbox / "jones.wav", pitch=500)
        wait_for("the next hook ran", lambda: bool(clinic.events("delivery_sent")))
        left = int((tmp_path / "hook" / "pid").read_text())
        os.kill(left, signal.SIGKILL)
        wait_for("it is no zombie", lambda: not Path(f"/proc/{left}").exists())
        assert stop(daemon) == 0
    finally:
        daemon.kill()
        daemon.wait()


def test_a_hook_that_was_interrupted_runs_again(tmp_path: Path, api: Sandbox) -> None:
    command = hook(
        tmp_path / "hook",
        "echo begun >> log; [ -e second ] || { touch second; sleep 60; }; echo ended >> log",
    )
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": command})
    write_wav(clinic.inbox / "smith.wav")
    log = tmp_path / "hook" / "log"
    daemon = clinic.start()
    wait_for("the hook has begun", log.exists)
    daemon.kill()
    daemon.wait()
    with running(clinic):
        wait_for("it has ended", lambda: "ended" in log.read_text())
    assert log.read_text().split() == ["begun", "begun", "ended"]


def test_a_hook_delays_neither_work_nor_the_stop(tmp_path: Path, api: Sandbox) -> None:
    command = hook(tmp_path / "hook", "touch begun; sleep 60")
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": command})
    daemon = clinic.start()
    write_wav(clinic.inbox / "smith.wav")
    wait_for("the hook has begun", (tmp_path / "hook" / "begun").exists)
    write_wav(clinic.inbox / "jones.wav", pitch=500)
    wait_for("work goes on", lambda: len(clinic.files(clinic.done)) == 2)
    assert stop(daemon) == 0


def test_a_hook_removed_from_the_configuration_never_runs(tmp_path: Path, api: Sandbox) -> None:
    command = hook(tmp_path / "hook", "echo begun >> log; sleep 60")
    clinic = Clinic(tmp_path / "clinic", api.base_url, hooks={"on_done": command})
    write_wav(clinic.inbox / "smith.wav")
    daemon = clinic.start()
    wait_for("the hook has begun", (tmp_path / "hook" / "log").exists)
    daemon.kill()
    daemon.wait()
    assert Clinic(clinic.root, api.base_url).once() == 0
    with running(Clinic(clinic.root, api.base_url, hooks={"on_done": command})):
        write_wav(clinic.inbox / "jones.wav", pitch=500)
        wait_for(
            "the next one's has begun", lambda: (tmp_path / "hook" / "log").read_text() == "begun\nbegun\n"
        )
