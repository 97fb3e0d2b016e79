"""FAULTS.md 51: instances whose folders overlap, however that came about; none takes what is another's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.files import MARK_FILE
from invox_watcher.sandbox.server import Sandbox
from tests.faults.mounts import bind
from tests.faults.witness import everything_in
from tests.kit.clinic import Clinic, running, stop
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

RACES = 5


def an_instance(base: Path, name: str, api: Sandbox, **folders: Path) -> Clinic:
    """An instance with a configuration and a state directory outside its folders."""
    state = {"directory": str(base / f"{name} state")}
    Path(state["directory"]).mkdir(parents=True, exist_ok=True, mode=0o700)
    texts = {key: str(folder) for key, folder in folders.items()}
    return Clinic(base / name, api.base_url, folders={"root": str(base / name), **texts}, state=state)


def refusal(clinic: Clinic, *command: str) -> str:
    refused = clinic.run(*(command or ("run", "--once")))
    assert refused.returncode == 78, refused.stderr
    return refused.stderr


def lets_pass(clinic: Clinic, name: str, pitch: float) -> None:
    write_wav(clinic.inbox / name, pitch=pitch)
    wait_for(f"{name} is done", lambda: name in clinic.files(clinic.done))


def marks_in(*folders: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / MARK_FILE).read_text()) for folder in folders]


# ---- the example, and its mirror image ---------------------------------------------------------------------


def test_51_a_root_in_the_inbox_of_another_is_refused(tmp_path: Path, api: Sandbox) -> None:
    first = an_instance(tmp_path, "first", api)
    second = an_instance(tmp_path, "second", api)
    second.config.write_text(
        yaml.safe_dump(
            yaml.safe_load(second.config.read_text()) | {"folders": {"root": str(first.inbox / "second")}}
        )
    )
    with running(first):
        for command in (("check",), ("run", "--once"), ("run",), ("start",)):
            refused = second.run(*command)
            assert refused.returncode == 78
            said = refused.stdout + refused.stderr
            assert f"folders.inbox: {first.inbox}/second/inbox lies inside {first.inbox}, which" in said
            assert "(pid " in said
        assert first.files(first.inbox) == []
        assert not (first.inbox / "second").exists()
        lets_pass(first, "smith.wav", 440)
    assert api.stats()["uploads"] == 1


def test_51_an_inbox_around_another_instance_is_refused(tmp_path: Path, api: Sandbox) -> None:
    inner = an_instance(tmp_path, "around/ward/inner", api)
    outer = an_instance(tmp_path, "outer", api, inbox=tmp_path / "around")
    with running(inner):
        said = refusal(outer)
        assert f"folders.inbox: {tmp_path}/around contains {inner.root}" in said
        lets_pass(inner, "smith.wav", 440)
        assert inner.files(inner.failed) == []
    assert "contains" in refusal(outer, "start")
    assert api.stats()["uploads"] == 1


def test_51_instances_that_share_done_or_failed_are_refused(tmp_path: Path, api: Sandbox) -> None:
    first = an_instance(tmp_path, "first", api)
    write_wav(first.inbox / "smith.wav")
    (first.inbox / "letter.wav").write_text("not audio\n")
    assert first.once() == 1
    before = everything_in(first.root)
    for role in ("done", "failed", "outbox"):
        second = an_instance(tmp_path, f"with {role}", api, **{role: first.root / role})
        write_wav(second.inbox / "smith.wav", pitch=500)
        assert f"folders.{role}: {first.root}/{role} is used as folders.{role} by" in refusal(second)
        assert second.files(second.inbox) == ["smith.wav"]
    assert everything_in(first.root) == before
    assert api.stats()["uploads"] == 1


# ---- races and crashes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("race", range(RACES))
@pytest.mark.parametrize("nested", [False, True], ids=["same", "nested"])
def test_51_of_two_that_start_at_once_one_runs(tmp_path: Path, api: Sandbox, nested: bool, race: int) -> None:
    first = an_instance(tmp_path, "first", api)
    inbox = first.inbox / "ward" / "inbox" if nested else first.inbox
    second = an_instance(tmp_path, "second", api, inbox=inbox)
    processes = []
    for clinic in (first, second) if race % 2 else (second, first):
        processes.append(clinic.launch("run"))
    try:
        wait_for("one ends", lambda: any(process.poll() is not None for process in processes))
        wait_for("one watches", lambda: first.events("watching") + second.events("watching") != [])
        (left,) = (process for process in processes if process.poll() is None)
        write_wav((inbox if second.events("watching") else first.inbox) / "x.wav")
        wait_for("it is done", lambda: first.files(first.done) + second.files(second.done) == ["x.wav"])
        assert stop(left) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert sorted(process.returncode for process in processes) == [0, 78]
    assert api.stats()["uploads"] == 1


def test_51_a_killed_instance_starts_again_and_others_do_not(tmp_path: Path, api: Sandbox) -> None:
    first = an_instance(tmp_path, "first", api)
    second = an_instance(tmp_path, "second", api, outbox=first.inbox / "ward")
    daemon = first.start()
    daemon.kill()
    daemon.wait()
    assert f"folders.outbox: {first.inbox}/ward lies inside" in refusal(second)
    write_wav(first.inbox / "smith.wav")
    assert first.once() == 0
    assert first.files(first.done) == ["smith.wav"]


@pytest.mark.parametrize("left", range(6))
def test_51_a_start_killed_while_marking_is_repeated(tmp_path: Path, api: Sandbox, left: int) -> None:
    """As a kill leaves it: some folders marked, others with a temporary file, or with nothing."""
    clinic = an_instance(tmp_path, "one", api)
    assert clinic.once() == 0
    folders = [clinic.inbox, clinic.processing, clinic.outbox, clinic.done, clinic.failed]
    for folder in folders[left:]:
        os.rename(folder / MARK_FILE, folder / f".{MARK_FILE}.tmp")
        (folder / f".{MARK_FILE}.tmp").write_text('{"note": "inv')
    assert clinic.once() == 0
    assert len({mark["instance"] for mark in marks_in(*folders)}) == 1


# ---- folders that move, vanish, are copied, mirrored -------------------------------------------------------


def test_51_an_instance_may_move_with_all_it_has(tmp_path: Path, api: Sandbox) -> None:
    first = an_instance(tmp_path / "old", "first", api)
    write_wav(first.inbox / "smith.wav")
    assert first.once() == 0
    os.rename(tmp_path / "old", tmp_path / "new")
    moved = an_instance(tmp_path / "new", "first", api)
    write_wav(moved.inbox / "jones.wav", pitch=500)
    assert moved.once() == 0
    assert moved.files(moved.done) == ["jones.wav", "smith.wav"]
    assert {mark["path"] for mark in marks_in(moved.inbox)} == {str(moved.inbox)}


def test_51_a_copied_instance_is_another_one(tmp_path: Path, api: Sandbox) -> None:
    first = an_instance(tmp_path / "old", "first", api)
    assert first.once() == 0
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    copy = an_instance(tmp_path / "new", "first", api)
    with running(first):
        assert copy.once() == 0
    sharing = an_instance(tmp_path / "new", "first", api, done=first.done)
    assert "folders.done" in refusal(sharing)


def test_51_the_marks_of_a_removed_instance_are_no_obstacle(tmp_path: Path, api: Sandbox) -> None:
    first = an_instance(tmp_path, "first", api)
    assert first.once() == 0
    second = an_instance(tmp_path, "second", api, inbox=first.inbox)
    assert "is used as folders.inbox by" in refusal(second)
    shutil.rmtree(tmp_path / "first state")
    write_wav(first.inbox / "smith.wav")
    assert second.once() == 0
    assert second.files(second.done) == ["smith.wav"]


def test_51_a_mark_can_be_removed_as_the_hint_says(tmp_path: Path, api: Sandbox) -> None:
    first = an_instance(tmp_path, "first", api)
    assert first.once() == 0
    second = an_instance(tmp_path, "second", api, inbox=first.inbox)
    assert f"delete {first.inbox}/{MARK_FILE}" in refusal(second)
    (first.inbox / MARK_FILE).unlink()
    assert second.once() == 0


def test_51_a_mirror_that_deletes_a_mark_does_not_free_it(tmp_path: Path, api: Sandbox) -> None:
    first = an_instance(tmp_path, "first", api)
    second = an_instance(tmp_path, "second", api, outbox=first.inbox)
    with running(first):
        (first.inbox / MARK_FILE).unlink()
        assert "folders.outbox" in refusal(second)
        wait_for("it is marked again", (first.inbox / MARK_FILE).exists)
    assert "folders.outbox" in refusal(second)


# ---- what only shows while it runs -------------------------------------------------------------------------


def test_51_a_marked_folder_moved_into_the_inbox_is_skipped(tmp_path: Path, api: Sandbox) -> None:
    first, second = an_instance(tmp_path, "first", api), an_instance(tmp_path, "second", api)
    assert second.once() == 0
    write_wav(second.inbox / "theirs.wav")
    with running(first):
        os.rename(second.inbox, first.inbox / "ward")
        wait_for("it is reported", lambda: first.events("inbox_occupied") != [])
        write_wav(first.inbox / "ward" / "too.wav", pitch=300)
        write_wav(first.inbox / "ward" / "deep" / "er.wav", pitch=320)
        lets_pass(first, "ours.wav", 500)
        wait_for("a rescan has passed", lambda: first.events("inbox_occupied") != [])
        assert first.files(first.inbox) == ["ward/deep/er.wav", "ward/theirs.wav", "ward/too.wav"]
        (event,) = first.events("inbox_occupied")
        assert f"with state directory {tmp_path}/second state uses this folder" in event["reason"]
        explained = first.run("explain", str(first.inbox / "ward" / "deep" / "er.wav"))
        assert f"{tmp_path}/second state uses this folder as folders.inbox" in explained.stdout
        assert "The file would be ignored." in explained.stdout
        (first.inbox / "ward" / MARK_FILE).unlink()
        wait_for("what is free is taken", lambda: len(first.files(first.done)) == 4)
    assert api.stats()["uploads"] == 4


def test_51_a_copy_of_a_marked_folder_is_taken(tmp_path: Path, api: Sandbox) -> None:
    first, second = an_instance(tmp_path, "first", api), an_instance(tmp_path, "second", api)
    assert second.once() == 0
    write_wav(second.inbox / "old.wav")
    with running(first):
        shutil.copytree(second.inbox, first.inbox / "ward")
        wait_for("it is done", lambda: first.files(first.done) == ["ward/old.wav"])
    assert first.events("inbox_occupied") == []


# ---- other hosts, other views ------------------------------------------------------------------------------


@pytest.mark.needs("root", "unshare")
def test_51_a_folder_of_another_host_is_refused_by_its_name(tmp_path: Path, api: Sandbox) -> None:
    first, second = an_instance(tmp_path, "first", api), an_instance(tmp_path, "second", api)
    other_host = ["unshare", "--uts", "sh", "-c", 'hostname ward-server && exec "$@"', "sh"]
    with first.log.open("ab") as log:
        subprocess.run([*other_host, *first.command("run", "--once")], stderr=log, check=True)
    shutil.rmtree(tmp_path / "first state")  # which proves nothing about another host
    second = an_instance(tmp_path, "second", api, failed=first.failed)
    said = refusal(second)
    assert f"folders.failed: {first.failed} is used as folders.failed by the invox-watcher instance" in said
    assert f"with state directory {tmp_path}/first state on host ward-server" in said
    assert f"delete {first.failed}/{MARK_FILE}" in said


@pytest.mark.needs("root", "unshare")
def test_51_an_instance_that_sees_only_its_own_folders_is_found(tmp_path: Path, api: Sandbox) -> None:
    """As in a container: its folders are another instance's, by a path that shows nothing above them."""
    outer = an_instance(tmp_path, "outer", api)
    write_wav(outer.inbox / "ward" / "old.wav")
    inner = an_instance(tmp_path, "inner", api)
    hide = f"mount --bind '{outer.inbox}/ward' '{inner.root}' && mount -t tmpfs none '{outer.root}' && exec"
    with running(outer):
        wait_for("it is done", lambda: outer.files(outer.done) == ["ward/old.wav"])
        shutil.copy(inner.config, tmp_path / "inner.yaml")
        command = inner.command("run")
        command[-1] = str(tmp_path / "inner.yaml")
        hidden = ["unshare", "--mount", "sh", "-c", f'{hide} "$@"', "sh", *command]
        with (tmp_path / "inner.log").open("ab") as log:
            process = subprocess.Popen(hidden, stderr=log)
        try:
            wait_for("it starts", (outer.inbox / "ward" / "inbox" / MARK_FILE).exists)
            wait_for("it watches", lambda: "watching" in (tmp_path / "inner.log").read_text())
            write_wav(outer.inbox / "ward" / "inbox" / "theirs.wav", pitch=300)
            ward = outer.inbox / "ward"
            wait_for("it is done by the inner one", (ward / "done" / "theirs.wav").exists)
            lets_pass(outer, "ours.wav", 500)
            wait_for("it is reported", lambda: len(outer.events("inbox_occupied")) == 5)
            assert outer.files(outer.failed) == []
            assert outer.files(outer.done) == ["ours.wav", "ward/old.wav"]
        finally:
            process.terminate()
            process.wait()
    assert api.stats()["uploads"] == 3
    assert "contains" in refusal(outer)


@pytest.mark.needs("root")
def test_51_own_folders_over_a_bind_mount_are_refused(tmp_path: Path, api: Sandbox) -> None:
    clinic = an_instance(tmp_path, "one", api, done=tmp_path / "bound")
    (clinic.inbox / "ward").mkdir()
    with bind(clinic.inbox / "ward", tmp_path / "bound"):
        assert f"folders.done: {tmp_path}/bound is the same as, or inside, folders.inbox" in refusal(clinic)
        assert "folders.done" in clinic.run("check").stdout
