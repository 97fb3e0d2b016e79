"""FAULTS.md 70: a source that is mirrored into the inbox again and again adds nothing."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.faults.daemons import Daemons, Death, Fate
from tests.faults.evidence import assert_all_quiet, assert_own_transcript
from tests.kit.clinic import Clinic, running
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

ROUNDS = 6
NAMES = ["smith.wav", "ward 3/jones.wav", "ward 3/smith.wav"]


def mirrored(tmp_path: Path, api: Sandbox, **changes: Mapping[str, Any]) -> tuple[Clinic, Path]:
    """A clinic that skips what it knows, and a source of three recordings."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, intake={"on_duplicate": "skip"}, **changes)
    source = tmp_path / "source"
    for number, name in enumerate(NAMES):
        write_wav(source / name, pitch=300 + number)
    return clinic, source


def by_rsync(source: Path, inbox: Path) -> None:
    subprocess.run(["rsync", "-a", f"{source}/", f"{inbox}/"], check=True)


def by_copy(source: Path, inbox: Path) -> None:
    shutil.copytree(source, inbox, dirs_exist_ok=True, copy_function=shutil.copyfile)


def outputs_of(names: list[str]) -> list[str]:
    stems = [name.removesuffix(".wav") for name in names]
    return sorted(f"{stem}.{kind}" for stem in stems for kind in ("json", "srt"))


def audit(clinic: Clinic, what: str) -> list[dict[str, Any]]:
    return [entry for entry in clinic.audit_log() if entry["what"] == what]


@pytest.mark.parametrize("copy", [pytest.param(by_rsync, marks=pytest.mark.needs("rsync")), by_copy])
def test_70_six_rounds_of_a_mirror_are_three_transcripts(
    tmp_path: Path, api: Sandbox, copy: Callable[[Path, Path], None]
) -> None:
    clinic, source = mirrored(tmp_path, api)
    with running(clinic):
        for number in range(ROUNDS):
            copy(source, clinic.inbox)
            wait_for(
                "the round is over",
                lambda n=number: (
                    len(clinic.events("duplicate_skipped")) == 3 * n  # type: ignore[misc]
                    and len(clinic.events("done")) == 3
                ),
                seconds=40,
            )
    assert clinic.files(clinic.done) == NAMES
    assert clinic.files(clinic.outbox) == outputs_of(NAMES)
    assert clinic.files(clinic.failed) == []
    assert_all_quiet(clinic)
    assert api.stats()["uploads"] == api.stats()["presigns"] == 3
    assert len(json.loads(clinic.run("jobs", "--all", "--json").stdout)) == 3
    skipped = audit(clinic, "skipped")
    assert sorted({entry["name"] for entry in skipped}) == NAMES
    assert len(skipped) == 3 * (ROUNDS - 1)
    assert {entry["same_as"] for entry in skipped} == {event["job"] for event in clinic.events("done")}


def test_70_by_default_a_copy_gets_its_transcript(clinic: Clinic, api: Sandbox) -> None:
    for _round in range(2):
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["smith-2.wav", "smith.wav"]
    assert api.stats()["uploads"] == 1


def test_70_other_content_under_the_name_is_a_new_recording(tmp_path: Path, api: Sandbox) -> None:
    clinic, source = mirrored(tmp_path, api)
    by_copy(source, clinic.inbox)
    assert clinic.once() == 0
    write_wav(source / "smith.wav", pitch=900)
    for _round in range(2):
        by_copy(source, clinic.inbox)
        assert clinic.once() == 0
    assert clinic.files(clinic.done) == sorted([*NAMES, "smith-2.wav"])
    assert_own_transcript(clinic, "smith-2.wav", (source / "smith.wav").read_bytes())
    assert api.stats()["uploads"] == 4


def test_70_the_content_under_another_name_gets_its_transcript(tmp_path: Path, api: Sandbox) -> None:
    clinic, source = mirrored(tmp_path, api)
    shutil.copy(source / "smith.wav", source / "copy.wav")
    for _round in range(3):
        by_copy(source, clinic.inbox)
        assert clinic.once() == 0
    assert clinic.files(clinic.done) == ["copy.wav", *NAMES]
    assert clinic.files(clinic.outbox) == outputs_of(["copy.wav", *NAMES])
    assert api.stats()["uploads"] == 3


