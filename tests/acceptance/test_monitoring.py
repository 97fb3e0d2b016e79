"""What /metrics, /healthz and /readyz say of a real daemon, and docs/monitoring.md against that."""

from __future__ import annotations

import ast
import contextlib
import http.client
import inspect
import json
import os
import re
import signal
import sqlite3
import threading
import time
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import invox_watcher
from invox_watcher import errors
from invox_watcher.delivery import TargetHealth
from invox_watcher.events import Event
from invox_watcher.inbox.inbox import InboxStatus
from invox_watcher.job import ACTIVE, State
from invox_watcher.journal import TargetBacklog
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.web.gauges import Gauges, IntakeSnapshot, exposition
from invox_watcher.web.metrics import Counters
from tests.acceptance.test_retention import age
from tests.kit.clinic import Clinic, free_port, running, stop
from tests.kit.daemon_server import address, get, problems, samples
from tests.kit.page_clinic import page_section
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for
from tests.kit.webhook_clinic import TAKEN, send, webhook_clinic

DOCS = Path(__file__).parent.parent.parent / "docs"
QUICK = {"settle_seconds": 0.05, "rescan_seconds": 0.5, "patience_seconds": 1.5}
_PROBLEM = re.compile(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", re.MULTILINE)
_METRIC = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "monitoring.md").read_text()


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Clinic:
    return _listening_clinic(tmp_path, api, watch=QUICK)


def _listening_clinic(tmp_path: Path, api: Sandbox, *, watch: dict[str, float]) -> Clinic:
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    return Clinic(tmp_path / "clinic", api.base_url, watch=watch, http=listen)


# With several hosts alone; see tests/fleet.
OF_FLEETS = {"invox_watcher_host_jobs", "invox_watcher_host_up"}


def answers(clinic: Clinic) -> bool:
    """Whether the server is up."""
    with contextlib.suppress(urllib.error.URLError):
        return get(clinic, "/healthz")[0] == 200
    return False


def scraped(clinic: Clinic) -> dict[str, float]:
    """What a scrape gives now, without the prefix of all our names."""
    status, text = get(clinic, "/metrics")
    assert status == 200
    return {name.removeprefix("invox_watcher_"): value for name, value in samples(text).items()}


def ended(clinic: Clinic, **counts: int) -> bool:
    """Whether so many recordings have ended, by how they did."""
    now = scraped(clinic)
    return all(now[f'recordings_total{{state="{state}"}}'] == count for state, count in counts.items())


# ---- what is counted ---------------------------------------------------------------------------------------


def test_a_finished_recording_is_counted_and_measured(clinic: Clinic) -> None:
    with running(clinic):
        wait_for("the server is up", lambda: answers(clinic))
        before = scraped(clinic)
        size = write_wav(clinic.inbox / "smith.wav").stat().st_size
        wait_for("it is done", lambda: ended(clinic, done=1, failed=0, vanished=0))
        after = scraped(clinic)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    assert changed["uploaded_bytes_total"] == size
    for call in ("token", "presign", "upload"):
        assert changed[f'api_calls_total{{call="{call}",status="200"}}'] == 1
    assert changed['api_calls_total{call="result",status="200"}'] >= 1
    for name in ("settle", "upload", "transcription", "turnaround"):
        assert before[f"{name}_seconds_count"] == 0
        assert changed[f"{name}_seconds_count"] == 1
        assert 0 <= after[f"{name}_seconds_sum"] < 20  # a file is often taken within a millisecond
    assert changed["turnaround_seconds_sum"] >= changed["transcription_seconds_sum"]
    assert before["last_delivery_timestamp_seconds"] == 0
    assert abs(time.time() - changed["last_delivery_timestamp_seconds"]) < 20


