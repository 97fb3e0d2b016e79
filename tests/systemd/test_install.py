"""docs/install.md, followed from its first command to its last on a Debian that was never used before."""

from __future__ import annotations

from pathlib import Path

from tests.kit.recordings import write_au, write_wav
from tests.systemd import page
from tests.systemd.conftest import FIRST_SECTIONS, ON_A_MACHINE, Installed, build_wheel
from tests.systemd.container import Container

pytestmark = ON_A_MACHINE


def test_the_page_leads_to_a_transcript(installed: Installed) -> None:
    for section in FIRST_SECTIONS:
        print(f"---- {section}\n{installed.printed[section]}")
    assert {line.split()[0] for line in installed.printed["Check"].splitlines()} == {"ok"}
    assert "active (running)" in installed.printed["The service"]
    first = installed.printed["The first recording"]
    assert "-->" in first
    assert '"event": "delivered"' in first


def test_the_rest_of_the_page(machine: Container, tmp_path: Path) -> None:
    inbox, outbox = "/srv/dictation/inbox", "/srv/dictation/outbox"
    followed = ["The wheel", *FIRST_SECTIONS]

    def follow(section: str) -> str:
        followed.append(section)
        printed = page.follow(machine, section)
        print(f"---- {section}\n{printed}")
        return printed

    def drop(recording: str, pitch: float, folder: str = inbox) -> None:
        machine.put(write_wav(tmp_path / recording, pitch=pitch), f"{folder}/{recording}")

    follow("Other formats")
    machine.put(write_au(tmp_path / "phone.au", pitch=490), f"{inbox}/phone.au")
    machine.wait_for(f"grep -q audio/flac {outbox}/phone.json")

    follow("Changing the configuration")
    machine.wait_for("journalctl --boot --unit=invox-watcher | grep -q reloaded")
    drop("miller.wav", 500)
    machine.wait_for(f"test -s {outbox}/miller.txt")

    assert follow("Several on one machine").count("active (running)") == 2
    drop("heart.wav", 510, "/srv/dictation/cardiology/inbox")
    drop("hand.wav", 520)
    machine.wait_for(f"test -s /srv/dictation/cardiology/outbox/heart.srt && test -s {outbox}/hand.srt")

    machine.put(write_wav(tmp_path / "jones.wav", pitch=530), "/root/jones.wav")
    share = follow("A share for dictation devices")
    assert "putting file jones.wav" in share
    assert "Invalid" not in share  # testparm's
    machine.wait_for("test -e /srv/dictation/done/jones.wav")
    done = machine.out("cd /srv/dictation; stat -c '%A %U %G' done/jones.wav outbox/jones.srt outbox")
    assert done.splitlines() == ["-rw-rw---- invox dictation"] * 2 + ["drwxrws--- invox dictation"]

    follow("Logs")
    drop("after.wav", 540)
    log = "/var/log/invox-watcher/daemon.log"
    machine.wait_for(f"grep --quiet delivered {log} && grep --quiet started {log}.1")

    follow("Back up")
    kept = machine.out("tar -tzf /root/invox-watcher.tar.gz; stat -c %a /root/invox-watcher.tar.gz").split()
    assert {"etc/credstore/invox-watcher.api_key", "var/lib/invox-watcher/journal.sqlite"} <= set(kept)
    assert kept[-1] == "600"

    newer = build_wheel(tmp_path / "newer", version="99.0")
    machine.run("rm /root/invox_watcher-*.whl")
    machine.put(newer, f"/root/{newer.name}")
    assert "99.0" in follow("Upgrade")
    drop("upgraded.wav", 550)
    machine.wait_for(f"test -s {outbox}/upgraded.srt")

    follow("Uninstall")
    left = machine.out(
        "find /etc /opt /srv /usr/local /var/lib /var/log -iname '*invox*'; getent passwd invox || true"
    )
    assert left == ""

    assert "99.0" in follow("With pipx instead")
    assert followed == list(dict.fromkeys(block.section for block in page.blocks()))
