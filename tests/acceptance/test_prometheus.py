"""The real Prometheus: scrapes a real daemon, loads the rules, asks what the dashboard asks, and fires."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running, sandbox
from tests.kit.daemon_server import address
from tests.kit.recordings import write_wav
from tests.kit.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "docs" / "prometheus-alerts.yml"
PAGE = ROOT / "docs" / "monitoring.md"
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"
QUICK = {"settle_seconds": 0.05, "rescan_seconds": 0.5, "patience_seconds": 1.5}

pytestmark = pytest.mark.needs("prometheus", "promtool")


def promtool(*arguments: str, stdin: str = "") -> str:
    """What promtool prints; it has to be content."""
    run = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


class Prometheus:
    """A Prometheus that listens on loopback; ask it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of its HTTP API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def value(self, expression: str) -> float | None:
        """The one value of an expression now; None where there is none."""
        found = self.get("query", query=expression)["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def alerts(self, state: str) -> dict[str, str]:
        """The names of the alerts in that state, with what they say."""
        return {
            alert["labels"]["alertname"]: alert["annotations"]["description"]
            for alert in self.get("alerts")["alerts"]
            if alert["state"] == state
        }


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """One configured as the page says, except that it scrapes every second, and minutes are half seconds."""
    folder.mkdir()
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["interval"] = "200ms"
        for rule in group["rules"]:
            rule["for"] = f"{int(rule.get('for', '0m').removesuffix('m')) * 500}ms"
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    example = re.search(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert example is not None
    content = yaml.safe_load(
        example[1].replace("127.0.0.1:8787", target).replace("/etc/prometheus/invox-watcher", "rules")
    )
    content["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "200ms"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(content))
    promtool("check", "config", str(folder / "prometheus.yml"))
    port = free_port()
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(port)
        wait_for("Prometheus has seen us", lambda: _all_is_well(server), seconds=60)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _all_is_well(server: Prometheus) -> bool:
    try:
        return server.value("up") == 1 and server.alerts("firing") == {}
    except OSError:
        return False


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Clinic:
    """A clinic that listens."""
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    hooks = {"on_done": ["/bin/true"]}  # a target, so that its panels have data
    return Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, http=listen, hooks=hooks)


def rules() -> list[dict[str, Any]]:
    """The alerts of the documented file."""
    found: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return found


def test_the_rules_are_rules_and_fire_when_they_should() -> None:
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", str(RULES))
    assert "SUCCESS" in promtool("test", "rules", str(ROOT / "tests" / "monitoring" / "alerts.test.yml"))


def test_every_alert_is_tested() -> None:
    tests = yaml.safe_load((ROOT / "tests" / "monitoring" / "alerts.test.yml").read_text())["tests"]
    fired = {
        case["alertname"] for test in tests for case in test.get("alert_rule_test", ()) if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules()}


@pytest.mark.needs("prometheus-alertmanager", "amtool")
def test_of_an_outage_alertmanager_reports_the_cause_alone(tmp_path: Path) -> None:
    config = ROOT / "docs" / "alertmanager.yml"
    subprocess.run(["amtool", "check-config", config], check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    arguments = [f"--config.file={config}", f"--storage.path={tmp_path}", "--cluster.listen-address="]
    arguments.append(f"--web.listen-address=127.0.0.1:{port}")
    url = f"http://127.0.0.1:{port}/api/v2/alerts"
    alerts = [
        {"labels": {"alertname": name, "job": "invox-watcher", "instance": instance}}
        for name, instance in (
            *((f"InvoxWatcher{name}", "clinic") for name in ("ApiDown", "OldestWaiting", "NothingDelivered")),
            *((f"InvoxWatcher{name}", "office") for name in ("NothingDelivered", "OldestWaiting")),
            *((f"InvoxWatcher{name}", "archive") for name in ("NotReady", "DiskSilent", "DiskNearlyFull")),
        )
    ]

    def sent() -> bool:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(alerts).encode(), headers)
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10):
            return True
        return False

    def reported() -> set[tuple[str, str]]:
        with urllib.request.urlopen(f"{url}?inhibited=false", timeout=10) as answer:
            found = [alert["labels"] for alert in json.load(answer)]
        return {(one["instance"], one["alertname"].removeprefix("InvoxWatcher")) for one in found}

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["prometheus-alertmanager", *arguments], stdout=log, stderr=log)
    try:
        wait_for("it takes alerts", sent)
        causes = {("clinic", "ApiDown"), ("office", "NothingDelivered"), ("archive", "NotReady")}
        wait_for("it reports causes", lambda: reported() == causes | {("archive", "DiskNearlyFull")})
    finally:
        process.terminate()
        process.wait(30)


