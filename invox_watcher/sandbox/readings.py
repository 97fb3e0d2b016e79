"""Every plausible reading of the vendor's unpublished API: what differs in each from the default one.

A reading changes few fields of `Reading`, so several can be combined: see `combined`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class ReplyShape:
    """The names the sandbox's replies use, where the vendor's type, example and prose disagree.

    `token_field` also decides the lifetime's name: `expiresIn`, `expires_in`, or none with a bare `token`.
    `speaker_field` `speakerId` has values like `Speaker_00`, `speaker` like `"0"`; None names no speaker.
    """

    token_field: Literal["accessToken", "access_token", "token"] = "accessToken"
    state_field: Literal["processingStatus", "transcriptionStatus", "status"] = "processingStatus"
    speaker_field: Literal["speakerId", "speaker"] | None = "speakerId"
    message_field: Literal["message", "messsage"] = "message"
    vtt: bool = True


@dataclass(frozen=True)
class Reading:
    """How the sandbox behaves where the vendor's pages leave it open. The defaults are the default reading.

    `summary` says in one line how a reading differs. Paths are below the base URL.
    """

    summary: str = ""
    shape: ReplyShape = ReplyShape()

    # The gateway in front of the API.
    stage: str = ""
    unknown_paths: Literal["404", "missing_token", "forbidden"] = "404"
    needs_api_key: bool = False
    version: Literal["any", "required", "2026-03-01"] = "any"
    permitted: bool = True
    blocked_by_filter: Literal["nothing", "api", "storage"] = "nothing"
    encoding: Literal["identity", "gzip"] = "identity"
    content_type: Literal["json", "none"] = "json"
    interim_on_calls: int | None = None

    # The access token.
    token_path: str = "/oauth/token"
    token_port: Literal["same", "own"] = "same"
    token_method: Literal["POST", "GET"] = "POST"
    token_credentials: Literal["basic", "bearer", "base64", "headers", "body"] = "basic"
    token_body: Literal["form", "json", "none"] = "form"
    token_reply: Literal["flat", "data", "odd", "text", "json_string"] = "flat"
    token_errors: Literal["vendor", "oauth"] = "vendor"
    lifetime: Literal["seconds", "text", "milliseconds", "expires_at", "epoch", "jwt", "none"] = "seconds"
    expired_token: Literal["401", "401_bare", "403"] = "401"
    one_token_at_a_time: bool = False

    # The presigned URL.
    presign_path: str = "/api/v1/generate-presigned-url"
    presign_status: Literal[200, 201] = 200
    needs_language: bool = False
    mime_types: Literal["vendor", "iana", "any", "leading_blank"] = "vendor"
    url_field: str = "presignedUrl"
    id_field: str = "requestId"
    presign_reply: Literal["flat", "data"] = "flat"
    headers_field: Literal["headers", "signedHeaders", "requiredHeaders"] | None = None
    headers_form: Literal["values", "lists", "names"] = "values"
    odd_ids: bool = False
    odd_url: bool = False

    # Storage.
    needs_unnamed_header: bool = False
    upload_interim: int | None = None
    upload_answer: Literal["200", "201", "204", "bare_500", "html_502"] = "200"
    upload_kept: bool = True
    url_works_once: bool = False

    # The status call.
    status_path: str = "/api/v1/get-transcription"
    status_id: Literal["body", "path", "query"] = "body"
    status_reply: Literal["flat", "data"] = "flat"
    not_found_has_type: bool = True
    error_details: bool = False
    before_upload: Literal["unknown", "pending"] = "unknown"
    while_working: Literal["state", "empty_object", "no_state", "null", "202", "204", "404", "409", "425"] = (
        "state"
    )
    callback_jobs: Literal["answers", "unknown", "400", "pending"] = "answers"

    # The result, by polling and by webhook.
    pending_state: str = "PENDING"
    completed_state: str = "COMPLETED"
    failed_state: str = "ERROR"
    always_fails: bool = False
    reason_field: str = "errorMessage"
    words: Literal["segments", "vtt", "vtt_and_empty", "string", "untimed", "text_field", "none"] = "segments"
    vtt_style: Literal["plain", "voices", "rich"] = "plain"
    times: Literal["seconds", "milliseconds", "text", "suffix", "clock", "none"] = "seconds"
    speaker_name: bool = False
    speaker_is_number: bool = False

    # The webhook.
    webhook_status: bool = True
    webhook_signatures: Literal["aes", "request", "both", "none"] = "aes"
    aes_layout: Literal["raw", "salted"] = "raw"
    webhook_test: Literal["none", "ignored", "required"] = "none"
    created_at: Literal["seconds", "milliseconds", "iso"] = "seconds"
    webhook_content_type: str = "application/json"
    webhook_chunked: bool = False


def combined(parts: Iterable[Reading]) -> Reading:
    """One reading with all that these change. Raises ValueError if two of them contradict each other."""
    changes: dict[str, Any] = {}
    shape: dict[str, Any] = {}
    for part in parts:
        _merge(changes, part, Reading(), leave_out=("summary", "shape"))
        _merge(shape, part.shape, ReplyShape())
    return Reading(shape=ReplyShape(**shape), **changes)


def named(names: Iterable[str]) -> Reading:
    """The readings of these names, combined. Raises ValueError for a name there is not, and as `combined`."""
    chosen = list(names)
    for name in chosen:
        if name not in READINGS:
            raise ValueError(f"there is no reading {name!r}; --list-readings prints them")
    return combined(READINGS[name] for name in chosen)


def _merge(changes: dict[str, Any], part: Any, default: Any, leave_out: tuple[str, ...] = ()) -> None:
    for field in fields(part):
        value = getattr(part, field.name)
        if field.name in leave_out or value == getattr(default, field.name):
            continue
        if changes.setdefault(field.name, value) != value:
            raise ValueError(
                f"these readings contradict each other: {field.name} is {changes[field.name]!r} and {value!r}"
            )


_V1_PRESIGN = "/v1/generate-presigned-url"
_V1_STATUS = "/v1/get-transcription"

READINGS: Mapping[str, Reading] = {
    # The gateway in front of the API.
    "stage": Reading("every path of the API begins with /uat", stage="/uat"),
    "gateway": Reading(
        "unknown paths and methods answer 403 Missing Authentication Token", unknown_paths="missing_token"
    ),
    "gateway-forbidden": Reading("unknown paths and methods answer 403 Forbidden", unknown_paths="forbidden"),
    "paths-v1": Reading(
        "/v1/... without /api; unknown paths answer 403 Missing Authentication Token",
        presign_path=_V1_PRESIGN,
        status_path=_V1_STATUS,
        unknown_paths="missing_token",
    ),
    "paths-v1-forbidden": Reading(
        "/v1/... without /api; unknown paths answer 403 Forbidden",
        presign_path=_V1_PRESIGN,
        status_path=_V1_STATUS,
        unknown_paths="forbidden",
    ),
    "api-key-header": Reading(
        "every call of the API needs x-api-key: the API Key; else 403 Forbidden", needs_api_key=True
    ),
    "version-2026": Reading("presign answers 400 unless the version is 2026-03-01", version="2026-03-01"),
    "version-required": Reading("presign and status answer 400 without a known version", version="required"),
    "no-permission": Reading("presign answers 403: no permission BATCH-TRANSCRIBE", permitted=False),
    "web-filter": Reading(
        "a web filter answers every call of the API with its 403 page in HTML", blocked_by_filter="api"
    ),
    "web-filter-storage": Reading(
        "a web filter answers every upload with its 403 page in HTML", blocked_by_filter="storage"
    ),
    "gzip": Reading("replies of the API are compressed, requested or not", encoding="gzip"),
    "no-content-type": Reading("replies of the API have no Content-Type", content_type="none"),
    "early-hints": Reading("103 Early Hints comes before every answer of the API", interim_on_calls=103),
    # The access token: the request.
    "token-path": Reading(
        "the token is at /auth/v2/access-token; unknown paths answer as with gateway",
        token_path="/auth/v2/access-token",
        unknown_paths="missing_token",
    ),
    "token-port": Reading("the token is at the next port of the same host, only there", token_port="own"),
    "token-get": Reading("the token is read by GET", token_method="GET", token_body="none"),
    "token-json": Reading(
        "the credentials go as JSON, appId and apiKey; Authorization is refused",
        token_credentials="body",
        token_body="json",
    ),
    "token-json-grant": Reading(
        "grant_type goes as JSON; a form is answered 415",
        token_body="json",
    ),
    "token-form-credentials": Reading(
        "the credentials go as form, client_id and client_secret; Authorization is refused",
        token_credentials="body",
    ),
    "token-bearer": Reading("the base64 is itself a Bearer token", token_credentials="bearer"),
    "token-base64": Reading("Authorization holds the base64 alone", token_credentials="base64"),
    "token-headers": Reading("the credentials go as x-app-id and x-api-key", token_credentials="headers"),
    "token-no-body": Reading("the token request must have no body", token_body="none"),
    # The access token: the reply.
    "token-access_token": Reading(
        "the reply is access_token, expires_in", shape=ReplyShape(token_field="access_token")
    ),
    "token-token": Reading("the reply is token, without a lifetime", shape=ReplyShape(token_field="token")),
    "token-data": Reading(
        "the reply is {data: {access_token, expires_in}}",
        token_reply="data",
        shape=ReplyShape(token_field="access_token"),
    ),
    "token-odd": Reading("the reply is {result: {credentials: {jwt}}}", token_reply="odd"),
    "token-text": Reading("the reply is the token as plain text", token_reply="text"),
    "token-json-string": Reading("the reply is the token as a JSON string", token_reply="json_string"),
    "lifetime-text": Reading("the lifetime is a string of seconds", lifetime="text"),
    "lifetime-milliseconds": Reading("the lifetime is in milliseconds", lifetime="milliseconds"),
    "lifetime-expires-at": Reading("the reply has expiresAt, as in RFC 3339", lifetime="expires_at"),
    "lifetime-epoch": Reading("the reply has expiresAt, in Unix seconds", lifetime="epoch"),
    "lifetime-jwt": Reading("the token is a JWT, and only its exp gives the lifetime", lifetime="jwt"),
    "lifetime-none": Reading("the reply has no lifetime", lifetime="none"),
    "oauth-errors": Reading("errors of the token are error, error_description", token_errors="oauth"),
    "expired-token-403": Reading("an expired token is answered 403", expired_token="403"),
    "expired-token-bare": Reading(
        "an expired token is answered 401 without a body", expired_token="401_bare"
    ),
    "one-token": Reading("a new token ends the one before", one_token_at_a_time=True),
    # The presigned URL.
    "presign-language": Reading("presign needs the field language", needs_language=True),
    "presign-201": Reading("presign answers 201", presign_status=201),
    "presign-signedUrl": Reading("presign calls the URL signedUrl", url_field="signedUrl"),
    "presign-uploadUrl": Reading("presign calls the URL uploadUrl", url_field="uploadUrl"),
    "presign-url": Reading("presign calls the URL url", url_field="url"),
    "presign-id": Reading("presign calls the request id id", id_field="id"),
    "presign-jobId": Reading("presign calls the request id jobId", id_field="jobId"),
    "presign-data": Reading("presign's reply lies one level down, in data", presign_reply="data"),
    "presign-headers": Reading("presign names a header for the PUT in headers", headers_field="headers"),
    "presign-signedHeaders": Reading(
        "presign names all headers of the PUT in signedHeaders, as lists of values",
        headers_field="signedHeaders",
        headers_form="lists",
    ),
    "presign-requiredHeaders": Reading(
        "presign names a header for the PUT in requiredHeaders", headers_field="requiredHeaders"
    ),
    "presign-header-names": Reading(
        "presign's signedHeaders is a string of names; no header is needed",
        headers_field="signedHeaders",
        headers_form="names",
    ),
    "odd-ids": Reading("request ids hold characters that a URL has to escape", odd_ids=True),
    "odd-url": Reading(
        "the presigned URL has %2b and dot segments, to come back byte for byte", odd_url=True
    ),
    "mime-iana": Reading("only IANA's types are accepted: audio/mpeg, audio/mp4, ...", mime_types="iana"),
    "mime-any": Reading("any type is accepted, and the PUT must have the same", mime_types="any"),
    "mime-leading-blank": Reading(
        "MP3 is ' audio/mpeg' at presign, as in the vendor's example", mime_types="leading_blank"
    ),
    # Storage.
    "upload-header": Reading("storage needs a header that no reply names", needs_unnamed_header=True),
    "upload-102": Reading("102 Processing comes before the answer to the PUT", upload_interim=102),
    "upload-103": Reading("103 Early Hints comes before the answer to the PUT", upload_interim=103),
    "upload-201": Reading("storage answers 201", upload_answer="201"),
    "upload-204": Reading("storage answers 204", upload_answer="204"),
    "upload-500-taken": Reading(
        "storage takes the upload, and answers 500 without a body", upload_answer="bare_500"
    ),
    "upload-502-taken": Reading(
        "storage takes the upload, and a proxy answers 502", upload_answer="html_502"
    ),
    "upload-500-lost": Reading(
        "storage reads the upload, loses it, and answers 500 without a body",
        upload_answer="bare_500",
        upload_kept=False,
    ),
    "upload-once": Reading("a second PUT to the same URL is answered 412", url_works_once=True),
    # The status call.
    "status-get": Reading("the result is read by GET, the request id in the path", status_id="path"),
    "status-get-query": Reading("the result is read by GET, the request id in the query", status_id="query"),
    "status-data": Reading("the result lies one level down, in data", status_reply="data"),
    "status-transcriptionStatus": Reading(
        "the state is called transcriptionStatus", shape=ReplyShape(state_field="transcriptionStatus")
    ),
    "status-status": Reading("the state is called status", shape=ReplyShape(state_field="status")),
    "not-found-untyped": Reading("404 for an unknown id has no errorType", not_found_has_type=False),
    "messsage": Reading("errors are called messsage", shape=ReplyShape(message_field="messsage")),
    "error-details": Reading("errors have details, which hold words of the request", error_details=True),
    "before-upload-pending": Reading("an id without an upload is pending", before_upload="pending"),
    "pending-empty": Reading("while pending, the answer is {}", while_working="empty_object"),
    "pending-no-state": Reading("while pending, there is a list, but no state", while_working="no_state"),
    "pending-null": Reading("while pending, state and list are null", while_working="null"),
    "pending-202": Reading("while pending, the answer is 202", while_working="202"),
    "pending-204": Reading("while pending, the answer is 204", while_working="204"),
    "pending-404": Reading("while pending, the answer is 404 transcriptionNotFound", while_working="404"),
    "pending-404-untyped": Reading(
        "while pending, the answer is 404 without errorType", while_working="404", not_found_has_type=False
    ),
    "pending-409": Reading("while pending, the answer is 409", while_working="409"),
    "pending-425": Reading("while pending, the answer is 425", while_working="425"),
    "pending-lower-case": Reading("while pending, the state is in_progress", pending_state="in_progress"),
    "callback-400": Reading("polling answers 400 for jobs with a callback", callback_jobs="400"),
    "callback-404": Reading("polling answers 404 for jobs with a callback", callback_jobs="unknown"),
    "callback-pending": Reading("polling stays PENDING for jobs with a callback", callback_jobs="pending"),
    # The result.
    "state-failed": Reading("states are COMPLETED, FAILED", failed_state="FAILED"),
    "state-success": Reading("states are SUCCESS, FAILED", completed_state="SUCCESS", failed_state="FAILED"),
    "state-done": Reading("states are DONE, FAILURE", completed_state="DONE", failed_state="FAILURE"),
    "state-lower-case": Reading(
        "states are completed, failed", completed_state="completed", failed_state="failed"
    ),
    "state-complete": Reading(
        "states are Complete, Rejected", completed_state="Complete", failed_state="Rejected"
    ),
    "state-succeeded": Reading(
        "states are SUCCEEDED, ABORTED", completed_state="SUCCEEDED", failed_state="ABORTED"
    ),
    "state-finished": Reading(
        "states are finished, cancelled", completed_state="finished", failed_state="cancelled"
    ),
    "state-expired": Reading("states are COMPLETED, EXPIRED", failed_state="EXPIRED"),
    "always-fails": Reading("no recording can be transcribed", always_fails=True),
    "reason-message": Reading("the reason of a failure is called message", reason_field="message"),
    "words-no-vtt": Reading("there is no vttTranscription", shape=ReplyShape(vtt=False)),
    "words-vtt": Reading(
        "the words come only as vttTranscription, speakers as <v Doctor>", words="vtt", vtt_style="voices"
    ),
    "words-vtt-beside-empty": Reading(
        "the words come as vttTranscription, beside an empty list", words="vtt_and_empty", vtt_style="voices"
    ),
    "words-vtt-rich": Reading(
        "the words come only as VTT with BOM, CRLF, a note, cue ids, settings, short times",
        words="vtt",
        vtt_style="rich",
    ),
    "words-string": Reading("transcription is one string", words="string"),
    "words-untimed": Reading("transcription is one segment without times", words="untimed"),
    "words-text": Reading("the words are one string, called text", words="text_field"),
    "words-none": Reading("nothing is spoken: the list is empty", words="none"),
    "speaker": Reading("the speaker is called speaker, '0'", shape=ReplyShape(speaker_field="speaker")),
    "speaker-none": Reading("no speaker is named", shape=ReplyShape(speaker_field=None)),
    "speaker-name": Reading("speakerName, Doctor, is beside speakerId", speaker_name=True),
    "speaker-number": Reading("speakerId is a number", speaker_is_number=True),
    "times-milliseconds": Reading("times are in milliseconds", times="milliseconds"),
    "times-text": Reading("times are strings such as '1.5'", times="text"),
    "times-suffix": Reading("times are strings such as '1.5s'", times="suffix"),
    "times-clock": Reading("times are strings such as '00:00:01.500'", times="clock"),
    "times-none": Reading("segments have no times", times="none"),
    # The webhook.
    "webhook-no-status": Reading("the webhook has no status", webhook_status=False),
    "webhook-requestSignature": Reading(
        "the webhook has requestSignature instead of signature", webhook_signatures="request"
    ),
    "webhook-both-signatures": Reading(
        "the webhook has signature and requestSignature", webhook_signatures="both"
    ),
    "webhook-unsigned": Reading("the webhook has no signature", webhook_signatures="none"),
    "webhook-salted": Reading("the signature has the layout of the TypeScript example", aes_layout="salted"),
    "webhook-test": Reading(
        "before the first webhook comes an unsigned POST that tests the address", webhook_test="ignored"
    ),
    "webhook-test-required": Reading(
        "the same, and no webhook follows unless it is answered 2xx", webhook_test="required"
    ),
    "webhook-milliseconds": Reading("createdAt is in milliseconds", created_at="milliseconds"),
    "webhook-iso": Reading("createdAt is a time as in RFC 3339", created_at="iso"),
    "webhook-text": Reading(
        "the webhook's Content-Type is text/plain", webhook_content_type="text/plain;charset=UTF-8"
    ),
    "webhook-chunked": Reading("the webhook is sent in chunks, without its length", webhook_chunked=True),
}
