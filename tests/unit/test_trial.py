"""What `check --try` prints of requests and replies: names and types, and never a value."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invox_watcher.diagnostics.trial import Trial
from invox_watcher.errors import (
    ApiRefusedError,
    ApiUnavailableError,
    InvoxError,
    RequestUnknownError,
    StoppedError,
    UploadUncertainError,
)
from invox_watcher.invox import ApiCall, ReplyStatus, TranscriptionReply, parse_reply
from invox_watcher.invox.client import ApiRequest
from invox_watcher.invox.failures import call_failure
from invox_watcher.net import HttpReply

APP_ID, API_KEY, TOKEN, REQUEST_ID = "clinic-7", "K3y-0f-Th3-Cl1nic", "t0ken-abc", "job#4711 é"
BASE64 = base64.b64encode(f"{APP_ID}:{API_KEY}".encode()).decode()
SIGNATURE = "5f0c8a91d2"
STATUS_PATH = "/status/{request_id}"
SECRETS = (APP_ID, API_KEY, BASE64, REQUEST_ID, "smith, jane.wav")


def reply(status: int, body: Any = b"", **headers: str) -> HttpReply:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpReply(status, "api.example.com", {"Content-Type": "application/json", **headers}, sent)


def call(name: Any, answer: HttpReply | InvoxError, url: str = "", body: bytes | None = None) -> ApiCall:
    headers = {"Authorization": f"Bearer {TOKEN}" if name != "token" else f"Basic {BASE64}"}
    if name == "upload":
        headers = {"Content-Type": "audio/wav", "x-amz-meta-job": REQUEST_ID}
    method = {"upload": "PUT"}.get(name, "POST")
    url = url or f"https://api.example.com/{name}"
    request = ApiRequest(name, method, url, headers, body)  # type: ignore[arg-type]
    failed = isinstance(answer, InvoxError)
    return ApiCall(request, 0.5, None if failed else answer, answer if failed else None)  # type: ignore[arg-type]


def token(body: Any = None, status: int = 200) -> ApiCall:
    return call(
        "token", reply(status, body or {"accessToken": TOKEN, "expiresIn": 7200}), body=b"grant_type=x"
    )


def presign(body: Any = None, status: int = 200) -> ApiCall:
    url = f"https://bucket.example.com/in/{REQUEST_ID}?X-Amz-Signature={SIGNATURE}"
    answer = reply(status, body or {"presignedUrl": url, "requestId": REQUEST_ID})
    return call("presign", answer, body=b'{"mimeType": "audio/wav"}')


def upload(answer: HttpReply | InvoxError | None = None) -> ApiCall:
    url = f"https://user:{API_KEY}@bucket.example.com/in/job%234711%20%C3%A9?X-Amz-Signature={SIGNATURE}"
    return call("upload", answer or reply(200), url)


def result(body: Any, status: int = 200) -> ApiCall:
    return call("result", reply(status, body), f"https://api.example.com/status/{REQUEST_ID}")


def printed(
    calls: Sequence[ApiCall], found: TranscriptionReply | None = None, failure: InvoxError | None = None
) -> str:
    trial = Trial(calls, status_path=STATUS_PATH, secrets=SECRETS)
    return "\n".join(trial.lines(found, failure, size_bytes=8044, duration_seconds=0.5))


DONE = {
    "processingStatus": "COMPLETED",
    "transcription": [{"text": "Hypertension and gout.", "start": 0.0, "end": 1.0, "speakerId": "Doctor_1"}],
}


def test_a_trial_that_works() -> None:
    text = printed([token(), presign(), upload(), result(DONE)], parse_reply(DONE))
    assert text.splitlines() == [
        "1. asking for a token, 0.50 s",
        "   POST https://api.example.com/token",
        "   headers: Authorization; body: a form with grant_type",
        "   answered 200, application/json",
        "   headers: Content-Type; body: {accessToken: string, expiresIn: number}",
        "2. asking for an upload address, 0.50 s",
        "   POST https://api.example.com/presign",
        "   headers: Authorization; body: {mimeType: string}",
        "   answered 200, application/json",
        "   headers: Content-Type; body: {presignedUrl: string, requestId: string}",
        "3. uploading the recording, 0.50 s",
        "   PUT https://bucket.example.com/…, query: X-Amz-Signature",
        "   headers: Content-Type, x-amz-meta-job; body: the recording",
        "   answered 200, application/json",
        "   headers: Content-Type; body: none",
        "4. asking for the result, 0.50 s",
        "   POST https://api.example.com/status/{request_id}",
        "   headers: Authorization; body: none",
        "   answered 200, application/json",
        "   headers: Content-Type; body: {processingStatus: string, transcription: "
        "[1 × {text: string, start: number, end: number, speakerId: string}]}",
        "Cost: storage acknowledged one recording of 0.5 s (8,044 bytes), which is charged once.",
        "It works: a transcript with 1 segment.",
    ]


def test_equal_polls_are_counted() -> None:
    pending = {"processingStatus": "PENDING"}
    text = printed([*(result(pending) for _ in range(4)), result(DONE), result(pending), result(pending)])
    assert text.count("asking for the result") == 3
    assert "   the same 3 more times\n5. asking" in text
    assert "   the same 1 more time\nCost:" in text


LEAKS: dict[str, list[ApiCall]] = {
    "an error that echoes the token": [presign({"message": f"Bad token {TOKEN} of {APP_ID}"}, 401)],
    "an error that echoes the key": [token({"error": "invalid_client", "error_description": API_KEY}, 401)],
    "details with words": [presign({"message": "No.", "details": [{"received": "hypertension"}]}, 400)],
    "words as names": [result({"transcription": {"words": {"hypertension": 3, "gout": 1}}})],
    "words as names at the top": [result({"hypertension": "gout"})],
    "words as names in a list": [result([{"gout": [0, 1]}, {"hypertension": [1, 2]}])],
    "an id as a name": [
        presign({"urls": {REQUEST_ID: "https://x"}}),
        result({"results": {REQUEST_ID: DONE}}),
    ],
    "a token as a name": [token({TOKEN: "issued"})],
    "an APP Id as a name": [token({"accessToken": TOKEN, "clients": {APP_ID: 1}})],
    "a token as plain text": [token(TOKEN.encode())],
    "a token in a name": [token({"accessToken": TOKEN, f"grant-{TOKEN}": 1})],
    "a signature as a name": [upload(), presign({"presignedUrl": "https://x", SIGNATURE: 1})],
    "a header with an id in its name": [call("presign", reply(200, {}, **{f"x-{REQUEST_ID}": "1"}))],
    "a header with a word": [call("result", reply(200, {}, **{"x-words": "hypertension"}))],
    "a type with a name": [call("result", reply(200, b"x", **{"Content-Type": "a/b; name=smith, jane.wav"}))],
    "an error page": [result(b"<html>hypertension</html>", 500)],
    "text": [result(b"hypertension and gout", 500)],
    "a form": [token(f"{TOKEN}=1&access_token={TOKEN}".encode())],
    "a query in a path": [call("presign", reply(200, {}), f"https://api.example.com/p?key={API_KEY}")],
    "an upload that fails": [upload(UploadUncertainError(f"The upload of smith, jane.wav to {SIGNATURE}."))],
    "a message about words": [result({"message": "hypertension is too short"}, 400)],
    "names beyond measure": [result({"x" * 500: 1, "a b": 2, "": 3, "hypertension\n": 4})],
}
SECRET = (*SECRETS, TOKEN, SIGNATURE, "hypertension", "gout", "smith", "4711")


@pytest.mark.parametrize("calls", LEAKS.values(), ids=LEAKS)
def test_nothing_leaks(calls: list[ApiCall]) -> None:
    answer = calls[-1].reply
    failure = calls[-1].error
    if answer is not None and not answer.ok:
        failure = call_failure(
            answer, "Asking", "api.presign_path", secrets=(API_KEY, BASE64), max_seconds=300
        )
    for chain in (calls, [token(), presign(), *calls]):
        text = printed(chain, failure=failure)
        assert [secret for secret in SECRET if secret in text] == []
        assert "(a name that is not shown)" in text or "a name" not in text


dictated = st.sampled_from(["hypertension", "Gout", "Müller", "jane", "Metoprolol", "mg", "text", "to"])
words = st.tuples(st.sampled_from(["", " ", "_", "-"]), st.lists(dictated, min_size=1, max_size=3)).map(
    lambda parts: parts[0].join(["ache", *parts[1]])
)
trees = st.recursive(
    st.text() | st.floats(allow_nan=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=12,
)


@given(trees)
def test_no_word_of_a_result_is_a_name(tree: Any) -> None:
    shown = Trial([], status_path=STATUS_PATH).body(result({}), json.dumps(tree).encode())
    names = set(re.findall(r"(\w[\w ]*)[:=]", shown))
    assert names <= {"string", "number", "a form with"}


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"result": {"credentials": {"jwt": "x"}}}, "{result: {credentials: {jwt: string}}}"),
        ({"a": {"b": {"c": {"d": {"e": 1}}}}}, "{a: {b: {c: {d: {…}}}}}"),
        ([1, 2.5, "x", None, True, []], "[6 × number | string | null | boolean | []]"),
        ({f"field_{letter}": 1 for letter in "abc"}, "{field_a: number, field_b: number, field_c: number}"),
        ({"a b": 1, "c d": 2}, "{2 × (a name that is not shown): number}"),
        ({"x" * n: 0 for n in range(1, 43)}, None),
        (b"", "none"),
        (b"client_id=1&grant_type=x", "a form with client_id, grant_type"),
        (b"<html>", "HTML or XML, 6 bytes"),
        (b"just text", "neither JSON nor a form, 9 bytes"),
        (b"[" * 5000, "neither JSON nor a form, 5000 bytes"),
        (b"\xff\xfe", "neither JSON nor a form, 2 bytes"),
    ],
)
def test_the_shape_of_a_body(body: Any, shown: str | None) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    text = Trial([], status_path=STATUS_PATH).body(presign(), sent)
    assert text == shown if shown is not None else text.endswith(", …}")


@pytest.mark.parametrize(
    ("last", "cost"),
    [
        ([], "no recording was stored, so nothing should be charged."),
        ([reply(403)], "no recording was stored, so nothing should be charged."),
        ([ApiUnavailableError("It broke off.")], "no recording was stored, so nothing should be charged."),
        ([reply(200)], "storage acknowledged one recording of 0.5 s (8,044 bytes), which is charged once."),
        (
            [UploadUncertainError("?")],
            "storage did not confirm one recording of 0.5 s (8,044 bytes), which may",
        ),
    ],
)
def test_the_cost(last: list[HttpReply | InvoxError], cost: str) -> None:
    text = printed([token(), presign(), *map(upload, last)], failure=StoppedError("Stopped."))
    assert f"Cost: {cost}" in text


def test_surprises_name_their_key() -> None:
    odd = {"uploadUrl": "https://x/1", "jobId": "j-1", "region": "eu", "expiresAt": 5}
    text = printed([token({"token": TOKEN}), presign(odd), result({"state": "odd", "transcription": [{}]})])
    assert "api.token.lifetime_seconds" in text
    assert "Note: the reply with the upload address has further fields: region, expiresAt." in text
    assert "Note" not in printed([token({"data": {"token": TOKEN, "expires": 1}}), presign()])


def test_repairs_and_an_unknown_state_are_noted() -> None:
    found = parse_reply({"transcriptionStatus": "RIPENING", "transcription": []})
    assert "state is unknown to this release" in printed([result({})], found)
    seconds = {"processingStatus": "COMPLETED", "transcription": [{"text": "a"}, {"text": "b"}]}
    assert "Note: in the result " in printed([result({})], parse_reply(seconds))


@pytest.mark.parametrize(
    ("found", "failure", "last"),
    [
        (None, StoppedError("Stopped."), ["No transcript: stopped before the result arrived."]),
        (
            None,
            ApiRefusedError("No.", hint="Check upload.headers. `invox-watcher check --try FILE` shows it."),
            ["No transcript: No.", "  Check upload.headers."],
        ),
        (
            None,
            RequestUnknownError(f"The API has nothing under request id {REQUEST_ID}."),
            ["No transcript: The API has nothing under request id […]."],
        ),
        (
            TranscriptionReply(ReplyStatus.ERROR, None, "too little speech", {}),
            None,
            [
                "No transcript: the API reported an error for this recording. The set-up works.",
                "  Try another recording; `invox-watcher transcribe FILE` prints the API's reason.",
            ],
        ),
    ],
)
def test_the_last_lines(
    found: TranscriptionReply | None, failure: InvoxError | None, last: list[str]
) -> None:
    assert printed([token()], found, failure).splitlines()[-len(last) :] == last