def test_the_names_follow_the_rules_of_prometheus(clinic: Clinic) -> None:
    with running(clinic):
        write_wav(clinic.inbox / "smith.wav")
        (clinic.inbox / "letter.wav").write_text("Dear colleague")
        wait_for("both have ended", lambda: clinic.files(clinic.done) != [] != clinic.files(clinic.failed))
        with urllib.request.urlopen(f"http://{address(clinic)}/metrics", timeout=10) as response:
            text = response.read().decode()
    assert promtool("check", "metrics", stdin=text) == ""


def test_prometheus_scrapes_us_and_every_panel_has_data(clinic: Clinic, tmp_path: Path) -> None:
    with running(clinic), prometheus(tmp_path / "prometheus", address(clinic)) as server:
        (clinic.inbox / "letter.wav").write_text("Dear colleague")
        for number in range(3):
            write_wav(clinic.inbox / f"{number}.wav", pitch=440 + number)
        done = 'invox_watcher_recordings_total{state="done"}'
        wait_for("it knows of three", lambda: server.value(done) == 3, seconds=60)
        wait_for("each panel has something", lambda: empty_panels(server) == {"Problems"})
        assert server.alerts("firing") == {}
        instances = server.get("label/instance/values", **{"match[]": "invox_watcher_build_info"})
        assert instances == [address(clinic)]


def empty_panels(server: Prometheus) -> set[str]:
    """The panels of the dashboard of which a query finds nothing, or is no query."""
    return {
        panel["title"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", ())
        if not server.get("query", query=_as_grafana_would(target["expr"]))["result"]
    }


def _as_grafana_would(expression: str) -> str:
    filled = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
    assert not re.search(r"\$\w", filled), filled
    return filled


def test_an_alert_fires_while_the_api_is_unavailable(tmp_path: Path) -> None:
    port = free_port()
    listen = {"listen": f"127.0.0.1:{free_port()}"}
    clinic = Clinic(tmp_path / "clinic", f"http://127.0.0.1:{port}", watch=QUICK, http=listen)
    with running(clinic), prometheus(tmp_path / "prometheus", address(clinic)) as server:
        with sandbox(tmp_path / "api", port=port):
            write_wav(clinic.inbox / "before.wav")
            wait_for("one is done", lambda: clinic.files(clinic.done) == ["before.wav"])
            assert server.alerts("firing") == {}
        for number in range(3):
            write_wav(clinic.inbox / f"{number}.wav", pitch=500 + number)
        wait_for("the alert fires", lambda: "InvoxWatcherApiDown" in server.alerts("firing"), seconds=60)
        fired = server.alerts("firing")
        assert list(fired) == ["InvoxWatcherApiDown"]
        assert (
            f"{address(clinic)} has sent only probes for ten minutes: network" in fired["InvoxWatcherApiDown"]
        )
        with sandbox(tmp_path / "api again", port=port):
            wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 4, seconds=60)
            wait_for("the alert ends", lambda: server.alerts("firing") == {}, seconds=60)


def test_an_alert_fires_when_the_daemon_is_down(clinic: Clinic, tmp_path: Path) -> None:
    with ExitStack() as until_the_end:
        with running(clinic):
            server = until_the_end.enter_context(prometheus(tmp_path / "prometheus", address(clinic)))
        wait_for("an alert fires", lambda: bool(server.alerts("firing")), seconds=60)
        assert list(server.alerts("firing")) == ["InvoxWatcherAbsent"]


@pytest.mark.needs("curl")
def test_the_pages_commands_work(clinic: Clinic, api: Sandbox) -> None:
    with running(clinic):
        assert curls(clinic) == [(0, '{"status":"alive"}'), (0, '{"status":"ready","problems":{}}')]
        api.fault({"on": "token", "do": "status", "status": 401, "times": 1000})
        write_wav(clinic.inbox / "smith.wav")
        wait_for("it is refused", lambda: clinic.events("api_refused") != [])
        alive, (status, why) = curls(clinic)
    assert alive == (0, '{"status":"alive"}')
    assert (status, list(json.loads(why)["problems"])) == (22, ["credentials"])


def curls(clinic: Clinic) -> list[tuple[int, str]]:
    """Exit status and output of the page's two commands."""
    commands = re.findall(r"^curl .*$", PAGE.read_text(), re.MULTILINE)
    runs = [
        subprocess.run(
            command.replace("127.0.0.1:8787", address(clinic)).split(),
            stdout=subprocess.PIPE, text=True, check=False,
        )
        for command in commands
    ]  # fmt: skip
    return [(run.returncode, run.stdout) for run in runs]
