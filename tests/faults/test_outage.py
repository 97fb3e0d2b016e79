"""FAULTS.md 40: an API that is away for hours, or lets us in no more, costs time and nothing else."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic, free_port, running, sandbox, stop
from tests.kit.loopback import Peer, make_certificate, one_reply, serve
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import wait_for

TWO_HOURS = 7200
MAX_IN_FLIGHT = 256


class FastDaemon:
    """A daemon whose clock runs as far as it is told to; what it does by that clock takes no time on it."""

    def __init__(self, clinic: Clinic) -> None:
        command = [sys.executable, "-m", "tests.faults.fast_clock", "--config", str(clinic.config)]
        with clinic.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def run_until(self, seconds: float) -> None:
        """Return once the clock shows that time and nothing more is due by then."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(seconds, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline(), "the daemon has ended"

    def memory_kib(self) -> int:
        """What it holds of real memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


@contextlib.contextmanager
def fast(clinic: Clinic) -> Iterator[FastDaemon]:
    """The clinic's daemon by a clock at zero; in the end SIGTERM, upon which it has to end well."""
    daemon = FastDaemon(clinic)
    try:
        yield daemon
        assert stop(daemon.process) == 0
    finally:
        daemon.process.kill()
        daemon.process.communicate()


def clinic_with(root: Path, base_url: str, *, recordings: int) -> Clinic:
    """A clinic with the defaults that an outage meets, and so many recordings of different content."""
    clinic = Clinic(
        root,
        base_url,
        retry={"base_seconds": 1, "max_seconds": 300},
        polling={"first_seconds": 2, "max_seconds": 60, "unknown_seconds": 30},
        watch={"settle_seconds": 0.05, "rescan_seconds": 60},
        intake={"max_in_flight": MAX_IN_FLIGHT},
        logging={"level": "info"},
    )
    tone = write_wav(root / "tone.wav", seconds=0.1).read_bytes()
    for number in range(recordings):
        (clinic.inbox / f"{number:04}.wav").write_bytes(tone[:-4] + number.to_bytes(4, "little"))
    return clinic


def under_way(clinic: Clinic) -> int:
    return len(clinic.under_way())


def attempts_spent(clinic: Clinic) -> int:
    """How many attempts all recordings under way have spent together."""
    jobs = json.loads(clinic.run("jobs", "--json").stdout)
    assert len(jobs) == MAX_IN_FLIGHT
    return sum(job["attempts"] for job in jobs)


def assert_each_was_delivered_once(clinic: Clinic, api: Sandbox, recordings: int) -> None:
    names = [f"{number:04}" for number in range(recordings)]
    assert clinic.files(clinic.done) == [f"{name}.wav" for name in names]
    expected = sorted(f"{name}.{suffix}" for name in names for suffix in ("json", "srt"))
    assert clinic.files(clinic.outbox) == expected
    assert clinic.files(clinic.failed) == clinic.files(clinic.inbox) == []
    assert under_way(clinic) == 0
    stats = api.stats()
    assert (stats["uploads"], stats["upload_attempts"], stats["presigns"]) == (recordings,) * 3
    assert len({request["sha256"] for request in stats["requests"]}) == recordings


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("recordings", [300, pytest.param(5000, marks=pytest.mark.needs())])  # minutes
def test_40_two_hours_of_outage_cost_no_recording_and_few_calls(tmp_path: Path, recordings: int) -> None:
    with contextlib.ExitStack() as stack:
        with serve(one_reply(503)) as outage:
            clinic = clinic_with(tmp_path / "clinic", outage.url, recordings=recordings)
            daemon = stack.enter_context(fast(clinic))
            wait_for("the intake is full", lambda: under_way(clinic) == MAX_IN_FLIGHT, seconds=60)
            daemon.run_until(60)
            memory_kib = daemon.memory_kib()
            daemon.run_until(TWO_HOURS)
            assert 20 < len(outage.requests) < 75  # in the long run one each two and a half to five minutes
            assert under_way(clinic) == MAX_IN_FLIGHT
            assert len(clinic.files(clinic.inbox)) == recordings - MAX_IN_FLIGHT
            assert attempts_spent(clinic) < 8  # by what was on its way before it was known for an outage
            assert clinic.events("breaker_closed", "failing") == []
            assert daemon.memory_kib() - memory_kib < 8 << 10
        api = stack.enter_context(sandbox(tmp_path / "api", port=outage.port))
        uploads = uploads_by_quarter_seconds(daemon, api)
        assert uploads[0] <= 2
        assert uploads[4] <= 8
        assert uploads[-1] >= MAX_IN_FLIGHT
        daemon.run_until(10 * TWO_HOURS)
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == recordings, seconds=1500)
        assert daemon.memory_kib() - memory_kib < 32 << 10
        assert_each_was_delivered_once(clinic, api, recordings)


