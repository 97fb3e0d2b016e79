"""The status call, and how a result looks by polling and by webhook."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from tests.acceptance.readings.client import (
    NOT_FOUND,
    STATUS,
    Check,
    Client,
    check,
)
from tests.kit import loopback
from tests.kit.waiting import wait_for

# --- the status call ---


@check("status-get")
def _(client: Client) -> None:
    request_id = client.upload()
    assert client.status(request_id).status == 404
    answer = client.call("GET", f"{STATUS}/{quote(request_id, safe='')}", headers=client.bearer())
    assert (answer.status, "transcription" in answer.json()) == (200, True)
    assert client.call("POST", f"{STATUS}/{request_id}", headers=client.bearer()).status == 405
    assert client.call("GET", f"{STATUS}/made-up", headers=client.bearer()).json()["errorType"]
    assert client.call("GET", f"{STATUS}/{request_id}").status == 401


@check("status-get-query")
def _(client: Client) -> None:
    request_id = client.upload()
    assert client.status(request_id).status == 405
    assert client.call("GET", f"{STATUS}?requestId={request_id}", headers=client.bearer()).status == 200
    assert client.call("GET", STATUS, headers=client.bearer()).status == 400


@check("status-data")
def _(client: Client) -> None:
    body = client.result()
    assert set(body) == {"data"}
    assert (body["data"]["processingStatus"], len(body["data"]["transcription"])) == ("COMPLETED", 3)


@check("status-transcriptionStatus")
def _(client: Client) -> None:
    body = client.result()
    assert (body["transcriptionStatus"], "processingStatus" in body) == ("COMPLETED", False)


@check("status-status")
def _(client: Client) -> None:
    body = client.result()
    assert (body["status"], "processingStatus" in body) == ("COMPLETED", False)


@check("not-found-untyped")
def _(client: Client) -> None:
    assert client.status("made-up").outcome() == (404, {"message": "Transcription not found."})


@check("messsage")
def _(client: Client) -> None:
    assert client.status("made-up").json()["messsage"] == "Transcription not found."


@check("error-details")
def _(client: Client) -> None:
    assert "Jane Roe" in json.dumps(client.presign("audio/aac").json()["details"])


@check("before-upload-pending")
def _(client: Client) -> None:
    request_id = client.presign().json()["requestId"]
    assert client.status(request_id).outcome() == (200, {"transcription": [], "processingStatus": "PENDING"})


def works_with(status: int, body: Any) -> Check:
    def holds(client: Client) -> None:
        answer = client.status(client.upload())
        assert (answer.status, answer.json() if answer.body else b"") == (status, body)

    return holds


_NOT_READY = {"message": "The transcription is not ready yet."}
WORKING: dict[str, tuple[int, Any]] = {
    "pending-empty": (200, {}),
    "pending-no-state": (200, {"transcription": []}),
    "pending-null": (200, {"transcription": None, "processingStatus": None}),
    "pending-202": (202, b""),
    "pending-204": (204, b""),
    "pending-404": (404, NOT_FOUND | {"errorType": "transcriptionNotFound"}),
    "pending-404-untyped": (404, NOT_FOUND),
    "pending-409": (409, _NOT_READY),
    "pending-425": (425, _NOT_READY),
    "pending-lower-case": (200, {"transcription": [], "processingStatus": "in_progress"}),
}
for _name, _said in WORKING.items():
    check(_name, result_delay_seconds=60)(works_with(*_said))


def callback_jobs_are(status: int, body: Any) -> Check:
    """By polling; the webhook comes all the same, and jobs without a callback are answered."""

    def holds(client: Client) -> None:
        with loopback.serve(loopback.one_reply()) as receiver:
            request_id = client.upload(callbackUrl=f"{receiver.url}/hook")
            wait_for("the webhook", lambda: bool(client.request(request_id)["webhooks"]))
        assert client.status(request_id).outcome() == (status, body)
        assert json.loads(receiver.requests[0].body)["status"] == "COMPLETED"
        assert client.result()["processingStatus"] == "COMPLETED"

    return holds


check("callback-400")(
    callback_jobs_are(400, {"message": "The result of this request is sent to its callbackUrl."})
)
check("callback-404")(callback_jobs_are(404, NOT_FOUND | {"errorType": "transcriptionNotFound"}))
check("callback-pending")(callback_jobs_are(200, {"transcription": [], "processingStatus": "PENDING"}))


# --- the result ---


def states_are(completed: str, failed: str) -> Check:
    """By polling and by webhook; a failure is asked for as a fault."""

    def holds(client: Client) -> None:
        assert (client.result()["processingStatus"], client.webhook()["status"]) == (completed, completed)
        for operation in ("status", "webhook"):
            client.api.fault({"on": operation, "do": "error_result", "message": "Too noisy."})
        polled, sent = client.result(), client.webhook()
        assert (polled["processingStatus"], sent["status"]) == (failed, failed)
        assert (polled["errorMessage"], sent["errorMessage"]) == ("Too noisy.", "Too noisy.")

    return holds


check("state-failed")(states_are("COMPLETED", "FAILED"))
check("state-success")(states_are("SUCCESS", "FAILED"))
check("state-done")(states_are("DONE", "FAILURE"))
check("state-lower-case")(states_are("completed", "failed"))
check("state-complete")(states_are("Complete", "Rejected"))
check("state-succeeded")(states_are("SUCCEEDED", "ABORTED"))
check("state-finished")(states_are("finished", "cancelled"))
check("state-expired")(states_are("COMPLETED", "EXPIRED"))

_REASON = "The audio has too little speech to be transcribed."


@check("always-fails")
def _(client: Client) -> None:
    failed = {"transcription": [], "processingStatus": "ERROR", "errorMessage": _REASON}
    assert client.result() == failed
    sent = client.webhook()
    assert (sent["status"], sent["errorMessage"], sent["transcription"]) == ("ERROR", _REASON, [])


@check("reason-message")
def _(client: Client) -> None:
    client.api.fault({"on": "status", "do": "error_result", "message": "Too noisy."})
    assert client.result()["message"] == "Too noisy."


@check("words-no-vtt")
def _(client: Client) -> None:
    assert set(client.result()) == {"transcription", "processingStatus"}


def spoken(client: Client) -> str:
    """The words of every recording here, as one text."""
    mark = "2d711642b726"  # the first digits of the SHA-256 of "x"
    return (
        f"This is recording {mark}. Is that what was dictated? "
        f"No, only the first digits of its checksum: {mark}."
    )


@check("words-vtt")
def _(client: Client) -> None:
    for body in (client.result(), client.webhook()):
        assert "transcription" not in body
        first = "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n<v Doctor>This is recording 2d711642b726.\n"
        assert body["vttTranscription"].startswith(first)
        assert "<v Patient>Is that what" in body["vttTranscription"]


@check("words-vtt-beside-empty")
def _(client: Client) -> None:
    for body in (client.result(), client.webhook()):
        assert body["transcription"] == []
        assert "<v Doctor>This is recording" in body["vttTranscription"]


@check("words-vtt-rich")
def _(client: Client) -> None:
    for body in (client.result(), client.webhook()):
        assert "transcription" not in body
        vtt = body["vttTranscription"]
        assert vtt.startswith("\ufeffWEBVTT - made by the sandbox\r\n\r\nNOTE\r\n")
        cue = "cue-2\r\n00:01.500 --> 00:03.250 align:start line:0\r\n<v Patient><i>Is</i>\r\n"
        assert f"{cue}that what was dictated?</v>\r\n\r\n" in vtt + "\r\n"


@check("words-string")
def _(client: Client) -> None:
    for body in (client.result(), client.webhook()):
        assert body["transcription"] == spoken(client)


@check("words-untimed")
def _(client: Client) -> None:
    for body in (client.result(), client.webhook()):
        assert body["transcription"] == [{"text": spoken(client)}]


@check("words-text")
def _(client: Client) -> None:
    for body in (client.result(), client.webhook()):
        assert (body["text"], "transcription" in body) == (spoken(client), False)


@check("words-none")
def _(client: Client) -> None:
    assert client.result() == {"transcription": [], "processingStatus": "COMPLETED"}
    sent = client.webhook()
    assert (sent["transcription"], sent["status"]) == ([], "COMPLETED")


def segments_have(**values: list[Any]) -> Check:
    """Each segment has these fields and its text, by polling and by webhook."""

    def holds(client: Client) -> None:
        for body in (client.result(), client.webhook()):
            for index, segment in enumerate(body["transcription"]):
                expected = {name: value[index] for name, value in values.items()}
                assert {name: segment[name] for name in segment if name != "text"} == expected

    return holds


_START, _END = [0, 1.5, 3.5], [1.5, 3.25, 5]
_SPEAKER_ID = ["Speaker_00", "Speaker_01", "Speaker_00"]
check("speaker")(segments_have(start=_START, end=[1.5, 3.25, 5.0], speaker=["0", "1", "0"]))
check("speaker-none")(segments_have(start=_START, end=_END))
check("speaker-name")(
    segments_have(start=_START, end=_END, speakerId=_SPEAKER_ID, speakerName=["Doctor", "Patient", "Doctor"])
)
check("speaker-number")(segments_have(start=_START, end=_END, speakerId=[0, 1, 0]))
check("times-milliseconds")(
    segments_have(start=[0, 1500, 3500], end=[1500, 3250, 5000], speakerId=_SPEAKER_ID)
)
check("times-text")(
    segments_have(start=["0.0", "1.5", "3.5"], end=["1.5", "3.25", "5.0"], speakerId=_SPEAKER_ID)
)
check("times-suffix")(
    segments_have(start=["0.0s", "1.5s", "3.5s"], end=["1.5s", "3.25s", "5.0s"], speakerId=_SPEAKER_ID)
)
check("times-clock")(
    segments_have(
        start=["00:00:00.000", "00:00:01.500", "00:00:03.500"],
        end=["00:00:01.500", "00:00:03.250", "00:00:05.000"],
        speakerId=_SPEAKER_ID,
    )
)
check("times-none")(segments_have(speakerId=_SPEAKER_ID))
