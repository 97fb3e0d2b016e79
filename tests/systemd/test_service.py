"""The daemon under systemd: killed, hung, reloaded, without credentials, and with other users' recordings."""

from __future__ import annotations

import io
import json
import random
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kit.mutants import REASONS, mutants, originals
from tests.kit.recordings import write_wav
from tests.systemd import page
from tests.systemd.conftest import ON_A_MACHINE
from tests.systemd.container import Container

API = f"http://127.0.0.1:{page.API_PORT}/sandbox"
CONFIG = "/etc/invox-watcher/config.yaml"
INBOX, PROCESSING, OUTBOX, DONE, FAILED = (
    f"/srv/dictation/{name}" for name in ("inbox", "processing", "outbox", "done", "failed")
)

pytestmark = ON_A_MACHINE


def drop(machine: Container, tmp_path: Path, name: str, *, pitch: float, folder: str = INBOX) -> None:
    """Put a recording into the inbox; another pitch is another recording."""
    machine.put(write_wav(tmp_path / name, pitch=pitch), f"{folder}/{name}")


def events(machine: Container, *names: str) -> list[dict[str, Any]]:
    """The daemon's events in systemd's journal since this boot, all or those of these names."""
    lines = machine.out("journalctl --boot --unit=invox-watcher --output=cat").splitlines()
    found = [json.loads(line) for line in lines if line.startswith("{")]
    return [event for event in found if not names or event["event"] in names]


def properties(machine: Container, *names: str) -> list[str]:
    """Properties of the unit, in the order asked for."""
    shown = machine.out(f"systemctl show invox-watcher --property={','.join(names)}").splitlines()
    values = dict(line.split("=", 1) for line in shown)
    return [values[name] for name in names]


def uploads(machine: Container) -> list[int]:
    """How often each request's upload reached the API since this boot."""
    return [request["uploads"] for request in json.loads(machine.out(f"curl -sf {API}/stats"))["requests"]]


def fault(machine: Container, **rule: object) -> None:
    """Ask the stand-in API for a fault."""
    machine.run(f"curl -sf --json @- {API}/faults", stdin=json.dumps(rule))


def change(machine: Container, section: str, **values: object) -> None:
    """Set keys of the configuration."""
    keys = yaml.safe_load(machine.out(f"cat {CONFIG}"))
    keys[section] = keys.get(section, {}) | values
    machine.run(f"cat > {CONFIG}", stdin=yaml.safe_dump(keys))


def override(machine: Container, **directives: str) -> None:
    """Set directives of the unit's [Service], as `systemctl edit` does."""
    folder = "/etc/systemd/system/invox-watcher.service.d"
    lines = ["[Service]", *(f"{name}={value}" for name, value in directives.items())]
    machine.run(
        f"mkdir -p {folder}; cat > {folder}/override.conf; systemctl daemon-reload", stdin="\n".join(lines)
    )


def wait_for_event(machine: Container, name: str) -> None:
    """Wait until the daemon has logged this event since the machine was booted."""
    quoted = f'"event": "{name}"'
    machine.wait_for(f"journalctl --boot --unit=invox-watcher --output=cat | grep -q '{quoted}'")


def test_a_killed_daemon_is_restarted_and_resumes(machine: Container, tmp_path: Path) -> None:
    fault(machine, on="status", do="latency", seconds=3)
    drop(machine, tmp_path, "miller.wav", pitch=500)
    wait_for_event(machine, "uploaded")
    machine.run("systemctl kill --kill-whom=main --signal=KILL invox-watcher")
    machine.wait_for(f"test -e {DONE}/miller.wav")
    assert properties(machine, "NRestarts", "ActiveState", "SubState") == ["1", "active", "running"]
    assert uploads(machine) == [1]
    assert machine.out(f"ls {OUTBOX}") == "miller.json\nmiller.srt\nsmith.json\nsmith.srt"


def test_the_watchdog_fires_if_one_worker_hangs(machine: Container, tmp_path: Path) -> None:
    """strace holds back each thread that is about to connect to the API: only a worker does."""
    change(machine, "upload", workers=1)
    change(machine, "api", read_timeout_seconds=5, connect_timeout_seconds=5)
    change(machine, "polling", unknown_seconds=1)
    override(machine, WatchdogSec="10s")
    machine.run("systemctl restart invox-watcher")
    [pid] = properties(machine, "MainPID")
    machine.run(
        f"systemd-run --quiet --unit=strace strace -f -p {pid} -o /root/strace"
        " -e trace=connect -e inject=connect:delay_enter=600s"
    )
    machine.wait_for(f"grep -q '^TracerPid:.[1-9]' /proc/{pid}/status")
    drop(machine, tmp_path, "miller.wav", pitch=500)
    wait_for_event(machine, "stalled")
    [stalled] = events(machine, "stalled")
    print(stalled)
    assert (stalled["part"], stalled["where"].split(":")[0]) == ("upload-1", "net/connections.py")
    health = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8787"
    assert machine.out(f"{health}/healthz; {health}/readyz") == "200503"  # the others run on, and say so
    [status] = properties(machine, "StatusText")
    assert "Stalled: " in status
    machine.wait_for("journalctl --boot --unit=invox-watcher | grep -q 'Watchdog timeout'")
    machine.run("systemctl kill --signal=KILL strace")  # or it would keep the dead process
    machine.wait_for(f"test -e {DONE}/miller.wav")
    assert properties(machine, "NRestarts", "SubState") == ["1", "running"]
    assert uploads(machine) == [1]