def test_the_wait_in_the_inbox_counts_from_the_first_sight(tmp_path: Path, api: Sandbox) -> None:
    clinic = _listening_clinic(tmp_path, api, watch=QUICK | {"patience_seconds": 60})
    with running(clinic):
        half, whole = write_wav(clinic.root / "whole.wav").read_bytes(), clinic.inbox / "slow.wav"
        whole.write_bytes(half[:3000])
        wait_for("it is seen", lambda: scraped(clinic)['inbox_recordings{stage="unfinished"}'] == 1)
        wait_for("it is older", lambda: scraped(clinic)["inbox_oldest_seconds"] > 0.7)
        whole.write_bytes(half)
        wait_for("it is done", lambda: ended(clinic, done=1))
        now = scraped(clinic)
    assert now["settle_seconds_sum"] > 0.7
    assert now["settle_seconds_sum"] == pytest.approx(clinic.events("claimed")[0]["waited_seconds"])
    assert now['inbox_recordings{stage="unfinished"}'] == now["inbox_oldest_seconds"] == 0


def test_failures_count_by_code_and_duplicates_cost_nothing(clinic: Clinic) -> None:
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("the first is done", lambda: ended(clinic, done=1))
        write_wav(clinic.inbox / "again.wav")
        (clinic.inbox / "letter.wav").write_text("Dear colleague")
        (clinic.inbox / "list.wav").write_text("Bread, milk")
        wait_for("all have ended", lambda: ended(clinic, done=2, failed=2, vanished=0))
        now = scraped(clinic)
    assert now['failures_total{code="not_audio"}'] == now["failed_recordings"] == 2
    assert (now["upload_seconds_count"], now["transcription_seconds_count"]) == (1, 1)
    assert now["turnaround_seconds_count"] == 2


def test_a_recording_that_vanishes_is_counted_once(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "presign", "do": "status", "status": 503, "times": 1000})
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is under way", lambda: clinic.files(clinic.processing) != [])
        for path in clinic.processing.rglob("*.wav"):
            path.unlink()
        wait_for("it is closed", lambda: ended(clinic, done=0, failed=0, vanished=1), seconds=60)
    assert len(clinic.events("vanished")) == 1


def test_events_below_the_logs_level_are_counted_too(tmp_path: Path, api: Sandbox) -> None:
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    clinic = Clinic(tmp_path, api.base_url, watch=QUICK, http=listen, logging={"level": "error"})
    daemon = clinic.launch("run")
    try:
        wait_for("it answers", lambda: answers(clinic))
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: ended(clinic, done=1))
        assert scraped(clinic)['api_calls_total{call="upload",status="200"}'] == 1
        assert stop(daemon) == 0
    finally:
        daemon.kill()
        daemon.wait()
    assert clinic.log.read_text() == ""


def test_webhooks_are_counted_by_the_answer_however_many_come(tmp_path: Path, api: Sandbox) -> None:
    clinic = webhook_clinic(tmp_path / "clinic", api, watch=QUICK)
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: ended(clinic, done=1))
        request_id = api.stats()["requests"][0]["id"]
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _number: send(clinic, b"{}")[0], range(40)))
        assert answers == [403] * 40
        assert send(clinic, api.webhook_body(request_id)) == TAKEN
        now = scraped(clinic)
    assert now['webhooks_total{answer="refused"}'] == 40
    assert now['webhooks_total{answer="taken"}'] == 2
    assert now['webhooks_total{answer="not_stored"}'] == 0
    assert now["turnaround_seconds_count"] == 1


def test_commands_are_counted_by_outcome(tmp_path: Path, api: Sandbox) -> None:
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    hooks = {"on_done": ["/bin/true"], "on_failed": ["/bin/false"]}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, http=listen, hooks=hooks)

    def counts() -> tuple[float, float]:
        now = scraped(clinic)
        sent = now['deliveries_total{result="sent",target="hooks.on_done"}']
        return sent, now['deliveries_total{result="failed",target="hooks.on_failed"}']

    with running(clinic):
        assert counts() == (0, 0)
        write_wav(clinic.inbox / "smith.wav")
        for name in ("letter.wav", "list.wav"):
            (clinic.inbox / name).write_text(name)
        wait_for("all are counted", lambda: counts() == (1, 2))


