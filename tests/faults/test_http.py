"""FAULTS.md 33–39, 41, 42: what the API, its storage, and the line to them may do to a recording."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.assembly import api_of, client_of
from invox_watcher.config.loading import load
from invox_watcher.errors import UploadUncertainError
from invox_watcher.files import prepare_folders
from invox_watcher.formats.decoder import Decoder
from invox_watcher.job import Job, State, new_job_id
from invox_watcher.journal.journal import Journal
from invox_watcher.layout import folders_of
from invox_watcher.processing import Pipeline, ProcessingOptions
from invox_watcher.recording import FileIdentity
from invox_watcher.sandbox.server import Sandbox
from invox_watcher.sandbox.settings import ReplyShape
from tests.faults.evidence import assert_done, reason_for, retry_codes
from tests.kit.clinic import Clinic, running, sandbox
from tests.kit.loopback import Peer, make_certificate, one_reply, serve
from tests.kit.recordings import write_sparse_wav, write_wav
from tests.kit.waiting import wait_for

QUICK = {"settle_seconds": 0.05, "rescan_seconds": 1, "patience_seconds": 1.5}
CALLS = ("token", "presign", "status")
OPERATIONS = (*CALLS, "upload")


@pytest.fixture
def clinic(tmp_path: Path, api: Sandbox) -> Clinic:
    """A clinic that settles quickly, with one recording in its inbox."""
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
    write_wav(clinic.inbox / "smith.wav")
    return clinic


# ---- 33, 34: tokens and URLs that expire -------------------------------------------------------------------


@pytest.mark.slow
def test_33_tokens_that_expire_under_load_cost_one_refresh_each(tmp_path: Path) -> None:
    # A bare token tells no lifetime, so that the daemon learns of its end by a 401 in many threads at once.
    shape = ReplyShape(token_field="token")
    with sandbox(
        tmp_path / "api", token_lifetime_seconds=1, result_delay_seconds=1.5, reply_shape=shape
    ) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, upload={"workers": 8})
        names = [f"{number}.wav" for number in range(16)]
        for number, name in enumerate(names):
            write_wav(clinic.inbox / name, pitch=300 + number, seconds=0.1)
        api.fault({"on": "token", "do": "latency", "seconds": 0.3, "times": None})  # all meet who want one
        began = time.monotonic()
        assert clinic.once() == 0
        seconds = time.monotonic() - began
        assert_done(clinic, *names)
        assert clinic.events("step_retry", "failing", "api_refused") == []
        assert 2 <= api.stats()["tokens"] <= 1 + seconds  # each lives for one second


@pytest.mark.parametrize("operation", ["presign", "status"])
def test_33_a_token_that_is_refused_once_is_replaced_at_once(
    clinic: Clinic, api: Sandbox, operation: str
) -> None:
    api.fault({"on": operation, "do": "status", "status": 401})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert clinic.events("step_retry", "api_refused") == []
    assert (api.stats()["tokens"], api.stats()["uploads"]) == (2, 1)


def test_34_a_url_that_is_refused_is_replaced(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "upload", "do": "status", "status": 403, "times": 2})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert (api.stats()["uploads"], api.stats()["presigns"]) == (1, 3)


def test_34_expired_urls_are_replaced_a_bounded_number_of_times(
    tmp_path: Path,
) -> None:
    with sandbox(tmp_path / "api", url_lifetime_seconds=0) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 77  # before storage has taken anything, the set-up is at fault
        assert clinic.files(clinic.failed) == []
        refused = clinic.events("api_refused")[0]
        assert "403 (AccessDenied)" in refused["error"]
        assert "clock" in refused["hint"]
        assert (api.stats()["presigns"], api.stats()["uploads"]) == (3, 0)


# ---- 35: Retry-After ---------------------------------------------------------------------------------------


def hours_from_now(hours: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_35_retry_after_is_waited_for_and_clamped(
    tmp_path: Path, api: Sandbox, operation: str, status: int
) -> None:
    # Our own delays stay below 0.2 s for as many attempts; the longest that is believed is 0.3 s.
    retry = {"base_seconds": 0.005, "max_seconds": 0.3, "max_attempts": 20}
    clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, retry=retry)
    write_wav(clinic.inbox / "smith.wav")
    asked = {
        "86400": 0.3,
        "-5": 0.0,
        "soon": 0.0,
        "0.25": 0.25,
        "inf": 0.0,
        hours_from_now(1): 0.3,
        hours_from_now(-1): 0.0,
    }
    for header in asked:
        api.fault({"on": operation, "do": "status", "status": status, "retry_after": header})
    with running(clinic):
        wait_for("it is done", lambda: clinic.files(clinic.done) == ["smith.wav"])
    assert_done(clinic, "smith.wav")
    assert api.stats()["uploads"] == 1
    retries = clinic.events("step_retry")
    assert len(retries) == len(asked)
    for believed, this, following in zip(asked.values(), retries, retries[1:], strict=False):
        assert this["after_seconds"] <= max(believed, 0.2) + 0.05  # it is written with one decimal
        assert seconds_between(this, following) >= believed


def seconds_between(first: dict[str, Any], second: dict[str, Any]) -> float:
    earlier, later = (datetime.fromisoformat(event["at"]) for event in (first, second))
    return (later - earlier).total_seconds()


# ---- 36: slowness and silence ------------------------------------------------------------------------------


def impatient(root: Path, base_url: str, *, recordings: int) -> Clinic:
    """A clinic that gives every exchange a second, uploads one at a time, and has so many recordings."""
    keys = {"base_url": base_url, "read_timeout_seconds": 1}
    clinic = Clinic(root, base_url, watch=QUICK, api=keys, upload={"workers": 1})
    for number in range(recordings):
        write_wav(clinic.inbox / f"{number}.wav", pitch=300 + number, seconds=0.1)
    return clinic


@pytest.mark.slow
@pytest.mark.parametrize("part", ["body", "all"])
@pytest.mark.parametrize("operation", CALLS)
def test_36_replies_byte_by_byte_end_at_the_deadline(
    tmp_path: Path, api: Sandbox, operation: str, part: str
) -> None:
    clinic = impatient(tmp_path / "clinic", api.base_url, recordings=4)
    # As many as there are workers of one kind: if they were held, nothing would go on. The bytes come more
    # often than once in the second of silence that ends an exchange as well.
    api.fault({"on": operation, "do": "slow_bytes", "seconds": 0.3, "part": part, "times": 3})
    assert clinic.once(seconds=30) == 0
    assert_done(clinic, "0.wav", "1.wav", "2.wav", "3.wav")
    assert set(retry_codes(clinic)) == {"timeout"}
    assert api.stats()["uploads"] == 4


def test_36_a_slow_storage_response_causes_no_second_upload(tmp_path: Path, api: Sandbox) -> None:
    clinic = impatient(tmp_path / "clinic", api.base_url, recordings=2)
    api.fault({"on": "upload", "do": "slow_bytes", "seconds": 0.3, "part": "all"})
    assert clinic.once(seconds=30) == 0
    assert_done(clinic, "0.wav", "1.wav")
    assert retry_codes(clinic) == ["upload_uncertain"]
    assert (api.stats()["uploads"], api.stats()["upload_attempts"]) == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_36_unanswered_requests_end_at_the_deadline(tmp_path: Path, api: Sandbox, operation: str) -> None:
    clinic = impatient(tmp_path / "clinic", api.base_url, recordings=4)
    api.fault({"on": operation, "do": "silence", "times": 3})
    assert clinic.once(seconds=40) == 0
    assert_done(clinic, "0.wav", "1.wav", "2.wav", "3.wav")
    assert set(retry_codes(clinic)) == {"upload_uncertain" if operation == "upload" else "timeout"}
    assert api.stats()["uploads"] == 4


@pytest.mark.slow
def test_36_a_connection_never_read_from_ends_at_the_deadline(tmp_path: Path) -> None:
    with serve(Peer.stay_silent) as silent:
        clinic = impatient(tmp_path / "clinic", silent.url, recordings=2)
        assert clinic.once(seconds=30) == 69
    assert "timeout" in retry_codes(clinic)
    with sandbox(tmp_path / "api", port=silent.port) as api:
        assert clinic.once() == 0
        assert_done(clinic, "0.wav", "1.wav")
        assert api.stats()["uploads"] == 2


def test_36_a_stalled_upload_ends_long_before_its_deadline(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", upload_bytes_per_second=1) as stuck:
        port = int(stuck.base_url.rpartition(":")[2])
        clinic = impatient(tmp_path / "clinic", stuck.base_url, recordings=1)
        write_sparse_wav(clinic.inbox / "0.wav", 32 << 20)  # the deadline of so many bytes is ten hours
        with running(clinic):
            wait_for("it breaks off", lambda: "upload_interrupted" in retry_codes(clinic))
    with sandbox(tmp_path / "api", port=port) as api:
        assert clinic.once() == 0
        assert_done(clinic, "0.wav")
        assert (api.stats()["uploads"], api.stats()["upload_attempts"]) == (1, 1)


# ---- 37: an upload of unknown fate -------------------------------------------------------------------------


@pytest.mark.parametrize("unuploaded", ["unknown", "pending"])
def test_37_an_upload_with_a_lost_response_is_not_repeated(tmp_path: Path, unuploaded: str) -> None:
    with sandbox(tmp_path / "api", unuploaded_status=unuploaded) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
        write_wav(clinic.inbox / "smith.wav")
        api.fault({"on": "upload", "do": "drop_reply"})
        assert clinic.once() == 0
        assert_done(clinic, "smith.wav")
        stats = api.stats()
    assert len(clinic.events("upload_uncertain")) == 1
    assert (stats["uploads"], stats["upload_attempts"], stats["presigns"]) == (1, 1, 1)


def test_37_an_upload_that_never_arrived_is_repeated(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "upload", "do": "silence", "seconds": 0.1})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    stats = api.stats()
    assert len(clinic.events("upload_uncertain")) == 1
    assert (stats["uploads"], stats["upload_attempts"], stats["presigns"]) == (1, 2, 2)
    assert stats["status_calls"] >= 3  # asked twice before it was sent again


def test_37_one_denial_of_a_request_id_is_not_believed(clinic: Clinic, api: Sandbox) -> None:
    body = {"errorType": "transcriptionNotFound"}
    api.fault({"on": "upload", "do": "drop_reply"})
    api.fault({"on": "status", "do": "status", "status": 404, "body": body})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert api.stats()["upload_attempts"] == 1


def test_37_an_interrupted_upload_is_repeated(clinic: Clinic, api: Sandbox) -> None:
    write_sparse_wav(clinic.inbox / "smith.wav", 16 << 20)
    api.fault({"on": "upload", "do": "close_after_bytes", "bytes": 100_000})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    stats = api.stats()
    assert (stats["uploads"], stats["upload_attempts"], stats["presigns"]) == (1, 2, 2)
    assert retry_codes(clinic) == ["upload_interrupted"]


@pytest.mark.parametrize("operation", CALLS)
def test_37_a_call_whose_connection_is_lost_is_repeated(clinic: Clinic, api: Sandbox, operation: str) -> None:
    api.fault({"on": operation, "do": "reset", "times": 2})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert (api.stats()["uploads"], api.stats()["presigns"]) == (1, 1)


def test_37_unconfirmed_uploads_are_not_repeated_forever(tmp_path: Path) -> None:
    with sandbox(tmp_path / "api", readings=("upload-500-lost",)) as api:
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK)
        write_wav(clinic.inbox / "smith.wav")
        assert clinic.once() == 1
        assert reason_for(clinic, "smith.wav")["code"] == "upload_lost"
        assert clinic.files(clinic.failed) == ["smith.wav", "smith.wav.error.json"]
        assert clinic.files(clinic.outbox) == clinic.files(clinic.done) == clinic.files(clinic.inbox) == []
        assert api.stats()["upload_attempts"] == 3


def test_37_an_uncertain_upload_is_waited_for_for_the_full_time(tmp_path: Path) -> None:
    """An API that calls an upload pending which never came: only the clock is not the real one."""
    now = 0.0
    with sandbox(tmp_path / "api", unuploaded_status="pending") as api, contextlib.ExitStack() as stack:
        clinic = Clinic(tmp_path / "clinic", api.base_url)
        config = load(clinic.config)
        client = stack.enter_context(contextlib.closing(client_of(config)))
        journal = stack.enter_context(contextlib.closing(Journal(tmp_path)))
        folders = folders_of(config)
        prepare_folders(folders)
        pipeline = Pipeline(
            decoder=Decoder(),
            folders=folders, journal=journal, api=api_of(config, client), options=ProcessingOptions(),
            stop=threading.Event(), clock=lambda: now,
        )  # fmt: skip
        seen = write_wav(clinic.inbox / "smith.wav").stat()
        job = Job(
            id=new_job_id(), state=State.CLAIMED, path="smith.wav",
            identity=FileIdentity.of(seen), received_at=datetime.now(UTC),
            mime_type="audio/wav", duration_seconds=3600.0,
        )  # fmt: skip
        assert pipeline.claim(job)
        job = pipeline.advance(job).job
        api.fault({"on": "upload", "do": "silence", "seconds": 0.2})
        with pytest.raises(UploadUncertainError):
            pipeline.advance(job)
        job = journal.jobs()[0]
        while now < 3600:  # as long as the recording lasts, and longer than any outage
            following = pipeline.advance(job)
            assert following.job.state is State.UPLOADING
            assert following.after_seconds > 0
            now += max(following.after_seconds, 300)
        assert api.stats()["upload_attempts"] == 1
        now += 24 * 3600
        job = pipeline.advance(job).job
        assert pipeline.advance(job).job.state is State.WAITING
        assert (api.stats()["uploads"], api.stats()["upload_attempts"]) == (1, 2)


# ---- 38: replies that make no sense ------------------------------------------------------------------------


NONSENSE = [
    ({"do": "html"}, "is a web page|with text/html.* where JSON was expected"),
    ({"do": "truncate", "declared": "half"}, "has no token|with application/json.* where JSON was expected"),
    ({"do": "truncate", "declared": "whole"}, "was cut short"),
    ({"do": "huge", "bytes": 129 << 20}, "exceeds 128 MiB"),
]
MISSING = [
    ("token", "accessToken", "has no token in one of the usual places (api.token.field)"),
    ("presign", "presignedUrl", "has no usable presignedUrl"),
    ("presign", "requestId", "has no usable requestId"),
]


@pytest.mark.parametrize("operation", CALLS)
@pytest.mark.parametrize(("fault", "words"), NONSENSE, ids=lambda value: str(value)[:40])
def test_38_a_malformed_reply_is_reported_and_retried(
    clinic: Clinic, api: Sandbox, operation: str, fault: dict[str, Any], words: str
) -> None:
    api.fault({"on": operation} | fault)
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    (event,) = clinic.events("step_retry")
    assert event["code"] == "api_protocol"
    assert re.search(words, event["error"])
    assert api.stats()["uploads"] == 1


@pytest.mark.parametrize(("operation", "field", "words"), MISSING)
def test_38_a_missing_field_is_named(
    clinic: Clinic, api: Sandbox, operation: str, field: str, words: str
) -> None:
    api.fault({"on": operation, "do": "missing_field", "field": field, "times": 3})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert set(retry_codes(clinic)) == {"api_protocol"}
    assert all(words in event["error"] for event in clinic.events("step_retry"))
    assert api.stats()["uploads"] == 1


def test_38_words_come_from_the_vtt_if_segments_are_missing(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "status", "do": "missing_field", "field": "transcription", "times": 3})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert json.loads((clinic.outbox / "smith.json").read_text())["segments"]
    assert retry_codes(clinic) == []
    assert api.stats()["uploads"] == 1


def test_38_an_unknown_status_is_named_and_waited_out(clinic: Clinic, api: Sandbox) -> None:
    api.fault({"on": "status", "do": "unknown_status", "value": "ON_HOLD"})
    assert clinic.once() == 0
    assert_done(clinic, "smith.wav")
    assert [event["status"] for event in clinic.events("api_status_unknown")] == ["ON_HOLD"]


# ---- 39: redirections --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_39_a_redirect_is_not_followed(clinic: Clinic, api: Sandbox, operation: str, status: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
        api.fault({"on": operation, "do": "redirect", "status": status, "location": location, "times": None})
        assert clinic.once() == 77
        elsewhere.setblocking(False)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    assert [os.path.basename(path) for path in clinic.files(clinic.processing)] == ["smith.wav"]
    assert clinic.files(clinic.failed) == []
    assert {event["code"] for event in clinic.events("api_refused")} == {"redirected"}
    assert location not in clinic.log.read_text()


# ---- 41: the environment -----------------------------------------------------------------------------------


def once_with(clinic: Clinic, **environment: str) -> int:
    """`run --once` with these environment variables as well; the exit status."""
    with clinic.log.open("ab") as log:
        return subprocess.run(
            clinic.command("run", "--once"), env=os.environ | environment, stderr=log, timeout=60, check=False
        ).returncode


def test_41_proxies_of_the_environment_see_nothing(clinic: Clinic, api: Sandbox) -> None:
    with serve(one_reply(407)) as proxy:
        names = ("http_proxy", "https_proxy", "all_proxy")
        proxies = dict.fromkeys((*names, *map(str.upper, names)), proxy.url)
        assert once_with(clinic, **proxies, NO_PROXY="", no_proxy="") == 0
        assert proxy.connections == 0
    assert_done(clinic, "smith.wav")


def test_41_the_configured_proxy_overrides_no_proxy(tmp_path: Path, api: Sandbox) -> None:
    with serve(one_reply(407)) as proxy:
        keys = {"base_url": api.base_url, "proxy": proxy.url}
        clinic = Clinic(tmp_path / "clinic", api.base_url, watch=QUICK, api=keys)
        write_wav(clinic.inbox / "smith.wav")
        assert once_with(clinic, NO_PROXY="*", no_proxy="127.0.0.1") == 77
        assert proxy.connections > 0
    assert api.stats()["tokens"] == 0


def test_41_a_netrc_is_not_used(clinic: Clinic, api: Sandbox, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login some password one\n")
    netrc.chmod(0o600)
    # Storage refuses a second form of authentication, and the API credentials that it does not know.
    assert once_with(clinic, HOME=str(tmp_path), NETRC=str(netrc)) == 0
    assert_done(clinic, "smith.wav")
    assert clinic.events("step_retry", "api_refused") == []


def test_41_a_ca_of_the_environment_is_not_trusted(tmp_path: Path) -> None:
    pem, context = make_certificate(tmp_path)
    with serve(one_reply(503), tls=context) as server:
        clinic = Clinic(tmp_path / "clinic", server.url, watch=QUICK)
        write_wav(clinic.inbox / "smith.wav")
        names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
        assert once_with(clinic, **dict.fromkeys(names, str(pem)), SSL_CERT_DIR=str(tmp_path)) == 77
        assert server.requests == []
    assert {event["code"] for event in clinic.events("api_refused")} == {"tls"}


def test_41_the_configured_ca_overrides_the_environment(tmp_path: Path) -> None:
    pem, context = make_certificate(tmp_path)
    with serve(one_reply(503), tls=context) as server:
        keys = {"base_url": server.url, "ca_bundle": str(pem)}
        clinic = Clinic(tmp_path / "clinic", server.url, watch=QUICK, api=keys)
        write_wav(clinic.inbox / "smith.wav")
        names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
        assert once_with(clinic, **dict.fromkeys(names, str(tmp_path / "nothing"))) == 69
        assert server.requests != []


# ---- 42: nothing to upload ---------------------------------------------------------------------------------


def test_42_an_empty_upload_has_a_length_and_is_not_chunked(clinic: Clinic, api: Sandbox) -> None:
    """The daemon lets no empty recording come so far; storage would refuse a chunked one."""
    config = load(clinic.config)
    with contextlib.closing(client_of(config)) as client:
        ours = api_of(config, client)
        ours.upload(ours.presign("audio/wav"), io.BytesIO(), size_bytes=0, mime_type="audio/wav")
    assert [request["bytes"] for request in api.stats()["requests"]] == [0]
