"""`jobs`, `show`, `retry`: what is said of recordings, to a person, to a script, on a terminal, for ever."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running, sandbox
from tests.kit.commands import QUICK, as_nobody, clinic_of_two, give, ids, listed, public_folder, terminal
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import status_of, wait_for


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    """A clinic of two for the tests that only look."""
    return clinic_of_two(tmp_path_factory.mktemp("looked-at"))


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    """A clinic of two of the test's own."""
    return clinic_of_two(tmp_path)


def test_before_the_first_run_there_are_no_jobs(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    for command in (("jobs",), ("show", "an-id"), ("retry", "--all")):
        asked = clinic.run(*command)
        assert asked.returncode == 75
        assert "There is no journal at" in asked.stderr
    assert not (clinic.root / "state").exists()


def test_jobs_lists_what_its_options_select(looked_at: Clinic) -> None:
    assert looked_at.run("jobs").stdout == "Nothing under way. done: 1, failed: 1.\n"
    assert looked_at.run("jobs", "--json").stdout == "[]\n"
    everything = looked_at.run("jobs", "--all").stdout
    assert re.search(
        r"^\S+  done +\d{4}-\d\d-\d\d [\d:]+[+-]\d\d:\d\d  ward 3/smith.wav$", everything, re.MULTILINE
    )
    assert re.search(r"^\S+  failed .*  letter.wav  not_audio$", everything, re.MULTILINE)
    failed = json.loads(looked_at.run("jobs", "--state", "failed", "--json").stdout)
    assert [job["path"] for job in failed] == ["letter.wav"]
    assert failed[0]["failure"]["code"] == "not_audio"
    assert failed[0]["received_at"].endswith("Z")
    assert len(looked_at.run("jobs", "--all", "--limit", "1").stdout.splitlines()) == 1


def test_filters_add_up(looked_at: Clinic) -> None:
    def paths(*arguments: str) -> list[str]:
        return [job["path"] for job in listed(looked_at, *arguments)]

    now = datetime.now(UTC)
    assert paths("--failed") == ["letter.wav"]
    assert paths("--done") == ["ward 3/smith.wav"]
    assert sorted(paths("--state", "done", "--failed")) == ["letter.wav", "ward 3/smith.wav"]
    assert paths("--state", "waiting", "--state", "uploading") == []
    assert len(paths("--since", "1h")) == 2
    assert len(paths("--since", (now - timedelta(days=1)).date().isoformat())) == 2
    assert paths("--since", (now + timedelta(hours=1)).isoformat()) == []
    assert len(paths("--since", "yesterday", "--until", "today")) == 2  # a day ends with its last second
    assert paths("--until", "yesterday") == paths("--until", "1h") == []
    assert len(paths("--since", "1h", "--until", (now + timedelta(hours=1)).isoformat())) == 2
    assert paths("--failed", "--until", "1h") == []
    assert paths("--name", "ward*/*") == ["ward 3/smith.wav"]
    assert paths("--name", "smith.*") == ["ward 3/smith.wav"]  # the last part alone
    assert paths("--name", "*.mp3") == []
    assert len(paths("--name", "*.wav", "--limit", "1")) == 1
    assert paths("--failed", "--name", "smith*") == []


def test_since_without_a_zone_is_of_this_place(looked_at: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=30)).replace(tzinfo=None).isoformat()
    for zone, count in (("UTC", 0), ("UTC-9", 2)):  # POSIX: nine hours ahead
        command = looked_at.command("jobs", "--json", "--since", soon)
        found = subprocess.run(
            command, env={**os.environ, "TZ": zone}, capture_output=True, check=True
        ).stdout
        assert len(json.loads(found)) == count


def test_on_a_terminal_jobs_is_a_table(looked_at: Clinic) -> None:
    for columns in (80, 130):
        with terminal(looked_at.command("jobs", "--all"), columns=columns) as screen:
            assert screen.ended() == 0
            heading, *rows = screen.screen
        by_state = {row.split()[1]: row for row in rows}
        if columns == 80:
            assert heading.split() == ["Id", "State", "Received", "Took", "Recording", "Next"]
            assert re.search(r"done +\d\d-\d\d \d\d:\d\d +[\d.]+ s  ward 3/smith.wav", by_state["done"])
        else:
            assert heading.split() == [
                *("Id", "State", "Received", "Age", "Took", "Recording", "Size", "Upload", "Next"),
            ]
            received = r"\d{4}-\d\d-\d\d [\d:]{8}"
            assert re.search(
                rf"done +{received} +\d+.* s +[\d.]+ s  ward 3/smith.wav +8 kB .*100 %", by_state["done"]
            )
        assert by_state["failed"].rstrip().endswith("not_audio")
        assert max(map(len, rows)) <= columns