def test_a_changed_configuration_is_reloaded_or_refused(machine: Container, tmp_path: Path) -> None:
    change(machine, "outputs", formats=["txt"])
    machine.run("systemctl reload invox-watcher")
    wait_for_event(machine, "reloaded")
    drop(machine, tmp_path, "miller.wav", pitch=500)
    machine.wait_for(f"test -e {DONE}/miller.wav")
    assert machine.out(f"cd {OUTBOX}; ls miller.*") == "miller.txt"

    change(machine, "outputs", formats=["odt"])
    machine.run("systemctl reload invox-watcher")
    wait_for_event(machine, "reload_refused")
    [refused] = events(machine, "reload_refused")
    assert "outputs.formats" in refused["error"]
    drop(machine, tmp_path, "jones.wav", pitch=510)
    machine.wait_for(f"test -s {OUTBOX}/jones.txt")
    assert properties(machine, "NRestarts", "SubState") == ["0", "running"]


def test_systemds_journal_has_no_names_and_no_secrets(machine: Container, tmp_path: Path) -> None:
    drop(machine, tmp_path, "miller.wav", pitch=500)
    (tmp_path / "letter.wav").write_text("Dear Mrs Miller")
    machine.put(tmp_path / "letter.wav", f"{INBOX}/letter.wav")
    machine.wait_for(f"test -e {DONE}/miller.wav -a -s /srv/dictation/failed/letter.wav.error.json")
    assert {"done", "failed"} <= {event["event"] for event in events(machine)}
    journal = machine.out("journalctl --unit=invox-watcher --output=export").lower()
    assert [word for word in ("miller", "letter", "sandbox-key", "x-amz") if word in journal] == []


def test_systemds_journal_knows_what_is_a_warning(machine: Container, tmp_path: Path) -> None:
    (tmp_path / "letter.wav").write_text("Dear Mrs Miller")
    machine.put(tmp_path / "letter.wav", f"{INBOX}/letter.wav")
    machine.wait_for("test -s /srv/dictation/failed/letter.wav.error.json")
    journal = "journalctl --boot --unit=invox-watcher --output=cat"
    lines = [line for line in machine.out(journal).splitlines() if '"level"' in line]
    logged = [json.loads(line)["level"] for line in lines]  # without the prefixes
    assert {"info", "warning"} <= set(logged)
    urgent = machine.out(f"{journal} --priority=warning").splitlines()
    found = [json.loads(line)["level"] for line in urgent if line.startswith("{")]
    assert found == [level for level in logged if level in ("warning", "error")]


def test_a_missing_credential_is_named_and_recovered_from(machine: Container) -> None:
    machine.run("mv /etc/credstore/invox-watcher.api_key /root; systemctl restart --no-block invox-watcher")
    machine.wait_for("journalctl --boot --unit=invox-watcher | grep -q 'credentials.api_key'")
    machine.wait_for("journalctl --boot --unit=invox-watcher | grep -q 'status=78/CONFIG'")
    machine.run("mv /root/invox-watcher.api_key /etc/credstore")
    machine.wait_for("systemctl is-active invox-watcher")
    [restarts] = properties(machine, "NRestarts")
    assert int(restarts) > 0  # it came back by itself


def test_recordings_of_other_users_are_transcribed(machine: Container, tmp_path: Path) -> None:
    """What a colleague in the group copies into a folder of their own belongs to the colleague.

    It is taken long before it has settled: by CAP_LEASE the daemon knows that nothing writes to it any more.
    """
    change(machine, "watch", settle_seconds=300)
    machine.run("systemctl restart invox-watcher")
    machine.run("useradd --system --groups dictation colleague")
    machine.put(write_wav(tmp_path / "miller.wav", pitch=500), "/tmp/miller.wav")
    machine.run(
        f"runuser -u colleague -- sh -c 'umask 007; mkdir {INBOX}/ward3; cp /tmp/miller.wav {INBOX}/ward3/'"
    )
    machine.wait_for(f"test -e {DONE}/ward3/miller.wav")
    found = machine.out("cd /srv/dictation; stat -c '%A %U %G' outbox/ward3 outbox/ward3/miller.srt")
    assert found.splitlines() == ["drwxrws--- invox dictation", "-rw-rw---- invox dictation"]
    machine.run(f"runuser -u colleague -- rm {OUTBOX}/ward3/miller.srt")
    assert events(machine, "folders_apart") == []