def test_files_that_retention_could_not_delete_are_counted(tmp_path: Path, api: Sandbox) -> None:
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, http=listen, retention={"done_days": 30})
    write_wav(clinic.inbox / "ward 3" / "smith.wav")
    assert clinic.once() == 0
    age(clinic, 31)
    (clinic.done / "ward 3").rename(clinic.root / "moved")
    (clinic.done / "ward 3").symlink_to(clinic.root / "moved")
    with running(clinic):
        wait_for("it is counted", lambda: scraped(clinic)["retention_refused_total"] == 1)


def test_a_reload_keeps_the_counts_and_the_series(clinic: Clinic) -> None:
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: ended(clinic, done=1))
        before = scraped(clinic)
        os.kill(clinic.events("started")[0]["pid"], signal.SIGHUP)
        wait_for("it is reloaded", lambda: clinic.events("reloaded") != [])
        after = scraped(clinic)
        assert after.keys() == before.keys()
        assert after["turnaround_seconds_sum"] == before["turnaround_seconds_sum"]
        write_wav(clinic.inbox / "jones.wav", pitch=500)
        wait_for("the next is done", lambda: ended(clinic, done=2))


# ---- how things stand --------------------------------------------------------------------------------------


def test_every_answer_has_the_time_at_which_it_was_given(clinic: Clinic) -> None:
    with running(clinic), contextlib.closing(http.client.HTTPConnection(address(clinic))) as connection:
        for _ in range(2):
            connection.request("GET", "/healthz")
            reply = connection.getresponse()
            reply.read()
            given = parsedate_to_datetime(reply.headers["date"]).timestamp()
            assert time.time() - 1.5 < given <= time.time()
            time.sleep(2)


def test_an_unavailable_api_shows_until_it_is_back(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "token", "do": "status", "status": 503, "times": 1000})
    with running(clinic):
        assert scraped(clinic)["ready"] == 1
        assert problems(clinic) == {}
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it shows", lambda: scraped(clinic)["breaker_open"] == 1)
        away = scraped(clinic)
        assert (away["ready"], away['problem{code="api_unavailable"}']) == (0, 1)
        assert list(problems(clinic)) == ["api_unavailable"]
        assert get(clinic, "/healthz") == (200, '{"status":"alive"}')
        assert away['jobs{state="identified"}'] == 1
        wait_for("it waits", lambda: scraped(clinic)["jobs_oldest_seconds"] > 0.5)
        assert away['api_calls_total{call="token",status="503"}'] >= 5
        api.clear_faults()
        wait_for("it is done", lambda: ended(clinic, done=1))
        back = scraped(clinic)
    assert (back["ready"], back["breaker_open"], back["jobs_oldest_seconds"]) == (1, 0, 0)
    assert 'problem{code="api_unavailable"}' not in back


def test_a_rejected_account_pauses_the_intake(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "token", "do": "status", "status": 401, "times": 1000})
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it pauses", lambda: scraped(clinic)["intake_paused"] == 1)
        assert list(problems(clinic)) == ["credentials"]
        write_wav(clinic.inbox / "jones.wav", pitch=500)
        wait_for("one waits", lambda: scraped(clinic)['inbox_recordings{stage="held"}'] == 1)


def test_calls_without_an_answer_are_counted_by_their_error(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "token", "do": "reset", "times": 1})
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is done", lambda: ended(clinic, done=1))
        assert scraped(clinic)['api_calls_total{call="token",status="network"}'] == 1


