"""`api` against a vendor of the test's own: what it sends, and what each answer means to the operator."""

from __future__ import annotations

import base64
import io
import json
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from invox_watcher.errors import (
    ApiError,
    ApiRefusedError,
    ApiRejectedError,
    ApiUnavailableError,
    InvoxError,
    RequestUnknownError,
    StoppedError,
    UploadUncertainError,
    UploadUrlRefusedError,
)
from invox_watcher.invox import ApiCall, ApiOptions, InvoxApi, PresignedUpload, TokenRequest
from invox_watcher.invox.replies import ReplyStatus
from invox_watcher.net import HttpClient
from tests.kit.clock import ManualClock
from tests.kit.http_client import certificate, failure_of
from tests.kit.logged import captured
from tests.kit.loopback import Peer, Request, Server, one_reply, serve

__all__ = ["certificate"]  # a fixture

API_KEY = "K3y-0f-Th3-Cl1nic"
BASE64 = base64.b64encode(f"clinic:{API_KEY}".encode()).decode()
TOKEN, PRESIGN, STATUS, STORAGE = "/oauth/token", "/presign", "/status", "/bucket"
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class Vendor:
    """The vendor as a table from path to answer; an answer may be a function of the request."""

    def __init__(self) -> None:
        self.tokens = 0
        self.answers: dict[str, Answer | Callable[[Request], Answer]] = {
            TOKEN: self.token,
            PRESIGN: lambda _request: (
                200,
                {"presignedUrl": f"{self.server.url}{STORAGE}?X-Amz-Signature=abc", "requestId": "r-1"},
            ),
            STATUS: (200, {"processingStatus": "PENDING"}),
            STORAGE: (200, b""),
        }
        self.server: Server

    def token(self, _request: Request) -> Answer:
        self.tokens += 1
        return 200, {"accessToken": f"token-{self.tokens}", "expiresIn": 7200}

    def converse(self, peer: Peer) -> None:
        while (request := peer.request()) is not None:
            answer = self.answers[request.target.partition("?")[0]]
            status, body, *headers = answer(request) if callable(answer) else answer
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            peer.answer(status, body, **(headers[0] if headers else {}))

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.server.requests if request.target.partition("?")[0] == path]


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    vendor = Vendor()
    with serve(vendor.converse) as vendor.server:
        yield vendor


@pytest.fixture
def client() -> Iterator[HttpClient]:
    client = HttpClient(connect_timeout_seconds=2)
    yield client
    client.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def make_api(client: HttpClient, url: str, **changes: Any) -> InvoxApi:
    """`changes`: to the options; `token`: changes to the token request; `clock`, `on_call`."""
    token = TokenRequest(
        url=TOKEN,
        method="POST",
        headers={"Authorization": "Basic {base64}"},
        form={"grant_type": "client_credentials"},
        json=None,
        field=None,
        lifetime_seconds=None,
    )
    more = {name: changes.pop(name) for name in ("clock", "on_call") if name in changes}
    options = ApiOptions(
        base_url=url,
        version="2025-11-01",
        headers={},
        token=replace(token, **changes.pop("token", {})),
        presign_path=PRESIGN,
        presign_fields={},
        status_path=STATUS,
        upload_headers={},
        read_timeout_seconds=5.0,
        retry_max_seconds=300.0,
    )
    return InvoxApi(client, replace(options, **changes), app_id="clinic", api_key=API_KEY, **more)


@pytest.fixture
def api(client: HttpClient, vendor: Vendor, clock: ManualClock) -> InvoxApi:
    return make_api(client, vendor.server.url, clock=clock)


def refuses_the_first_token(status: int, message: str) -> Callable[[Request], Answer]:
    def answer(request: Request) -> Answer:
        if request.headers["authorization"] == "Bearer token-1":
            return status, {"message": message}
        return 200, {"processingStatus": "PENDING"}

    return answer


def put(api: InvoxApi, vendor: Vendor, content: bytes = b"RIFF", **options: Any) -> None:
    presigned = PresignedUpload(f"{vendor.server.url}{STORAGE}?X-Amz-Signature=abc", "r-1")
    api.upload(presigned, io.BytesIO(content), size_bytes=len(content), mime_type="audio/wav", **options)


