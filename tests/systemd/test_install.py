"""docs/install.md, followed from its first command to its last on a Debian that was never used before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.kit.recordings import write_au, write_wav
from tests.systemd import page
from tests.systemd.conftest import (
    FIRST_SECTIONS,
    FIRST_VERSION,
    ON_A_MACHINE,
    Installed,
    Kitchen,
    build_wheel,
    newer,
    start_api,
)
from tests.systemd.container import Container, Layer, image
from tests.systemd.test_service import uploads

Follow = Callable[[str], str]  # carries out a section of the page, and returns what that printed
INBOX, OUTBOX = "/srv/dictation/inbox", "/srv/dictation/outbox"
# The sections that have tests of their own.
ELSEWHERE = (
    "Without the package",
    "Upgrade without the package",
    "Uninstall without the package",
    "With pipx",
)

pytestmark = ON_A_MACHINE


def test_the_page_leads_to_a_transcript(installed: Installed) -> None:
    for section in FIRST_SECTIONS:
        print(f"---- {section}\n{installed.printed[section]}")
    assert {line.split()[0] for line in installed.printed["Check"].splitlines()} == {"ok"}
    assert "active (running)" in installed.printed["The service"]
    first = installed.printed["The first recording"]
    assert "-->" in first
    assert '"event": "delivered"' in first


def dropped(machine: Container, tmp_path: Path, recording: str, pitch: float, folder: str = INBOX) -> None:
    machine.put(write_wav(tmp_path / recording, pitch=pitch), f"{folder}/{recording}")


def _dropped_over_the_share(machine: Container, tmp_path: Path, follow: Follow) -> None:
    machine.put(write_wav(tmp_path / "jones.wav", pitch=530), "/root/jones.wav")
    share = follow("A share for dictation devices")
    assert "putting file jones.wav" in share
    assert "Invalid" not in share  # testparm's
    machine.wait_for("test -e /srv/dictation/done/jones.wav")
    done = machine.out("cd /srv/dictation; stat -c '%A %U %G' done/jones.wav outbox/jones.srt outbox")
    assert done.splitlines() == ["-rw-rw---- invox dictation"] * 2 + ["drwxrws--- invox dictation"]


def _backed_up_and_restored(machine: Container, tmp_path: Path, follow: Follow) -> None:
    """What was transcribed before the backup is not uploaded again."""
    follow("Back up")
    kept = machine.out("cd /root; tar -tf invox-watcher-state.tar; tar -tzf invox-watcher-settings.tar.gz")
    assert {"etc/credstore/invox-watcher.api_key", "journal.sqlite", "audit.jsonl"} <= set(kept.split())
    assert machine.out("stat -c '%a %U' /root/invox-watcher-*").split() == ["600", "root"] * 2

    follow("Restore")
    sent = uploads(machine)
    dropped(machine, tmp_path, "miller again.wav", 500)
    machine.wait_for(f"test -s '{OUTBOX}/miller again.txt'")
    assert uploads(machine) == sent
    assert machine.out("stat -c '%a %U' /var/lib/invox-watcher") == "700 invox"


def _upgraded(machine: Container, package: Path, tmp_path: Path, follow: Follow) -> None:
    """Both daemons run, with recordings on their way."""
    log = "/var/log/invox-watcher/daemon.log"
    configuration = machine.out("cat /etc/invox-watcher/config.yaml")
    ran = machine.out("systemctl show --value -p MainPID invox-watcher invox-watcher@cardiology").split()
    for number in range(10):
        dropped(machine, tmp_path, f"upgraded {number}.wav", 550 + number, "/data/dictation/inbox")
    machine.run(f"rm /root/{package.name}")
    (tmp_path / "newer").mkdir()
    later = newer(package, tmp_path / "newer", "99.0")
    machine.put(later, f"/root/{later.name}")
    upgraded = follow("Upgrade")
    assert "Unpacking invox-watcher (99.0) over (1.0.0+g0123abc)" in upgraded
    for unit in ("invox-watcher", "invox-watcher@cardiology"):
        assert f"Started {unit}.service again." in upgraded
    assert "invox-watcher 99.0" in upgraded
    runs = machine.out("systemctl show --value -p MainPID invox-watcher invox-watcher@cardiology").split()
    assert len({*ran, *runs}) == 4
    machine.wait_for(f"""grep -q '"event": "started".*"version": "99.0"' {log}""")
    machine.wait_for("test $(ls /data/dictation/outbox/upgraded*.srt | wc -l) = 10")
    assert max(uploads(machine)) == 1
    assert machine.out("cat /etc/invox-watcher/config.yaml") == configuration


def test_the_page_for_those_who_wait(machine: Container) -> None:
    """By the commands of its section: at an address, then by a socket that only nginx's user may use."""
    print(page.follow(machine, "The page", "sh page"))
    machine.wait_for("test -S /run/invox-watcher/page.sock")
    ask = "curl --silent --show-error --unix-socket /run/invox-watcher/page.sock http://page"
    form = "--data name=anna --data-urlencode 'password=violet anchor seven tables'"
    machine.run(f"runuser -u www-data -- {ask}/sign-in {form} --cookie-jar /tmp/jar --fail")
    machine.run(f"runuser -u www-data -- {ask}/find --cookie /tmp/jar | grep smith.wav")
    assert "Couldn't connect" in machine.out(f"runuser -u nobody -- {ask}/ 2>&1 || true")
    assert machine.out("stat -c '%A %U %G' /run/invox-watcher/page.sock").strip() == "srw-rw---- invox invox"
    assert machine.out("stat -c '%a %U' /etc/invox-watcher/users.yaml").strip() == "600 invox"
    machine.run("pkill -KILL --full '[i]nvox_watcher.page'")
    machine.wait_for(f"{ask}/sign-in --fail")
    machine.run("systemctl stop invox-watcher")
    assert machine.out("pgrep --full '[i]nvox_watcher.page' || true") == ""