def test_an_unavailable_inbox_shows(clinic: Clinic) -> None:
    with running(clinic):
        clinic.inbox.rename(clinic.root / "elsewhere")
        wait_for("it shows", lambda: "inbox_unavailable" in problems(clinic))
        assert scraped(clinic)['problem{code="inbox_unavailable"}'] == 1
        assert scraped(clinic)["intake_paused"] == 1
        (clinic.root / "elsewhere").rename(clinic.inbox)
        wait_for("it is ready", lambda: problems(clinic) == {})
        assert scraped(clinic)["intake_paused"] == 0


def test_an_unavailable_folder_pauses_the_intake(clinic: Clinic) -> None:
    with running(clinic):
        clinic.done.rename(clinic.root / "elsewhere")
        wait_for("it shows", lambda: list(problems(clinic)) == ["folders_unavailable"])
        assert scraped(clinic)["intake_paused"] == 1
        (clinic.root / "elsewhere").rename(clinic.done)
        wait_for("it is ready", lambda: problems(clinic) == {})
        assert scraped(clinic)["intake_paused"] == 0


@pytest.mark.slow
def test_a_journal_that_is_damaged_pauses_the_intake(clinic: Clinic) -> None:
    with running(clinic):
        journal = clinic.root / "state" / "journal.sqlite"
        with journal.open("r+b") as file:
            header = file.read(100)
            file.seek(0)
            file.write(bytes(100))
        wait_for("it shows", lambda: list(problems(clinic)) == ["journal"])
        assert scraped(clinic)["intake_paused"] == 1
        with journal.open("r+b") as file:
            file.write(header)
        wait_for("it is ready", lambda: problems(clinic) == {})
        assert scraped(clinic)["intake_paused"] == 0


def test_the_watch_and_the_disks_are_there(tmp_path: Path, api: Sandbox) -> None:
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    clinic = Clinic(tmp_path, api.base_url, watch=QUICK | {"mode": "polling"}, http=listen)
    with running(clinic):
        now = scraped(clinic)
    assert (now['watch_mode{mode="native"}'], now['watch_mode{mode="polling"}']) == (0, 1)
    disk = os.statvfs(tmp_path)
    for folder in ("inbox", "processing", "outbox", "done", "failed", "state"):
        assert now[f'storage_size_bytes{{folder="{folder}"}}'] == disk.f_blocks * disk.f_frsize
        assert (
            0 < now[f'storage_free_bytes{{folder="{folder}"}}'] <= disk.f_bavail * disk.f_frsize + (1 << 30)
        )


# ---- a scrape never waits for long -------------------------------------------------------------------------