def put_by(api: InvoxApi, presigned: PresignedUpload) -> None:
    api.upload(presigned, io.BytesIO(b"RIFF"), size_bytes=4, mime_type="audio/wav")


class TestTheCycle:
    def test_one_recording(self, api: InvoxApi, vendor: Vendor) -> None:
        segments = [{"text": "Hello, Doctor.", "start": 0.5, "end": 2.2}]
        presigned = api.presign("audio/wav")
        api.upload(presigned, io.BytesIO(b"RIFF"), size_bytes=4, mime_type="audio/wav")
        assert api.result(presigned.request_id).status is ReplyStatus.PENDING
        vendor.answers[STATUS] = 200, {"transcriptionStatus": "COMPLETED", "transcription": segments}
        reply = api.result(presigned.request_id)
        assert reply.status is ReplyStatus.COMPLETED
        assert reply.transcript is not None
        assert reply.transcript.text == "Hello, Doctor."

        token, presign, upload, *asked = vendor.server.requests
        assert token.body == b"grant_type=client_credentials"
        assert token.headers["content-type"] == "application/x-www-form-urlencoded"
        scheme, _, credentials = token.headers["authorization"].partition(" ")
        assert (scheme, base64.b64decode(credentials)) == ("Basic", f"clinic:{API_KEY}".encode())
        assert json.loads(presign.body) == {"mimeType": "audio/wav"}
        assert (upload.line.split()[0], upload.body) == ("PUT", b"RIFF")
        assert upload.headers["content-type"] == "audio/wav"
        assert [json.loads(request.body) for request in asked] == [{"requestId": "r-1"}] * 2
        for request in (presign, *asked):
            assert request.headers["authorization"] == "Bearer token-1"
            assert request.headers["content-type"] == "application/json"
        for request in (token, presign, *asked):
            assert request.headers["x-invox-medical-api-version"] == "2025-11-01"
        assert not {"authorization", "x-invox-medical-api-version", "cookie"} & set(upload.headers)

    def test_the_version_may_be_left_out(self, client: HttpClient, vendor: Vendor) -> None:
        make_api(client, vendor.server.url, version=None).presign("audio/wav")
        assert all("x-invox-medical-api-version" not in request.headers for request in vendor.server.requests)

    def test_a_callback_goes_along(self, api: InvoxApi, vendor: Vendor) -> None:
        api.presign("audio/wav", "https://clinic.example/hook")
        assert json.loads(vendor.asked(PRESIGN)[0].body) == {
            "mimeType": "audio/wav",
            "callbackUrl": "https://clinic.example/hook",
        }

    def test_a_slash_too_many_in_the_base_url_does_no_harm(self, client: HttpClient, vendor: Vendor) -> None:
        make_api(client, vendor.server.url + "/").authenticate()
        assert len(vendor.asked(TOKEN)) == 1

    def test_authenticate_gets_a_token(self, api: InvoxApi, vendor: Vendor) -> None:
        api.authenticate()
        assert [request.target for request in vendor.server.requests] == [TOKEN]

    def test_an_unknown_status_is_logged_and_counts_as_pending(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[STATUS] = 200, {"processingStatus": "MARINATING"}
        with captured() as events:
            assert api.result("r-1").status is ReplyStatus.PENDING
        assert "MARINATING" in str(events)


class TestToken:
    @pytest.mark.parametrize("name", ["accessToken", "access_token", "token"])
    def test_under_every_name(self, api: InvoxApi, vendor: Vendor, name: str) -> None:
        vendor.answers[TOKEN] = 200, {name: "abc"}
        api.presign("audio/wav")
        assert vendor.asked(PRESIGN)[0].headers["authorization"] == "Bearer abc"

    @pytest.mark.parametrize(
        ("fields", "used_until_seconds"),
        [
            ({"expiresIn": 7200}, 7140),
            ({"expires_in": 100}, 90),
            ({"expiresIn": "100"}, 90),
            ({"expiresIn": 100.0, "expires_in": 5}, 90),
            ({}, 7140),
            ({"expiresIn": 0}, 7140),
            ({"expiresIn": -5}, 7140),
            ({"expiresIn": "soon"}, 7140),
            ({"expiresIn": None}, 7140),
            ({"expiresIn": True}, 7140),
            ({"expiresIn": [1]}, 7140),
            ({"expiresIn": "inf"}, 7140),
        ],
    )
    def test_is_reused_and_replaced_before_it_expires(
        self,
        api: InvoxApi,
        vendor: Vendor,
        clock: ManualClock,
        fields: dict[str, Any],
        used_until_seconds: float,
    ) -> None:
        vendor.answers[TOKEN] = 200, {"token": "abc", **fields}
        api.result("r-1")
        clock.now += used_until_seconds - 1
        api.result("r-1")
        assert len(vendor.asked(TOKEN)) == 1
        clock.now += 2
        api.result("r-1")
        assert len(vendor.asked(TOKEN)) == 2

    def test_one_that_expired_early_is_replaced(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[STATUS] = refuses_the_first_token(401, "Token expired")
        assert api.result("r-1").status is ReplyStatus.PENDING
        assert (len(vendor.asked(TOKEN)), len(vendor.asked(STATUS))) == (2, 2)

    def test_a_401_with_a_fresh_token_is_for_the_operator(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[STATUS] = 401, {"message": "Who are you?"}
        error = failure_of(lambda: api.result("r-1"))
        assert isinstance(error, ApiRefusedError)
        assert (error.code, error.status) == ("unauthorized", 401)
        assert (len(vendor.asked(TOKEN)), len(vendor.asked(STATUS))) == (2, 2)

    @pytest.mark.parametrize("first", [True, False])
    def test_twenty_threads_fetch_one(self, client: HttpClient, vendor: Vendor, first: bool) -> None:
        """`first`: there is no token yet; otherwise all of them see the current one expire."""
        everyone = threading.Barrier(20)
        refused = threading.Barrier(20)

        def token(request: Request) -> Answer:
            time.sleep(0.1)  # a slow token endpoint: all are waiting by then
            return vendor.token(request)

        def status(request: Request) -> Answer:
            if request.headers["authorization"] == "Bearer token-1" and not first:
                refused.wait(10)
                return 401, {}
            return 200, {"processingStatus": "PENDING"}

        vendor.answers |= {TOKEN: token, STATUS: status}
        api = make_api(client, vendor.server.url)
        if not first:
            api.authenticate()
        outcomes: list[object] = []

        def ask() -> None:
            everyone.wait(10)
            outcomes.append(api.result("r-1").status)

        threads = [threading.Thread(target=ask) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert outcomes == [ReplyStatus.PENDING] * 20
        assert len(vendor.asked(TOKEN)) == (1 if first else 2)

    def test_a_failed_refresh_fails_everyone_who_waits_for_it_once(
        self, client: HttpClient, vendor: Vendor
    ) -> None:
        asking = threading.Semaphore(0)

        def token(_request: Request) -> Answer:
            for _ in range(5):
                assert asking.acquire(timeout=10)
            time.sleep(1)  # from saying so to waiting for the token is a matter of microseconds
            return 503, {}

        vendor.answers[TOKEN] = token
        api = make_api(client, vendor.server.url)
        errors: list[InvoxError] = []

        def ask() -> None:
            asking.release()
            errors.append(failure_of(lambda: api.result("r-1")))

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [type(error) for error in errors] == [ApiUnavailableError] * 5
        assert len(vendor.asked(TOKEN)) == 1
        vendor.answers[TOKEN] = vendor.token
        api.result("r-1")

    @pytest.mark.parametrize("status", [400, 401, 403])
    def test_wrong_credentials(self, api: InvoxApi, vendor: Vendor, status: int) -> None:
        vendor.answers[TOKEN] = status, {"message": "Invalid client"}
        error = failure_of(api.authenticate)
        assert isinstance(error, ApiRefusedError)
        assert (error.code, error.status) == ("credentials", status)
        assert "Invalid client" in error.message
        assert "credentials.app_id" in error.hint
        assert "credentials.api_key" in error.hint

    def test_a_wrong_path(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[TOKEN] = 404, b"<html>nothing here</html>"
        error = failure_of(api.authenticate)
        assert (type(error), error.code) == (ApiRefusedError, "token_not_found")
        assert "api.token" in error.hint

    @pytest.mark.parametrize(
        "body", [{}, {"token": ""}, {"token": 5}, {"token": "a\nb"}, {"token": "ä"}, [], b"<html>", b""]
    )
    def test_a_reply_without_a_usable_token(self, api: InvoxApi, vendor: Vendor, body: Any) -> None:
        vendor.answers[TOKEN] = 200, body
        error = failure_of(api.authenticate)
        assert (type(error), error.code) == (ApiUnavailableError, "api_protocol")

    def test_a_403_with_a_token_that_worked_buys_one(self, api: InvoxApi, vendor: Vendor) -> None:
        api.result("r-1")
        vendor.answers[STATUS] = refuses_the_first_token(403, "Forbidden")
        assert api.result("r-1").status is ReplyStatus.PENDING
        assert (len(vendor.asked(TOKEN)), len(vendor.asked(STATUS))) == (2, 3)

    def test_a_late_403_for_a_token_that_was_replaced_meanwhile(self, api: InvoxApi, vendor: Vendor) -> None:
        api.result("r-1")
        renewed = threading.Event()
        late = iter([False, True])

        def status(request: Request) -> Answer:
            if request.headers["authorization"] != "Bearer token-1":
                renewed.set()
                return 200, {"processingStatus": "PENDING"}
            if next(late):
                assert renewed.wait(10)
                time.sleep(0.1)  # until the other thread has read its answer
            return 403, {"message": "Forbidden"}

        vendor.answers[STATUS] = status
        with ThreadPoolExecutor(2) as threads:
            replies = list(threads.map(api.result, ["r-1", "r-2"]))
        assert [reply.status for reply in replies] == [ReplyStatus.PENDING] * 2
        assert len(vendor.asked(TOKEN)) == 2

    def test_a_lasting_403_buys_one_and_no_more(self, api: InvoxApi, vendor: Vendor) -> None:
        api.result("r-1")
        vendor.answers[STATUS] = 403, {"message": "Missing Authentication Token"}
        for _ in range(5):
            error = failure_of(lambda: api.result("r-1"))
            assert (type(error), error.code) == (ApiRefusedError, "not_found")
        assert len(vendor.asked(TOKEN)) == 2

    def test_a_403_with_a_new_token_buys_none(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[STATUS] = 403, {"message": "No"}
        assert failure_of(lambda: api.result("r-1")).code == "forbidden"
        assert (len(vendor.asked(TOKEN)), len(vendor.asked(STATUS))) == (1, 1)

    @pytest.mark.parametrize(
        ("token", "sent"),
        [
            ({"form": None}, ("POST", None, b"")),
            ({"form": None, "method": "GET"}, ("GET", None, b"")),
            (
                {"json": {"appId": "{app_id}", "more": ["{api_key}"]}, "headers": {}},
                (
                    "POST",
                    "application/json",
                    json.dumps({"appId": "clinic", "more": [API_KEY]}).encode(),
                ),
            ),
            (
                {"form": {"a": "{base64}"}},
                (
                    "POST",
                    "application/x-www-form-urlencoded",
                    f"a={BASE64.replace('=', '%3D')}".encode(),
                ),
            ),
        ],
    )
    def test_is_bought_as_configured(
        self,
        client: HttpClient,
        vendor: Vendor,
        token: dict[str, Any],
        sent: tuple[str, str | None, bytes],
    ) -> None:
        make_api(client, vendor.server.url, token=token).authenticate()
        (request,) = vendor.server.requests
        method, kind, body = sent
        assert request.line == f"{method} {TOKEN} HTTP/1.1"
        assert (request.headers.get("content-type"), request.body) == (kind, body)
        scheme = None if token.get("headers") == {} else f"Basic {BASE64}"
        assert request.headers.get("authorization") == scheme

    def test_may_come_from_another_host(self, client: HttpClient, vendor: Vendor) -> None:
        with serve(one_reply(200, b'{"data": {"key": "abc"}}')) as login:
            token = {"url": f"{login.url}/login/v2", "field": "data.key"}
            make_api(client, vendor.server.url, token=token).presign("audio/wav")
            assert [request.target for request in login.requests] == ["/login/v2"]
        assert vendor.asked(PRESIGN)[0].headers["authorization"] == "Bearer abc"
        assert vendor.asked(TOKEN) == []

    def test_a_web_page_instead_names_the_address(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[TOKEN] = 200, b"<!DOCTYPE html><title>Log in</title>"
        error = failure_of(api.authenticate)
        assert (type(error), error.code) == (ApiUnavailableError, "api_protocol")
        assert "web page" in error.message
        assert "api.base_url" in error.message


class TestConfiguredRequests:
    def test_api_headers_go_with_every_call_to_the_api(self, client: HttpClient, vendor: Vendor) -> None:
        api = make_api(client, vendor.server.url, headers={"x-api-key": "{api_key}"})
        put_by(api, api.presign("audio/wav"))
        api.result("r-1")
        assert [request.headers.get("x-api-key") for request in vendor.server.requests] == [
            API_KEY,
            API_KEY,
            None,  # storage
            API_KEY,
        ]

    def test_presign_fields_go_along(self, client: HttpClient, vendor: Vendor) -> None:
        fields = {"language": "es-ES", "options": {"app": "{app_id}"}}
        make_api(client, vendor.server.url, presign_fields=fields).presign("audio/wav")
        assert json.loads(vendor.asked(PRESIGN)[0].body) == {
            "mimeType": "audio/wav",
            "language": "es-ES",
            "options": {"app": "clinic"},
        }

    def test_a_profiles_fields_go_before_those_of_all(self, client: HttpClient, vendor: Vendor) -> None:
        api = make_api(client, vendor.server.url, presign_fields={"language": "es-ES", "speakers": 2})
        api.presign("audio/wav", fields={"language": "ca-ES", "app": "{app_id}"})
        assert json.loads(vendor.asked(PRESIGN)[0].body) == {
            "mimeType": "audio/wav",
            "language": "ca-ES",
            "speakers": 2,
            "app": "clinic",
        }

    def test_upload_headers_and_the_replys_go_with_the_put(self, client: HttpClient, vendor: Vendor) -> None:
        reply = {
            "signedUrl": f"{vendor.server.url}{STORAGE}",
            "id": 7,
            "signedHeaders": {"x-amz-acl": ["private"], "X-Own": "reply", "Content-Type": "text/html"},
        }
        vendor.answers[PRESIGN] = 200, {"data": reply}
        api = make_api(client, vendor.server.url, upload_headers={"x-own": "key", "x-kms": "{app_id}"})
        presigned = api.presign("audio/wav")
        assert presigned.request_id == "7"
        put_by(api, presigned)
        sent = vendor.asked(STORAGE)[0].headers
        found = {name: sent[name] for name in ("x-amz-acl", "x-own", "x-kms", "content-type")}
        assert found == {
            "x-amz-acl": "private",
            "x-own": "key",
            "x-kms": "clinic",
            "content-type": "audio/wav",
        }

    def test_a_request_id_in_the_path_is_quoted(self, client: HttpClient, vendor: Vendor) -> None:
        path = "/jobs/a%2Fb%20%3F%C3%BC%25/result"
        vendor.answers[path] = 200, {"processingStatus": "PENDING"}
        api = make_api(client, vendor.server.url, status_path="/jobs/{request_id}/result")
        assert api.result("a/b ?ü%").status is ReplyStatus.PENDING
        (asked,) = vendor.asked(path)
        assert asked.line == f"GET {path} HTTP/1.1"
        assert asked.body == b""
        assert "content-type" not in asked.headers
        assert asked.headers["authorization"] == "Bearer token-1"

    def test_every_call_is_reported(self, client: HttpClient, vendor: Vendor) -> None:
        calls: list[ApiCall] = []
        vendor.answers[STATUS] = 503, {}
        api = make_api(client, vendor.server.url, on_call=calls.append)
        put_by(api, api.presign("audio/wav"))
        failure_of(lambda: api.result("r-1"))
        shown = [(call.request.name, call.reply and call.reply.status) for call in calls]
        assert shown == [("token", 200), ("presign", 200), ("upload", 200), ("result", 503)]
        for secret in (API_KEY, BASE64, "token-1", "Signature"):
            assert secret not in repr(calls)


class TestStatuses:
    @pytest.mark.parametrize("status", [409, 425])
    def test_not_yet_is_pending(self, api: InvoxApi, vendor: Vendor, status: int) -> None:
        vendor.answers[STATUS] = status, {"message": "Not yet"}
        assert api.result("r-1").status is ReplyStatus.PENDING

    @pytest.mark.parametrize("path", [PRESIGN, STATUS, TOKEN])
    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
    def test_transient(self, api: InvoxApi, vendor: Vendor, path: str, status: int) -> None:
        vendor.answers[path] = status, {"message": "Busy"}, {"Retry-After": "7"}
        error = failure_of(lambda: api.presign("audio/wav") if path == PRESIGN else api.result("r-1"))
        assert isinstance(error, ApiUnavailableError)
        assert (error.status, error.retry_after_seconds, error.retry_can_help) == (status, 7.0, True)
        assert "Busy" in error.message

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [("86400", 300.0), ("-5", 0.0), ("nonsense", None), ("0", 0.0), (None, None), ("date", 60.0)],
    )
    def test_retry_after_is_clamped(
        self, api: InvoxApi, vendor: Vendor, header: str | None, seconds: float | None
    ) -> None:
        if header == "date":
            header = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
        vendor.answers[STATUS] = 429, {}, {"Retry-After": header} if header is not None else {}
        error = failure_of(lambda: api.result("r-1"))
        assert isinstance(error, ApiUnavailableError)
        assert error.retry_after_seconds == (pytest.approx(seconds, abs=3) if seconds is not None else None)

    def test_403_names_the_permission(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[PRESIGN] = 403, {"message": "Not allowed"}
        error = failure_of(lambda: api.presign("audio/wav"))
        assert (type(error), error.code) == (ApiRefusedError, "forbidden")
        assert "BATCH-TRANSCRIBE" in error.hint

    @pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
    def test_a_request_that_is_wrong(self, api: InvoxApi, vendor: Vendor, status: int) -> None:
        answer = {"message": "mimeType is not supported", "errorType": "badRequest"}
        good = vendor.answers[PRESIGN]
        vendor.answers[PRESIGN] = status, answer
        error = failure_of(lambda: api.presign("audio/amr"))
        assert (type(error), error.code) == (ApiRefusedError, "rejected")  # nothing shows that it ever worked
        vendor.answers[PRESIGN] = good
        api.presign("audio/amr")
        vendor.answers[PRESIGN] = status, answer
        error = failure_of(lambda: api.presign("audio/amr"))
        assert isinstance(error, ApiRejectedError)
        assert (error.status, error.retry_can_help) == (status, False)
        assert "mimeType is not supported" in error.message
        assert failure_of(lambda: api.presign("audio/wav")).code == "rejected"  # of another type

    @pytest.mark.parametrize(
        "body",
        [
            {"message": "No", "errorType": "transcriptionNotFound"},
            {},
            b"<html>404</html>",
            {"errorType": "x"},
        ],
    )
    def test_a_request_id_that_the_api_does_not_know(self, api: InvoxApi, vendor: Vendor, body: Any) -> None:
        vendor.answers[STATUS] = 404, body
        assert isinstance(failure_of(lambda: api.result("r-1")), RequestUnknownError)

    @pytest.mark.parametrize("body", [{}, b"<html>404</html>", {"errorType": "transcriptionNotFound"}, []])
    def test_404_at_presign_is_a_wrong_path(self, api: InvoxApi, vendor: Vendor, body: Any) -> None:
        vendor.answers[PRESIGN] = 404, body
        error = failure_of(lambda: api.presign("audio/wav"))
        assert (type(error), error.code) == (ApiRefusedError, "not_found")
        assert "api.presign_path" in error.hint

    @pytest.mark.parametrize("body", [b"<html>login</html>", b'{"requestId": "r', b"", [], {}, b"5"])
    def test_a_200_without_an_address(self, api: InvoxApi, vendor: Vendor, body: Any) -> None:
        vendor.answers[PRESIGN] = 200, body
        error = failure_of(lambda: api.presign("audio/wav"))
        assert (type(error), error.code) == (ApiUnavailableError, "api_protocol")

    @pytest.mark.parametrize("body", [b"<html>login</html>", b'{"requestId": "r', b'"done"', b"5"])
    def test_a_200_without_json_is_no_result(self, api: InvoxApi, vendor: Vendor, body: bytes) -> None:
        vendor.answers[STATUS] = 200, body
        error = failure_of(lambda: api.result("r-1"))
        assert (type(error), error.code) == (ApiUnavailableError, "api_protocol")

    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (200, b""),
            (200, b" \n"),
            (200, {}),
            (200, []),
            (200, {"requestId": "r-1"}),
            (202, b""),
            (202, b"Accepted"),
            (202, b'"PENDING"'),
            (202, {"message": "not ready yet"}),
            (204, b""),
        ],
    )
    def test_no_state_and_no_words_is_pending(
        self, api: InvoxApi, vendor: Vendor, status: int, body: Any
    ) -> None:
        vendor.answers[STATUS] = status, body
        assert api.result("r-1").status is ReplyStatus.PENDING

    def test_words_with_a_202_are_words(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[STATUS] = 202, {"transcription": [{"text": "Hello."}]}
        assert api.result("r-1").status is ReplyStatus.COMPLETED


class TestPresignedUrl:
    @pytest.mark.parametrize(
        "change",
        [
            {"presignedUrl": None},
            {"presignedUrl": 5},
            {"presignedUrl": ""},
            {"presignedUrl": "ftp://storage.example/x"},
            {"presignedUrl": "file:///etc/passwd"},
            {"presignedUrl": "/relative"},
            {"presignedUrl": "https:///nohost"},
            {"presignedUrl": "https://[broken"},
            {"presignedUrl": "https://host:port/"},
            {"presignedUrl": "https://user:pass@storage.example/"},
            {"presignedUrl": "https://storage.example/a b"},
            {"presignedUrl": "https://storage.example/\r\nX: y"},
            {"requestId": None},
            {"requestId": ""},
            {"requestId": "a\x1bb"},
        ],
    )
    def test_is_checked(self, api: InvoxApi, vendor: Vendor, change: dict[str, Any]) -> None:
        good = {"presignedUrl": "https://storage.example/x?sig=1", "requestId": "r-1"}
        vendor.answers[PRESIGN] = 200, good
        assert api.presign("audio/wav").url == good["presignedUrl"]
        vendor.answers[PRESIGN] = 200, good | change
        error = failure_of(lambda: api.presign("audio/wav"))
        assert (type(error), error.code) == (ApiUnavailableError, "api_protocol")
        assert next(iter(change)) in error.message

    @pytest.mark.parametrize(
        ("url", "taken"),
        [
            ("https://storage.example/x", True),
            ("http://127.0.0.1:9000/x", True),
            ("http://localhost:9000/x", True),
            ("http://[::1]:9000/x", True),
            ("http://storage.example/x", False),
            ("HTTP://storage.example/x", False),
            ("http://127.0.0.1.evil.example/x", False),
        ],
    )
    def test_encryption_is_not_given_up(
        self, vendor: Vendor, url: str, taken: bool, certificate: tuple[Path, ssl.SSLContext]
    ) -> None:
        pem, context = certificate
        vendor.answers[PRESIGN] = 200, {"presignedUrl": url, "requestId": "r-1"}
        trusting = HttpClient(ca_bundle=str(pem))
        with serve(vendor.converse, tls=context) as server:
            api = make_api(trusting, server.url)
            if taken:
                assert api.presign("audio/wav").url == url
            else:
                error = failure_of(lambda: api.presign("audio/wav"))
                assert (error.code, "unencrypted" in error.message) == ("api_protocol", True)
        trusting.close()

    def test_is_hidden_from_repr(self) -> None:
        assert repr(PresignedUpload("https://s/x?sig=secret", "r-1")) == "PresignedUpload(request_id='r-1')"


def xml(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>s3cr3t</Message></Error>".encode()


class TestUpload:
    @pytest.mark.parametrize("status", [200, 201, 204])
    def test_succeeds(self, api: InvoxApi, vendor: Vendor, status: int) -> None:
        vendor.answers[STORAGE] = status, b""
        progress: list[int] = []
        put(api, vendor, b"RIFF" * 100, on_progress=progress.append)
        assert progress == [400]

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (403, "AccessDenied", UploadUrlRefusedError),
            (403, "", UploadUrlRefusedError),
            (401, "", UploadUrlRefusedError),
            (400, "ExpiredToken", UploadUrlRefusedError),
            (400, "RequestExpired", UploadUrlRefusedError),
            (400, "RequestTimeout", ApiUnavailableError),
            (400, "IncompleteBody", ApiUnavailableError),
            (400, "EntityTooLarge", ApiRejectedError),
            (400, "", ApiRefusedError),
            (404, "NoSuchBucket", ApiRefusedError),
            (411, "MissingContentLength", ApiRefusedError),
            (413, "", ApiRejectedError),
            (501, "NotImplemented", ApiRefusedError),
            (408, "", ApiUnavailableError),
            (429, "", ApiUnavailableError),
            (500, "InternalError", ApiUnavailableError),
            (503, "SlowDown", ApiUnavailableError),
            (502, "", UploadUncertainError),
            (504, "", UploadUncertainError),
            (500, "", UploadUncertainError),
            (503, "", UploadUncertainError),
            (501, "", UploadUncertainError),
            (101, "", UploadUncertainError),
            (504, "InternalError", ApiUnavailableError),
        ],
    )
    def test_refusals(
        self, api: InvoxApi, vendor: Vendor, status: int, code: str, kind: type[ApiError]
    ) -> None:
        vendor.answers[STORAGE] = status, xml(code) if code else b"", {"Retry-After": "9"}
        error = failure_of(lambda: put(api, vendor))
        assert type(error) is kind
        assert str(status) in error.message
        if kind is not UploadUncertainError:
            assert code in error.message
        if isinstance(error, ApiUnavailableError):
            assert error.retry_after_seconds == 9
        assert "s3cr3t" not in error.message

    def test_a_rejection_after_a_success_is_the_recordings(self, api: InvoxApi, vendor: Vendor) -> None:
        put(api, vendor)
        vendor.answers[STORAGE] = 400, b""
        assert type(failure_of(lambda: put(api, vendor))) is ApiRejectedError

    def test_a_web_page_is_of_a_filter(self, api: InvoxApi, vendor: Vendor) -> None:
        vendor.answers[STORAGE] = 403, b"<!DOCTYPE html><h1>Blocked</h1>"
        assert failure_of(lambda: put(api, vendor)).code == "web_filter"

    def test_a_stop_during_it(self, client: HttpClient, vendor: Vendor) -> None:
        api = make_api(client, vendor.server.url)
        error = failure_of(
            lambda: put(api, vendor, bytes(50_000_000), on_progress=lambda _: client.abort_all())
        )
        assert isinstance(error, StoppedError)


class TestSecrets:
    def test_quotes_are_short_printable_and_without_secrets(self, api: InvoxApi, vendor: Vendor) -> None:
        token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
        vendor.answers[TOKEN] = 200, {"token": token}
        vendor.answers[STATUS] = (
            400,
            {
                "message": f"Bad\x1b[31m token {token},\nkey={API_KEY} at"
                f" https://storage.example/x?X-Amz-Signature=abcdef " + "blah " * 100
            },
        )
        error = failure_of(lambda: api.result("r-1"))
        assert "Bad" in error.message
        assert len(error.message) < 300
        assert error.message.isprintable()
        for secret in (token, API_KEY, "Signature"):
            assert secret not in error.message

    @pytest.mark.parametrize("status", [401, 403, 500])
    def test_no_traceback_and_no_repr_shows_any(
        self, api: InvoxApi, client: HttpClient, vendor: Vendor, status: int
    ) -> None:
        credentials = base64.b64encode(f"clinic:{API_KEY}".encode()).decode()
        vendor.answers |= {STATUS: (status, {}), STORAGE: (status, b"")}
        shown = repr(api) + repr(vars(api)["_tokens"])
        for call in (lambda: api.result("r-1"), lambda: put(api, vendor)):
            error = failure_of(call)
            shown += "".join(traceback.format_exception(error)) + error.hint
        vendor.answers[TOKEN] = status, {}
        fresh = make_api(client, vendor.server.url)
        shown += "".join(traceback.format_exception(failure_of(fresh.authenticate)))
        for secret in (API_KEY, credentials, "token-1", "X-Amz-Signature=abc"):
            assert secret not in shown