def uploads_by_quarter_seconds(daemon: FastDaemon, api: Sandbox) -> list[int]:
    """How many uploads there were, in the six seconds from the first ones after the outage."""
    now = float(TWO_HOURS)
    while api.stats()["uploads"] == 0:
        now += 0.5
        assert now < TWO_HOURS + 310
        daemon.run_until(now)
    uploads = [api.stats()["uploads"]]
    for quarter in range(1, 25):
        daemon.run_until(now + quarter / 4)
        uploads.append(api.stats()["uploads"])
    return uploads


@pytest.mark.slow
def test_40_results_delayed_by_two_hours_are_all_delivered(tmp_path: Path, api: Sandbox) -> None:
    clinic = clinic_with(tmp_path / "clinic", api.base_url, recordings=20)
    api.fault({"on": "status", "do": "status", "status": 500, "times": None})
    with fast(clinic) as daemon:
        wait_for("all are taken", lambda: under_way(clinic) == 20)
        daemon.run_until(1)
        wait_for("all are uploaded", lambda: api.stats()["uploads"] == 20)
        daemon.run_until(TWO_HOURS)
        assert 20 < api.stats()["status_calls"] < 75
        assert clinic.files(clinic.failed) == clinic.files(clinic.done) == []
        api.clear_faults()
        daemon.run_until(2 * TWO_HOURS)
        wait_for("all are done", lambda: len(clinic.files(clinic.done)) == 20)
    assert_each_was_delivered_once(clinic, api, 20)


def test_40_an_api_that_is_down_is_waited_out(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api") as api:
        port = api.base_url.rpartition(":")[2]
    clinic = Clinic(tmp_path / "clinic", api.base_url)
    write_wav(clinic.inbox / "smith.wav")
    assert clinic.once() == 69
    assert kept(clinic) == ["smith.wav"]
    with sandbox(tmp_path / "api", port=int(port)) as api:
        assert clinic.once() == 0
        assert clinic.files(clinic.done) == ["smith.wav"]
        assert api.stats()["uploads"] == 1


def test_40_after_an_outage_uploads_do_not_delay_transcripts(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=1 << 20) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, retry={"base_seconds": 0.05, "max_seconds": 0.2})
        api.fault({"on": "status", "do": "status", "status": 500, "times": None})
        with running(clinic):
            names = [f"{number}.wav" for number in range(4)]
            for number, name in enumerate(names):
                write_wav(clinic.inbox / name, pitch=300 + number, seconds=0.1)
            write_sparse_wav(clinic.root / "slow.wav", 20 << 20)
            os.rename(clinic.root / "slow.wav", clinic.inbox / "slow.wav")
            wait_for("it is ill, and the slow one runs", lambda: _is_ill_and_uploading(clinic, api))
            api.clear_faults()
            wait_for("the others are done", lambda: len(clinic.events("done")) == 4)
            assert clinic.files(clinic.done) == names
            assert kept(clinic) == ["slow.wav"]
            assert len(clinic.events("uploaded")) == 4


def _is_ill_and_uploading(clinic: Clinic, api: Sandbox) -> bool:
    return clinic.events("breaker_opened") != [] and api.stats()["upload_attempts"] == 5


def kept(clinic: Clinic) -> list[str]:
    """The names of the recordings that wait, in the inbox or in processing/."""
    waiting = clinic.files(clinic.inbox) + clinic.files(clinic.processing)
    return sorted(os.path.basename(path) for path in waiting)


# ---- it lets us in no more ---------------------------------------------------------------------------------


class Gate:
    """Stands before the stand-in API, as its https address or as a proxy, and lets calls through or not."""

    def __init__(self, api: Sandbox) -> None:
        self._host = api.base_url.removeprefix("http://")
        self.refusing_with = 0  # this status; 0: calls go through

    def __call__(self, peer: Peer) -> None:
        while (request := peer.request()) is not None:
            if self.refusing_with:
                peer.answer(self.refusing_with)
                continue
            method, target, _ = request.line.split(" ")
            path = target.removeprefix(f"http://{self._host}")
            connection = http.client.HTTPConnection(self._host)
            with contextlib.closing(connection):
                connection.request(method, path, request.body, {**request.headers, "host": self._host})
                reply = connection.getresponse()
                peer.answer(reply.status, reply.read(), Content_Type=reply.headers["Content-Type"] or "")