def test_a_locked_journal_keeps_no_scrape_waiting(clinic: Clinic) -> None:
    with running(clinic):
        assert scraped(clinic)['probe_success{at="journal"}'] == 1
        holder = sqlite3.connect(clinic.root / "state" / "journal.sqlite", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        held = scraped(clinic)
        assert time.monotonic() - began < 5
        assert held['probe_success{at="journal"}'] == 1  # it can be read
        assert held['jobs{state="waiting"}'] == 0
        assert held["ready"] in (0, 1)
        assert held['probe_success{at="inbox"}'] == 1
        holder.close()


def test_a_hanging_disk_blocks_one_thread_and_no_scrape(tmp_path: Path) -> None:
    hangs, asked = threading.Event(), []

    def under_way() -> list[object]:
        asked.append(threading.current_thread())
        assert hangs.wait(60)
        return []

    inbox = InboxStatus(1, 0, 0, 0, 0, None, available=True, watching="native")
    targets = {"ris": TargetHealth()}
    snapshot = IntakeSnapshot(
        [], api_is_unavailable=False, paused=False, inbox=inbox, held=0, targets=targets
    )
    gauges = Gauges(
        snapshot=lambda: snapshot,
        backlogs=lambda: {"archive": TargetBacklog(owed=2)},
        under_way=under_way,  # type: ignore[arg-type]
        failed=lambda: 0,
        folders={"inbox": tmp_path, "outbox": tmp_path / "nowhere"},
    )
    text = exposition(Counters(), gauges)
    try:
        for _scrape in range(3):
            began = time.monotonic()
            found = samples(text().decode())
            assert time.monotonic() - began < 5
            assert found['invox_watcher_probe_success{at="journal"}'] == 0
            assert found['invox_watcher_probe_success{at="inbox"}'] == 1
            assert found['invox_watcher_probe_success{at="outbox"}'] == 0
        assert len(asked) == 1
    finally:
        hangs.set()
    asked[0].join()
    assert samples(text().decode())['invox_watcher_probe_success{at="journal"}'] == 1
    assert len(asked) == 2


def test_a_recording_vanished_after_its_delivery_counts_once() -> None:
    counters = Counters()
    counters.record(Event.VANISHED, {"state": State.DELIVERED})
    counters.record(Event.DONE, {})
    ends = {
        state: counters.registry.get_sample_value("invox_watcher_recordings_total", {"state": state})
        for state in ("done", "failed", "vanished")
    }
    assert ends == {"done": 1, "failed": 0, "vanished": 0}


def test_counting_from_many_threads_loses_nothing() -> None:
    counters = Counters()

    def hear(_number: int) -> None:
        for _time in range(500):
            counters.record(Event.DONE, {})
            counters.record(Event.API_CALLED, {"call": "result", "status": "200"})

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(hear, range(8)))
    assert counters.registry.get_sample_value("invox_watcher_recordings_total", {"state": "done"}) == 4000
    labels = {"call": "result", "status": "200"}
    assert counters.registry.get_sample_value("invox_watcher_api_calls_total", labels) == 4000


# ---- what it must not say ----------------------------------------------------------------------------------


def test_no_name_and_no_id_is_in_a_scrape(clinic: Clinic) -> None:
    with running(clinic):
        write_wav(clinic.inbox / "ward3" / "Maria Lopez.wav")
        (clinic.inbox / "Juan.wav").write_text("Dear colleague")
        wait_for("both have ended", lambda: ended(clinic, done=1, failed=1))
        _status, text = get(clinic, "/metrics")
    ids = {event[key] for event in clinic.events() for key in ("job", "request_id") if key in event}
    assert len(ids) == 3
    for secret in (*ids, "Maria", "Juan", "ward3", "sandbox-app", "sandbox-key", str(clinic.root)):
        assert secret not in text


# ---- docs/monitoring.md ------------------------------------------------------------------------------------


def documented(page: str) -> dict[str, tuple[str, set[str]]]:
    """The table's metrics: type and labels by name."""
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in _METRIC.findall(page)}


def test_the_page_has_every_metric_with_its_type_and_labels(tmp_path: Path, api: Sandbox, page: str) -> None:
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    hooks = {"on_done": ["/bin/true"]}  # so that there is a target
    root = tmp_path / "clinic"
    shown = page_section(root)
    clinic = Clinic(root, api.base_url, watch=QUICK, http=listen, hooks=hooks, page=shown)
    with running(clinic):
        (clinic.inbox / "letter.wav").write_text("Dear colleague")
        wait_for("it has failed", lambda: ended(clinic, failed=1))
        api.fault({"on": "token", "do": "status", "status": 401, "times": 1000})
        write_wav(clinic.inbox / "smith.wav")
        wait_for("there is a problem", lambda: problems(clinic) != {})
        _status, text = get(clinic, "/metrics")
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert family.samples, name
        found[name] = (family.type, labels)
    assert found == {name: kind for name, kind in documented(page).items() if name not in OF_FLEETS}