HOOK = """#!/bin/sh
exec > /srv/dictation/hook.txt 2>&1
/usr/local/bin/set-user-id -un
touch /srv/dictation/x /var/lib/invox-watcher/x /var/log/invox-watcher/x /tmp/x && echo written
touch /etc/x || echo "refused"
ls /home || echo "refused"
grep -q "^CapEff:.*0000000000000000" /proc/self/status && echo "no capability"
ps -e -o comm= | grep --quiet systemd || echo "alone"
curl -sf http://127.0.0.1:8788/sandbox/stats > /dev/null && echo "network"
mv /srv/dictation/hook.txt /srv/dictation/hook
"""


def test_hooks_can_do_what_the_page_says_and_no_more(machine: Container, tmp_path: Path) -> None:
    program = "cat > /usr/local/bin/hook; chmod 755 /usr/local/bin/hook"
    machine.run(f"{program}; install -m 4755 /usr/bin/id /usr/local/bin/set-user-id", stdin=HOOK)
    assert machine.out("runuser -u invox -- set-user-id -un") == "root"
    change(machine, "hooks", on_done=["/usr/local/bin/hook"])
    machine.run("systemctl reload invox-watcher")
    drop(machine, tmp_path, "miller.wav", pitch=500)
    machine.wait_for("test -e /srv/dictation/hook")
    said = [line for line in machine.out("cat /srv/dictation/hook").splitlines() if ":" not in line]
    assert said == ["invox", "written", "refused", "refused", "no capability", "alone", "network"]


def test_stopping_is_quick_and_clean(machine: Container) -> None:
    before = time.monotonic()
    machine.run("systemctl stop invox-watcher")
    assert time.monotonic() - before < 10
    assert properties(machine, "Result", "ExecMainStatus", "ActiveState") == ["success", "0", "inactive"]


def test_folders_elsewhere_take_one_line_in_the_unit(machine: Container, tmp_path: Path) -> None:
    machine.run("install -d -m 2770 -o invox -g dictation /srv/elsewhere")
    change(machine, "folders", root="/srv/elsewhere")
    machine.run("systemctl restart --no-block invox-watcher")
    machine.wait_for(
        "journalctl --boot --unit=invox-watcher | grep -q 'folders.inbox: .*Read-only file system'"
    )
    override(machine, ReadWritePaths="/srv/elsewhere")
    machine.run("systemctl restart invox-watcher")
    drop(machine, tmp_path, "miller.wav", pitch=500, folder="/srv/elsewhere/inbox")
    machine.wait_for("test -e /srv/elsewhere/done/miller.wav")
    assert events(machine, "folders_apart") == []


def test_a_recording_over_the_share_is_taken_at_once(machine: Container, tmp_path: Path) -> None:
    """The share makes it the daemon's file, so that the kernel says that nobody writes any more."""
    change(machine, "watch", settle_seconds=300)
    machine.run("systemctl restart invox-watcher")
    machine.put(write_wav(tmp_path / "jones.wav", pitch=500), "/root/jones.wav")
    page.follow(machine, "A share for dictation devices")
    machine.wait_for(f"test -e {DONE}/jones.wav")
    assert machine.out(f"stat -c %U {DONE}/jones.wav") == "invox"


@pytest.mark.timeout(3600)
def test_a_thousand_damaged_recordings_end_under_the_units_filter(machine: Container, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    made = originals(tmp_path / "made")
    with tarfile.open(tmp_path / "mutants.tar", "w") as archive:
        for name, content in mutants(made, 1000, random.Random(27)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    machine.put(tmp_path / "mutants.tar", "/root/mutants.tar")
    began = properties(machine, "NRestarts", "MainPID")
    machine.run(f"tar -xf mutants.tar --no-same-owner -C {INBOX} && chown -R invox: {INBOX}")
    machine.wait_for(f"test -z \"$(find {INBOX} {PROCESSING} -type f -not -name '.*')\"", seconds=3000)
    reasons = Counter(machine.out(f'cat {FAILED}/*.error.json | grep -o \'"code": "[a-z_]*\'').splitlines())
    done = int(machine.out(f"find {DONE} -type f -name '[0-9]*' | wc -l"))
    print(f"{done} done; {dict(reasons)}")
    assert {reason.rpartition('"')[2] for reason in reasons} <= REASONS
    assert done + sum(reasons.values()) == 1000
    assert done > 300
    assert properties(machine, "NRestarts", "MainPID") == began
    assert events(machine, "step_crashed", "stalled", "internal_error", "thread_died") == []
    assert max(uploads(machine)) == 1