def refused_and_shouted_about(clinic: Clinic, code: str) -> None:
    """The first of three recordings meets the fault; the others stay in the inbox, and none is blamed."""
    write_wav(clinic.inbox / "0.wav", pitch=300)
    wait_for("it is shouted about", lambda: clinic.events("api_refused") != [])
    write_wav(clinic.inbox / "1.wav", pitch=301)
    write_wav(clinic.inbox / "2.wav", pitch=302)
    wait_for("more probes fail", lambda: len(clinic.events("step_retry")) > 3)
    assert {(event["level"], event["code"]) for event in clinic.events("api_refused")} == {("error", code)}
    assert all(event["hint"] for event in clinic.events("api_refused"))
    assert clinic.files(clinic.inbox) == ["1.wav", "2.wav"]
    assert [os.path.basename(path) for path in clinic.files(clinic.processing)] == ["0.wav"]
    assert clinic.files(clinic.failed) == clinic.files(clinic.outbox) == []


def assert_it_resumes(clinic: Clinic, api: Sandbox) -> None:
    names = ["0.wav", "1.wav", "2.wav"]
    wait_for("all are done", lambda: clinic.files(clinic.done) == names)
    assert clinic.files(clinic.failed) == clinic.files(clinic.inbox) == []
    assert (api.stats()["uploads"], len(clinic.events("breaker_closed"))) == (3, 1)


@pytest.mark.parametrize(
    ("operation", "status", "code"),
    [("token", 401, "credentials"), ("presign", 401, "unauthorized"), ("presign", 403, "forbidden")],
)
def test_40_a_rejected_account_pauses_the_intake(
    clinic: Clinic, api: Sandbox, operation: str, status: int, code: str
) -> None:
    api.fault({"on": operation, "do": "status", "status": status, "times": None})
    with running(clinic):
        refused_and_shouted_about(clinic, code)
        api.clear_faults()
        assert_it_resumes(clinic, api)


def test_40_an_untrusted_certificate_pauses_the_intake(tmp_path: Path, api: Sandbox) -> None:
    for name in ("wrong", "right"):
        (tmp_path / name).mkdir()
    wrong, context = make_certificate(tmp_path / "wrong", "DNS:other.example")
    right, _ = make_certificate(tmp_path / "right")
    bundle = tmp_path / "authorities.pem"
    bundle.write_bytes(wrong.read_bytes() + right.read_bytes())
    with serve(Gate(api), tls=context) as gate:
        keys = {"base_url": gate.url, "ca_bundle": str(bundle)}
        clinic = Clinic(tmp_path / "clinic", gate.url, api=keys)
        with running(clinic):
            refused_and_shouted_about(clinic, "tls")
            context.load_cert_chain(right, tmp_path / "right" / "key.pem")
            assert_it_resumes(clinic, api)


def test_40_a_proxy_that_refuses_us_pauses_the_intake(tmp_path: Path, api: Sandbox) -> None:
    gate = Gate(api)
    gate.refusing_with = 407
    with serve(gate) as proxy:
        keys = {"base_url": api.base_url, "proxy": proxy.url}
        clinic = Clinic(tmp_path / "clinic", api.base_url, api=keys)
        with running(clinic):
            refused_and_shouted_about(clinic, "proxy")
            gate.refusing_with = 0
            assert_it_resumes(clinic, api)


def test_40_a_proxy_that_is_down_is_waited_out(tmp_path: Path, api: Sandbox) -> None:
    port = free_port()
    keys = {"base_url": api.base_url, "proxy": f"http://127.0.0.1:{port}"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, api=keys)
    write_wav(clinic.inbox / "0.wav")
    assert clinic.once() == 69
    with running(clinic):
        wait_for("it is said", lambda: clinic.events("breaker_opened") != [])
        with serve(Gate(api), port=port):
            wait_for("it is done", lambda: clinic.files(clinic.done) == ["0.wav"])
    assert {event["code"] for event in clinic.events("breaker_opened")} == {"network"}
    assert clinic.events("api_refused") == []


def test_40_a_single_run_with_wrong_credentials_fails_no_job(tmp_path: Path, api: Sandbox) -> None:
    wrong = {"app_id": "sandbox-app", "api_key": "not-the-key"}
    clinic = Clinic(tmp_path / "clinic", api.base_url, credentials=wrong)
    names = ["0.wav", "1.wav", "2.wav"]
    for number, name in enumerate(names):
        write_wav(clinic.inbox / name, pitch=300 + number)
    assert clinic.once() == 77
    assert kept(clinic) == names
    assert clinic.files(clinic.failed) == clinic.files(clinic.outbox) == []
    assert {event["code"] for event in clinic.events("api_refused")} == {"credentials"}

    clinic.config.write_text(clinic.config.read_text().replace("not-the-key", "sandbox-key"))
    assert clinic.once() == 0
    assert clinic.files(clinic.done) == names
    assert api.stats()["uploads"] == 3