def test_the_page_has_the_values_of_labels(page: str) -> None:
    rows = dict(re.findall(r"^\| `(invox_\w+)` \|.*?\|.*?\| ([^|]+) \|$", page, re.MULTILINE))
    for name, wanted in {
        "invox_watcher_recordings_total": {"done", "failed", "vanished"},
        "invox_watcher_jobs": set(ACTIVE),
        "invox_watcher_webhooks_total": {"taken", "tested", "refused", "not_stored"},
        "invox_watcher_deliveries_total": {"sent", "failed"},
        "invox_watcher_inbox_recordings": {"settling", "unfinished", "held", "error"},
        "invox_watcher_watch_mode": {"native", "polling"},
        "invox_watcher_storage_free_bytes": {"inbox", "processing", "outbox", "done", "failed", "state"},
        "invox_watcher_api_calls_total": {"token", "presign", "upload", "result", "network", "timeout"},
    }.items():
        assert set(re.findall(r"`(\w+)`", rows[name])) == wanted, name


def test_every_reason_for_not_being_ready_is_explained(page: str) -> None:
    assert set(_PROBLEM.findall(page.partition("## What has it done?")[0])) == possible_problems()


def possible_problems() -> set[str]:
    """The codes of all errors that /readyz may show, as the source raises them, and the two of its own."""
    shown = (
        *(errors.ApiUnavailableError, errors.ApiRefusedError, errors.UploadUncertainError),
        *(errors.StorageError, errors.JournalError, errors.TemplateError),
    )
    kinds = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, shown) and kind is not errors.WrongJournalError  # refuses a start or a reload
    }
    codes = {kind.code for kind in kinds.values()} | {"inbox_unavailable", "stalled"}
    for path in Path(invox_watcher.__file__).parent.rglob("*.py"):
        if path.name in (
            "locks.py",
            "background.py",
            "control.py",
        ):  # whose errors are about another daemon, at the start
            continue
        if path.parent.name == "page":  # another process, which shows them to its viewers
            continue
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in kinds:
                codes |= {
                    ast.literal_eval(keyword.value)
                    for keyword in call.keywords
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
                }
    # Reported by commands that read or copy a journal, or by a daemon that then does not start.
    missing_or_of_another_release = {"journal_missing", "journal_newer", "journal_outdated", "journal_sign"}
    in_use = {"already_running", "host_name_taken", "journal_in_use", "takeover_differs"}
    return codes - missing_or_of_another_release - in_use


def alerts() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load((DOCS / "prometheus-alerts.yml").read_text())["groups"]:
        yield from group["rules"]


def expressions() -> Iterator[str]:
    """Every query of the rules and of the dashboard."""
    for rule in alerts():
        yield rule["expr"]
        yield from re.findall(r'printf "(\w+)', json.dumps(rule))
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (variable["query"]["query"] for variable in dashboard["templating"]["list"][1:])


def test_the_rules_and_the_dashboard_name_our_metrics(page: str) -> None:
    metrics = documented(page)
    known = set(metrics) | {f"{name}_bucket" for name, (kind, _) in metrics.items() if kind == "histogram"}
    queries = " ".join(expressions()).replace("invox_watcher_(jobs|inbox)_oldest_seconds", "")
    named = set(re.findall(r"\b(?:invox_watcher|process)_\w+", queries))
    assert named - known == set()
    ours = {name for name in metrics if name.startswith("invox_")} - OF_FLEETS
    assert ours - {name.removesuffix("_bucket") for name in named} == set()


def test_every_alert_is_explained_and_no_other(page: str) -> None:
    named = re.findall(r"^\| `(InvoxWatcher\w+)` \|", page, re.MULTILINE)
    assert named == [rule["alert"] for rule in alerts()]


def test_every_alerts_runbook_is_a_section_of_a_page() -> None:
    for rule in alerts():
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        headings = re.findall(r"^#+ (.*)$", (DOCS.parent / file).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_dashboards_panels_have_their_places() -> None:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["title"], panel["description"]
            refs = [target["refId"] for target in panel["targets"]]
            assert len(refs) == len(set(refs)) > 0, panel["title"]
            sources = {
                panel["datasource"]["uid"],
                *(target["datasource"]["uid"] for target in panel["targets"]),
            }
            assert sources == {"${datasource}"}, panel["title"]