def test_the_rest_of_the_page(machine: Container, package: Path, tmp_path: Path) -> None:
    followed = list(FIRST_SECTIONS)

    def follow(section: str) -> str:
        followed.append(section)
        printed = page.follow(machine, section)
        print(f"---- {section}\n{printed}")
        return printed

    machine.put(write_au(tmp_path / "phone.au", pitch=490), f"{INBOX}/phone.au")
    machine.wait_for(f"grep -q audio/flac {OUTBOX}/phone.json")  # decoded: the package has all that it takes

    follow("Changing the configuration")
    machine.wait_for("journalctl --boot --unit=invox-watcher | grep -q reloaded")
    dropped(machine, tmp_path, "miller.wav", 500)
    machine.wait_for(f"test -s {OUTBOX}/miller.txt")

    assert follow("Several on one machine").count("active (running)") == 2
    dropped(machine, tmp_path, "heart.wav", 510, "/srv/dictation/cardiology/inbox")
    dropped(machine, tmp_path, "hand.wav", 520)
    machine.wait_for(f"test -s /srv/dictation/cardiology/outbox/heart.srt && test -s {OUTBOX}/hand.srt")

    _dropped_over_the_share(machine, tmp_path, follow)

    follow("Logs")
    dropped(machine, tmp_path, "after.wav", 540)
    log = "/var/log/invox-watcher/daemon.log"
    machine.wait_for(f"grep --quiet delivered {log} && grep --quiet started {log}.1")

    _backed_up_and_restored(machine, tmp_path, follow)

    follow("Moving the folders")
    dropped(machine, tmp_path, "moved.wav", 545, "/data/dictation/inbox")
    machine.wait_for("test -s /data/dictation/outbox/moved.srt")

    _upgraded(machine, package, tmp_path, follow)

    purged = follow("Uninstall")
    assert "/srv/dictation is kept" in purged
    left = machine.out(
        "find /etc /opt /srv /usr /var/lib /var/log -iname '*invox*' || true; getent passwd invox || true"
    )
    assert left == ""
    assert machine.out("test -s /data/dictation/outbox/moved.srt && echo there") == "there"
    assert [*followed, *ELSEWHERE] == page.sections()