def test_the_times_of_the_table_are_the_readers(looked_at: Clinic) -> None:
    received = datetime.fromisoformat(listed(looked_at, "--done")[0]["received_at"])
    there = received.astimezone(timezone(timedelta(hours=9)))
    with terminal(["env", "TZ=UTC-9", *looked_at.command("jobs", "--done")], columns=80) as screen:
        assert screen.ended() == 0
        assert f"{there:%m-%d %H:%M}" in screen.screen[1]


def test_a_long_name_loses_its_beginning_alone(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    name = "ward 3 of the university hospital/2026-11-28 dictation of Dr Smith.wav"
    write_wav(clinic.inbox / name)
    assert clinic.once() == 0
    with terminal(clinic.command("jobs", "--all"), columns=80) as screen:
        assert screen.ended() == 0
        (shown,) = re.findall(r"s  …(.*\.wav)", screen.screen[1])
    assert len(shown) > 20
    assert name.endswith(shown)
    with terminal(clinic.command("jobs", "--all", "--wide"), columns=80) as screen:
        assert screen.ended() == 0
        assert name in "".join(screen.screen)
    assert name in clinic.run("jobs", "--all").stdout  # in a pipe, always


def test_a_dumb_terminal_gets_plain_lines(looked_at: Clinic) -> None:
    with terminal(["env", "TERM=dumb", *looked_at.command("jobs", "--all")]) as screen:
        assert screen.ended() == 0
    assert "\x1b" not in screen.raw
    assert re.search(r"^\S+  failed  .*  letter.wav  not_audio\r$", screen.raw, re.MULTILINE)


def test_show_prints_the_history_of_one_recording(looked_at: Clinic) -> None:
    job_id = ids(looked_at)["ward 3/smith.wav"]
    shown = looked_at.run("show", job_id)
    assert shown.returncode == 0
    assert re.search(r"^path +ward 3/smith.wav$", shown.stdout, re.MULTILINE)
    moments = r"^\d{4}-\d\d-\d\d [\d:]+[+-]\d\d:\d\d +(\+\S+ s)?  (\w+)"
    gaps, states = zip(*re.findall(moments, shown.stdout, re.MULTILINE), strict=True)
    assert states == (
        "claimed", "identified", "uploading", "waiting", "transcribed", "delivered", "done",
    )  # fmt: skip
    assert gaps[0] == ""
    assert all(gaps[1:])
    assert re.search(
        r"^took: settle .* s, upload .* s, transcription .* s, total .* s$", shown.stdout, re.MULTILINE
    )
    for what, path in (
        ("recording", looked_at.done / "ward 3/smith.wav"),
        ("transcript", looked_at.outbox / "ward 3/smith.json"),
        ("transcript", looked_at.outbox / "ward 3/smith.srt"),
    ):
        assert re.search(rf"^{what} +{path}$", shown.stdout, re.MULTILINE)
    as_json = json.loads(looked_at.run("show", job_id, "--json").stdout)
    assert as_json["state"] == "done"
    assert [moment["state"] for moment in as_json["history"]] == list(states)
    assert all(moment["at"].endswith("Z") for moment in as_json["history"])


def test_the_durations_of_show_are_those_of_its_times(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", result_delay_seconds=1) as api:
        watch = {"settle_seconds": 30, "patience_seconds": 60}
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=watch)
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 0
    shown = json.loads(clinic.run("show", ids(clinic)["smith.wav"], "--json").stdout)
    took, at = shown["durations"], {moment["state"]: moment["at"] for moment in shown["history"]}

    def seconds(start: str, end: str) -> float:
        return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()

    def between(start: str, end: str) -> float:
        return seconds(at[start], at[end])

    assert took["settle_seconds"] < 15  # closed and whole: nothing to wait for
    assert took["upload_seconds"] == pytest.approx(between("uploading", "waiting"), abs=0.002)
    # Not from state to state, which are written a few syncs after what they are about.
    assert (
        0.6
        <= took["transcription_seconds"]
        == pytest.approx(seconds(shown["uploaded_at"], shown["completed_at"]), abs=0.002)
    )
    assert took["total_seconds"] == pytest.approx(
        seconds(shown["received_at"], shown["updated_at"]), abs=0.002
    )
    assert took["total_seconds"] >= between("claimed", "done") - 0.002
    assert sum(moment["after_seconds"] or 0 for moment in shown["history"]) == pytest.approx(
        between("claimed", "done"), abs=0.002
    )


def test_show_says_what_is_no_longer_there(clinic: Clinic) -> None:
    (clinic.outbox / "ward 3/smith.srt").unlink()
    job_id = ids(clinic)["ward 3/smith.wav"]
    shown = clinic.run("show", job_id).stdout
    assert f"{clinic.outbox}/ward 3/smith.srt  (no longer exists)\n" in shown
    assert f"{clinic.outbox}/ward 3/smith.json\n" in shown
    files = json.loads(clinic.run("show", job_id, "--json").stdout)["files"]
    assert [file["path"] for file in files if not file["present"]] == [f"{clinic.outbox}/ward 3/smith.srt"]


def test_a_part_of_an_id_is_enough_if_it_is_of_one_job(looked_at: Clinic) -> None:
    wanted, other = ids(looked_at)["letter.wav"], ids(looked_at)["ward 3/smith.wav"]
    second_half = wanted.rpartition("-")[2]
    for part in (wanted, wanted[:22], second_half, second_half[:6]):
        assert json.loads(looked_at.run("show", part, "--json").stdout)["id"] == wanted
    ambiguous = looked_at.run("show", wanted[:8])
    assert ambiguous.returncode == 64
    assert f"More than one id begins with {wanted[:8]}." in ambiguous.stderr
    assert wanted in ambiguous.stderr
    assert other in ambiguous.stderr
    for nonsense in ("%", "_", wanted[5:]):  # no wildcards, nothing from the middle
        unknown = looked_at.run("show", nonsense)
        assert unknown.returncode == 1
        assert f"No job has the id {nonsense}." in unknown.stderr


def test_show_says_why_a_recording_failed(looked_at: Clinic) -> None:
    shown = looked_at.run("show", ids(looked_at)["letter.wav"]).stdout
    for name, value in (
        ("failed_at_stage", "claimed"),
        ("code", "not_audio"),
        ("hint", "This is not an audio"),
        ("retry_can_help", "no"),
    ):
        assert re.search(rf"^{name} +{value}", shown, re.MULTILINE)
    assert re.search(r"^received_at +\d{4}-\d\d-\d\d [\d:]+[+-]\d\d:\d\d$", shown, re.MULTILINE)
    assert "Failure(" not in shown
    assert "{" not in shown


def test_retry_brings_a_failed_recording_back(clinic: Clinic) -> None:
    job_id = ids(clinic)["letter.wav"]
    back = clinic.run("retry", job_id)
    line = f"{job_id}: back in the inbox as letter.wav (it will fail again unless it is fixed: not_audio)"
    waits = "No daemon is running: they stay in the inbox until it is started."
    assert (back.returncode, back.stdout) == (0, f"{line}\n{waits}\n")
    assert clinic.files(clinic.inbox) == ["letter.wav"]
    assert clinic.files(clinic.failed) == []
    again = clinic.run("retry", job_id)
    assert again.returncode == 1
    assert "no longer in failed/" in again.stderr
    assert clinic.run("retry", "--all").stdout == "There is no failed recording in the failed folder.\n"


def test_retry_brings_back_every_one_without_overwriting(clinic: Clinic) -> None:
    (clinic.inbox / "letter.wav").write_text("another letter\n")
    assert clinic.once() == 1
    (clinic.inbox / "letter.wav").write_text("a third letter\n")
    back = clinic.run("retry", "--code", "not_audio")
    assert back.returncode == 0
    assert back.stdout.count("back in the inbox as letter-") == 2
    letters = {path.read_text().split()[0] for path in clinic.inbox.glob("*.wav")}
    assert letters == {"Dear", "another", "a"}
    assert (clinic.inbox / "letter.wav").read_text() == "a third letter\n"
    assert clinic.files(clinic.failed) == []


def test_retry_all_leaves_the_hopeless_and_doubles_nothing(clinic: Clinic) -> None:
    for number in range(6):
        (clinic.inbox / f"{number}.wav").write_text(f"Dear colleague {number}\n")
    assert clinic.once() == 1
    assert len(listed(clinic, "--failed")) == 7
    left = clinic.run("retry", "--all")
    assert left.returncode == 0
    assert left.stdout.count("left in failed/, since a retry can't help (not_audio)") == 7
    assert "invox-watcher retry ID" in left.stdout
    assert clinic.files(clinic.inbox) == []
    assert clinic.run("retry", ids(clinic)["0.wav"]).returncode == 0  # all the same
    assert clinic.once() == 1
    assert len(listed(clinic, "--failed")) == 7
    assert len(listed(clinic, "--state", "failed")) == 8  # all that ever failed
    assert clinic.run("jobs").stdout == "Nothing under way. done: 1, failed: 7.\n"


def test_a_retry_that_worked_settles_the_failure(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "smith.wav")
    api.fault({"on": "status", "do": "error_result", "message": "Too noisy."})
    assert clinic.once() == 1
    (failed,) = listed(clinic, "--failed")
    assert clinic.run("retry", "--all").stdout.startswith(f"{failed['id']}: back in the inbox as smith.wav\n")
    assert listed(clinic, "--failed") == []  # it is in the inbox: no one is needed
    assert clinic.once() == 0
    (done,) = listed(clinic, "--done")
    assert listed(clinic, "--failed") == []
    assert (done["predecessor_id"], listed(clinic, "--state", "failed")[0]["successor_id"]) == (
        failed["id"],
        done["id"],
    )
    assert f"successor_id      {done['id']} (done)\n" in clinic.run("show", failed["id"]).stdout
    assert f"predecessor_id    {failed['id']} (failed)\n" in clinic.run("show", done["id"]).stdout
    assert clinic.run("jobs").stdout == "Nothing under way. done: 1, failed: 0.\n"
    again = clinic.run("retry", failed["id"])
    assert again.returncode == 1
    assert f"It was retried as job {done['id']}." in again.stderr


def test_retry_takes_several_ids_and_parts_of_them(clinic: Clinic) -> None:
    (clinic.inbox / "page.wav").write_text("another letter\n")
    assert clinic.once() == 1
    known = ids(clinic)
    done = known["ward 3/smith.wav"]
    refused = clinic.run("retry", known["page.wav"], done)
    assert refused.returncode == 64
    assert f"{done} is done, not failed." in refused.stderr
    assert "Nothing was moved." in refused.stderr
    assert clinic.files(clinic.inbox) == []
    (clinic.failed / "letter.wav").unlink()
    back = clinic.run("retry", known["letter.wav"], known["page.wav"][-12:], known["page.wav"])
    assert back.returncode == 1  # the letter is gone, which keeps nothing from the page
    assert f"{known['letter.wav']}: The recording is no longer in failed/." in back.stderr
    assert back.stdout.count("back in the inbox") == 1
    assert clinic.files(clinic.inbox) == ["page.wav"]


def test_retry_by_code_takes_those_alone(clinic: Clinic) -> None:
    (clinic.inbox / "linked.wav").hardlink_to(write_wav(clinic.root / "of-somebody.wav"))
    assert clinic.once() == 1
    assert clinic.run("retry", "--code", "deadline").stdout == (
        "There is no failed recording with code deadline in the failed folder.\n"
    )
    assert clinic.run("retry", "--code", "hard_link").returncode == 0
    assert clinic.files(clinic.inbox) == ["linked.wav"]
    assert "letter.wav" in clinic.files(clinic.failed)


def test_retry_does_not_mistake_an_absent_share_for_empty(clinic: Clinic) -> None:
    job_id = ids(clinic)["letter.wav"]
    mounts = clinic.root / "state" / "mounts.json"
    points = dict.fromkeys(json.loads(mounts.read_text()), str(clinic.root))  # as if a share had been there
    mounts.write_text(json.dumps(points))
    clinic.failed.rename(clinic.root / "on the share")
    clinic.failed.mkdir()
    for which in ("--all", job_id):
        refused = clinic.run("retry", which)
        assert (refused.returncode, refused.stdout) == (75, "")
        assert f"{clinic.root}, on which {clinic.failed} lies, is not mounted." in refused.stderr


def test_an_unknown_id_is_1_and_a_wrong_one_64(looked_at: Clinic) -> None:
    for command in (("show", "nonsense"), ("retry", "nonsense")):
        unknown = looked_at.run(*command)
        assert unknown.returncode == 1
        assert "No job has the id nonsense." in unknown.stderr
        assert "jobs --all" in unknown.stderr
    done = looked_at.run("retry", ids(looked_at)["ward 3/smith.wav"])
    assert done.returncode == 64
    assert "is done, not failed" in done.stderr


@pytest.mark.needs("root")
def test_a_user_without_permission_is_told_which_user_to_be() -> None:
    with public_folder() as folder:
        clinic = clinic_of_two(folder)
        clinic.config.chmod(0o644)
        state, job_id = clinic.root / "state", ids(clinic)["letter.wav"]
        for mode in (0o700, 0o711, 0o755):  # the journal itself is for its owner alone
            state.chmod(mode)
            for command in (("jobs",), ("show", job_id), ("retry", job_id), ("retry", "--all")):
                refused = as_nobody(clinic, *command)
                assert refused.returncode == 77, (command, refused.stderr)
                assert f"{state / 'journal.sqlite'} can't be read: Permission denied" in refused.stderr
                assert "Run this as root or as the daemon's user." in refused.stderr


@pytest.mark.needs("root")
def test_a_folder_that_may_not_be_read_is_no_internal_error(api: Sandbox) -> None:
    with public_folder() as folder:
        clinic = Clinic(folder / "clinic", api.base_url, watch=QUICK)
        clinic.config.chmod(0o644)
        (clinic.inbox / "letter.wav").write_text("Dear colleague\n")
        assert clinic.once() == 1
        give(clinic.root, *clinic.root.rglob("*"))
        clinic.failed.chmod(0)
        refused = as_nobody(clinic, "retry", "--all")
        assert refused.returncode == 77
        assert f"Can't access {clinic.failed / 'letter.wav'}:" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert "Run this as root" in refused.stderr
        elsewhere = folder / "backup.tar"
        refused = as_nobody(clinic, "backup", str(elsewhere))
        assert refused.returncode == 77
        assert f"The backup {elsewhere} can't be written: Permission denied." in refused.stderr


def test_hostile_names_are_printed_as_harmless_text(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    hostile = "a\n\x1b[31m\u202e\udcff.wav"
    (clinic.inbox / hostile).write_text("a letter\n")
    assert clinic.once() == 1
    job_id = ids(clinic)[hostile]
    for command in (("jobs", "--all"), ("show", job_id), ("retry", job_id)):
        shown = clinic.run(*command)
        assert shown.returncode == 0
        assert all(line.isprintable() for line in shown.stdout.splitlines())
        assert r"\x1b[31m\u202e\xff.wav" in shown.stdout


def test_a_closed_pipe_is_no_error(looked_at: Clinic) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        left = subprocess.run(
            looked_at.command("jobs", "--all"), stdout=output, stderr=subprocess.PIPE, check=False
        )
    assert (left.returncode, left.stderr) == (0, b"")


def test_listing_needs_no_credentials(clinic: Clinic) -> None:
    job = ids(clinic)["letter.wav"]
    text = clinic.config.read_text().replace("sandbox-key", "${A_SECRET_OF_THE_SERVICE}")
    clinic.config.write_text(text)
    assert clinic.run("run", "--once").returncode == 78
    assert job in clinic.run("jobs", "--all").stdout
    shown = clinic.run("show", job)
    assert shown.returncode == 0
    assert re.search(r"^code +not_audio$", shown.stdout, re.MULTILINE)
    assert clinic.run("retry", job).returncode == 0


# ---- while the daemon runs ---------------------------------------------------------------------------------


def test_json_says_what_only_the_running_daemon_knows(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", result_delay_seconds=60, upload_bytes_per_second=500_000) as api:
        http, slow = {"listen": f"127.0.0.1:{free_port()}"}, {"first_seconds": 30, "max_seconds": 60}
        clinic = Clinic(tmp_path / "clinic", api.base_url, http=http, polling=slow)
        write_wav(clinic.inbox / "short.wav")
        write_sparse_wav(clinic.inbox / "long.wav", 50_000_000)
        with running(clinic):

            def jobs() -> dict[str, dict[str, object]]:
                return {str(job["path"]): job for job in listed(clinic)}

            def both_under_way() -> bool:
                now = jobs()
                short, long = now.get("short.wav", {}), now.get("long.wav", {})
                return short.get("state") == "waiting" and bool(long.get("upload_bytes_per_second"))

            wait_for("one waits and the other is being sent", both_under_way)
            short, long = jobs()["short.wav"], jobs()["long.wav"]
            assert 10 < float(str(short["next_step_seconds"])) <= 30
            assert short["upload_bytes_per_second"] is None
            assert long["next_step_seconds"] == 0  # its step is under way
            assert 50_000 < int(str(long["upload_bytes_per_second"])) < 5_000_000
        stopped = jobs()
        assert {job["next_step_seconds"] for job in stopped.values()} == {None}
        assert {job["upload_bytes_per_second"] for job in stopped.values()} == {None}


def test_watching_shows_recordings_pass_until_ctrl_c(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", result_delay_seconds=10, upload_bytes_per_second=100_000) as api:
        http = {"listen": f"127.0.0.1:{free_port()}"}
        clinic = Clinic(tmp_path / "clinic", api.base_url, http=http)
        with running(clinic), terminal(clinic.command("jobs", "--watch")) as screen:
            wait_for("the watch begins", lambda: "The daemon is ready." in screen.screen[-1:])
            assert "0 under way, 0 done, 0 failed, 0 vanished" in screen.screen
            write_wav(clinic.inbox / "long.wav", seconds=90)  # 1.44 MB: 14 seconds of upload
            for number in range(5):
                write_wav(clinic.inbox / "ward 3" / f"{number}.wav", pitch=200 + number)
            (clinic.inbox / "[red]letter.wav").write_text("Dear colleague\n")

            def seen(pattern: str) -> bool:
                return any(re.search(pattern, line) for line in screen.screen)

            wait_for("progress", lambda: seen(r"uploading .* long.wav .* [1-9]\d? % +\d+ kB/s"))
            wait_for("the next look", lambda: seen(r"waiting .* ward 3/\d.wav .* 100 % +(now|in \d)"))
            wait_for("the failed one", lambda: seen(r"failed .* \[red\]letter.wav .* not_audio"))
            wait_for("totals by state", lambda: seen(r"^\d under way \(.*uploading.*\), \d done, 1 failed"))
            ended = r"^0 under way, 6 done, 1 failed, 0 vanished$"
            wait_for("all ended", lambda: seen(ended), seconds=60)
            assert seen(r"done .* ward 3/0.wav")
            screen.types("\x03")
            assert screen.ended() == 0
    assert "Traceback" not in screen.raw
    assert screen.raw.rindex("\x1b[?25h") > screen.raw.rindex("\x1b[?25l")  # the cursor is back


def test_watching_says_what_is_blocking(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api") as api:
        http = {"listen": f"127.0.0.1:{free_port()}"}
        wrong = {"app_id": "sandbox-app", "api_key": "wrong"}
        clinic = Clinic(tmp_path / "clinic", api.base_url, http=http, credentials=wrong)
        write_wav(clinic.inbox / "smith.wav")
        process = clinic.start()
        with terminal(clinic.command("jobs", "--watch")) as screen:

            def last() -> str:
                return "".join(screen.screen[-1:])

            wait_for("why it is not ready", lambda: last().startswith("Not ready: ") and "a token" in last())
            process.terminate()
            assert status_of(process, seconds=10) == 0
            wait_for("that there is no daemon", lambda: last().startswith("No daemon is running"))
            assert any("smith.wav" in line and "stopped" in line for line in screen.screen)
            screen.process.terminate()
            assert screen.ended() == 0


def test_watching_without_an_address_is_reported(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    with running(clinic), terminal(clinic.command("jobs", "--watch")) as screen:
        wait_for("a frame", lambda: any(line.startswith("The daemon is running") for line in screen.screen))
        assert sum("no address to ask (http.listen)" in line for line in screen.screen) == 1


def test_more_than_the_terminal_has_lines_for_is_counted(tmp_path: Path, api: Sandbox) -> None:
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    for number in range(12):
        (clinic.inbox / f"{number}.wav").write_text(f"Dear colleague {number}\n")
    assert clinic.once() == 1
    with terminal(clinic.command("jobs", "--watch", "--failed"), lines=14, columns=90) as screen:
        wait_for("a frame", lambda: any(line.startswith("No daemon") for line in screen.screen))
        assert sum("not_audio" in line for line in screen.screen) == 8
        assert "… and 4 more" in screen.screen


def test_watching_needs_a_terminal(looked_at: Clinic) -> None:
    refused = looked_at.run("jobs", "--watch")
    assert refused.returncode == 64
    assert "--watch needs a terminal." in refused.stderr