@pytest.mark.parametrize(
    "what", ["removed", "changed", "longer", "a link", "a folder", "its folder is a link"]
)
def test_70_without_the_same_bytes_in_done_nothing_is_deleted(
    tmp_path: Path, api: Sandbox, what: str
) -> None:
    clinic, source = mirrored(tmp_path, api)
    by_copy(source, clinic.inbox)
    assert clinic.once() == 0
    content = (source / "ward 3" / "smith.wav").read_bytes()
    filed = clinic.done / "ward 3" / "smith.wav"
    change(filed, what, tmp_path)
    shutil.copy(source / "ward 3" / "smith.wav", clinic.inbox / "ward 3")
    assert clinic.once() == 0
    assert clinic.events("duplicate_skipped") == []
    copies = [path for path in clinic.done.rglob("*smith*.wav") if path.is_file() and not path.is_symlink()]
    assert content in [path.read_bytes() for path in copies if path != filed]
    assert api.stats()["uploads"] == 3


def change(filed: Path, what: str, elsewhere: Path) -> None:
    if what == "its folder is a link":
        filed.parent.rename(elsewhere / "moved")
        filed.parent.symlink_to(elsewhere / "moved")
        return
    content = bytearray(filed.read_bytes())
    # Kept, so that no new file gets its inode: this is a person's doing, not the sender that goes on writing.
    filed.rename(elsewhere / "replaced.wav")
    if what == "changed":
        content[-1] ^= 1
        filed.write_bytes(content)
    elif what == "longer":
        filed.write_bytes(content + b"\0")
    elif what == "a link":
        (elsewhere / "same.wav").write_bytes(content)
        filed.symlink_to(elsewhere / "same.wav")
    elif what == "a folder":
        filed.mkdir()


def test_70_rounds_while_the_api_is_slow_wait_and_add_nothing(tmp_path: Path, api: Sandbox) -> None:
    clinic, source = mirrored(tmp_path, api)
    shutil.copy(source / "smith.wav", source / "copy.wav")
    api.fault({"on": "status", "do": "unknown_status", "times": None})
    with running(clinic):
        for number in range(1, 4):
            by_copy(source, clinic.inbox)
            wait_for("it is taken", lambda n=number: len(clinic.events("identified")) == 4 * n)  # type: ignore[misc]
        api.clear_faults()
        wait_for("all are settled", lambda: len(clinic.events("duplicate_skipped")) == 8, seconds=40)
    assert clinic.files(clinic.done) == ["copy.wav", *NAMES]
    assert clinic.files(clinic.outbox) == outputs_of(["copy.wav", *NAMES])
    assert_all_quiet(clinic)
    assert api.stats()["uploads"] == 3


def test_70_a_skipped_copy_runs_no_command(tmp_path: Path, api: Sandbox) -> None:
    script = tmp_path / "hook.py"
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('x')")
    clinic, source = mirrored(tmp_path, api, hooks={"on_done": [sys.executable, str(script)]})
    with running(clinic):
        by_copy(source, clinic.inbox)
        wait_for("the commands ran", lambda: len(clinic.events("delivery_sent")) == 3)
        by_copy(source, clinic.inbox)
        wait_for("they are skipped", lambda: len(clinic.events("duplicate_skipped")) == 3)
        write_wav(clinic.inbox / "last.wav", pitch=800)
        wait_for("another has run", lambda: len(clinic.events("delivery_sent")) == 4)
    assert (tmp_path / "ran").read_text() == "xxxx"


@pytest.mark.slow
@pytest.mark.needs  # minutes
@pytest.mark.timeout(400)
def test_70_a_kill_while_skipping_loses_and_adds_nothing(tmp_path: Path, api: Sandbox) -> None:
    daemons, kills = Daemons(), 0
    try:
        for step in ("identify", "unlink", "rmdir", "discard"):
            for moment in itertools.count(1):
                clinic, source = mirrored(tmp_path / f"{step}-{moment}", api)
                by_copy(source, clinic.inbox)
                assert daemons.run(clinic, "run", "--once") == 0
                shutil.copy(source / "smith.wav", clinic.inbox)
                was_killed = daemons.run(clinic, "run", "--once", fate=Fate(Death(step, moment))) < 0
                assert daemons.run(clinic, "run", "--once") == 0
                assert clinic.files(clinic.done) == NAMES
                assert clinic.files(clinic.outbox) == outputs_of(NAMES)
                assert clinic.files(clinic.failed) == clinic.events("vanished") == []
                assert_all_quiet(clinic)
                if not was_killed:
                    break
                kills += 1
    finally:
        daemons.close()
    assert kills >= 8