def test_a_removed_package_leaves_what_is_not_its_own(
    machine: Container, package: Path, tmp_path: Path
) -> None:
    kept = "ls -R /srv/dictation /etc/invox-watcher /etc/credstore; cat /etc/invox-watcher/config.yaml"
    before = machine.out(kept)
    machine.run("apt-get remove -y invox-watcher")
    assert machine.out(kept) == before
    machine.run("test ! -e /opt/invox-watcher")
    assert machine.run("systemctl is-enabled invox-watcher", check=False).returncode != 0
    assert machine.run("pgrep --list-full -u invox", check=False).stdout == ""

    machine.run(f"apt-get install -y /root/{package.name}")  # and again: nothing starts by itself
    assert machine.run("systemctl is-active invox-watcher", check=False).stdout.strip() == "inactive"
    machine.run("systemctl enable --now invox-watcher")
    dropped(machine, tmp_path, "again.wav", 500)
    machine.wait_for("test -e /srv/dictation/done/again.wav")

    done = machine.out("ls -R /srv/dictation")
    purged = machine.out("apt-get purge -y invox-watcher")
    for place in ("/srv/dictation", "/var/lib/invox-watcher", "/etc/credstore/invox-watcher.api_key"):
        assert f"{place} is kept" in purged
    assert machine.out("ls -R /srv/dictation") == done
    assert machine.out("ls -A /var/lib/invox-watcher") == "audit.jsonl"
    assert machine.run("ls -d /etc/invox-watcher /var/log/invox-watcher", check=False).stdout == ""


def test_another_server_takes_over(
    machine: Container, kitchen: Kitchen, package: Path, tmp_path: Path
) -> None:
    dropped(machine, tmp_path, "late.wav", 500)
    machine.wait_for("test -e /srv/dictation/done/late.wav")
    page.follow(machine, "Moving to another server", "sh old")
    moved = machine.fetch("/root/move.tar.gz", tmp_path / "move.tar.gz")
    with kitchen.container(Layer((image(kitchen.cache),))) as new:
        new.put(package, f"/root/{package.name}")
        page.follow(new, "The package")
        start_api(new)
        new.put(moved, "/root/move.tar.gz")
        page.follow(new, "Moving to another server", "sh new")
        dropped(new, tmp_path, "late again.wav", 500)
        new.wait_for("test -s '/srv/dictation/outbox/late again.srt'")
        assert uploads(new) == []  # the transcript is that of the old server
        dropped(new, tmp_path, "new.wav", 600)
        new.wait_for("test -e /srv/dictation/done/new.wav")
        listed = new.out("invox-watcher jobs --all")
        assert [name for name in ("smith", "late", "late again", "new") if f"{name}.wav" not in listed] == []


def test_the_page_without_the_package(kitchen: Kitchen, package: Path, tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "clone", version=FIRST_VERSION)
    with kitchen.container(Layer((image(kitchen.cache),))) as machine:
        machine.put(wheel, f"/root/{wheel.name}")
        machine.put(write_wav(tmp_path / "smith.wav"), "/root/smith.wav")
        assert FIRST_VERSION in page.follow(machine, "Without the package")
        start_api(machine)
        for section in FIRST_SECTIONS[1:]:
            printed = page.follow(machine, section)
        assert "-->" in printed

        machine.run("rm /root/invox_watcher-*.whl")
        later = build_wheel(tmp_path / "newer", version="99.0")
        machine.put(later, f"/root/{later.name}")
        upgraded = page.follow(machine, "Upgrade without the package")
        assert "Successfully installed invox-watcher-99.0" in upgraded
        dropped(machine, tmp_path, "upgraded.wav", 550)
        machine.wait_for(f"test -s {OUTBOX}/upgraded.srt")

        machine.put(package, f"/root/{package.name}")
        mixed = machine.run(f"apt-get install -y /root/{package.name}", check=False)
        assert "/opt/invox-watcher exists and does not belong to this package" in mixed.stdout + mixed.stderr
        assert mixed.returncode != 0
        machine.run("systemctl is-active invox-watcher")

        page.follow(machine, "Uninstall without the package")
        assert "99.0" in page.follow(machine, "With pipx")
        machine.run("rm -r /opt/pipx /opt/invox-watcher /usr/local/bin/invox-watcher")

        confold = "-o Dpkg::Options::=--force-confold"
        machine.run(
            f"apt-get install -y {confold} /root/{package.name} && systemctl enable --now invox-watcher"
        )
        dropped(machine, tmp_path, "package.wav", 560)
        machine.wait_for(f"test -s {OUTBOX}/package.srt")
