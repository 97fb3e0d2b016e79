"""What must come of each reading of the vendor's API: which keys it needs, and what becomes of a recording.

`{api_url}` and `{token_url}` in a key stand for what the vendor would tell with the credentials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Keys = Mapping[str, Mapping[str, Any]]
SPEAKERS = ("Speaker_00", "Speaker_01", "Speaker_00")
NAMES = ("Doctor", "Patient", "Doctor")
NOBODY = (None, None, None)


@dataclass(frozen=True)
class Case:
    """One run of the daemon against a sandbox.

    `keys`: the configuration that the reading needs, by section; `names` is the key that log and exit must
    name without them. `webhooks` decide that results are sent. `ends`: every recording is done, failed with
    `code`, or held back by a fault with `code`, which no recording fails of.
    """

    keys: Keys = field(default_factory=dict)
    names: str = ""
    webhooks: bool = False
    ends: Literal["done", "failed", "held"] = "done"
    code: str = ""
    says: str = ""  # what the reason, or the log, quotes of the API
    hides: str = ""  # what it must not
    speakers: Sequence[str | None] = SPEAKERS
    times: Literal["seconds", "estimated"] = "seconds"
    words: Literal["segments", "text", "none"] = "segments"
    delivered_by: str = ""  # "" for either way
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the sandbox
    polls: int = 0  # the least number of status calls for two recordings
    most_polls: int = 1000
    uploads_each: int = 1  # PUTs per recording
    lifetime_seconds: float | None = None  # how long the token must be taken to live
    paid_before_key: bool = False  # whether an upload goes through before the missing key shows
    recording: Literal["wav", "mp3"] = "wav"


def _token(names: str, **keys: Any) -> Case:
    return Case(keys={"api": {"token": keys}}, names=f"api.token {names}")


def _lifetime(seconds: float) -> Case:
    return Case(settings={"token_lifetime_seconds": 3600}, lifetime_seconds=seconds)


def _pushed(**changes: Any) -> Case:
    """By the webhook alone: with these readings polling never answers."""
    return Case(webhooks=True, delivered_by="webhook", **changes)


_SLOW = {"result_delay_seconds": 0.8}  # longer than a 404 is doubted in these tests
_RARELY = {"polling": {"max_seconds": 20}}
_V1 = {"presign_path": "/v1/generate-presigned-url", "status_path": "/v1/get-transcription"}
_PENDING = Case(settings=_SLOW, polls=4)
_FAILED = Case(ends="failed", code="transcription_failed", says="too little speech")
_SHORT_TOKENS = {"token_lifetime_seconds": 1, "result_delay_seconds": 1.3}
_FORBIDDEN = Case(ends="held", code="forbidden", says="BATCH-TRANSCRIBE", hides="Jane Roe")
_NO_TIMES = Case(speakers=(None,), times="estimated", words="text")
_LOST = Case(ends="failed", code="upload_lost", uploads_each=3)
_STATUS_GET = "/api/v1/get-transcription/{request_id}"

CASES: Mapping[tuple[str, ...], Case] = {
    # The gateway in front of the API.
    ("stage",): Case(keys={"api": {"base_url": "{api_url}"}}, names="api.base_url"),
    ("gateway",): Case(),
    ("gateway-forbidden",): Case(),
    ("paths-v1",): Case(keys={"api": _V1}, names="api.presign_path"),
    ("paths-v1-forbidden",): Case(keys={"api": _V1}, names="api.presign_path"),
    ("api-key-header",): Case(keys={"api": {"headers": {"x-api-key": "{api_key}"}}}, names="api.headers"),
    ("version-2026",): Case(keys={"api": {"version": "2026-03-01"}}, names="api.version"),
    ("version-required",): Case(),
    ("no-permission",): _FORBIDDEN,
    ("web-filter",): Case(ends="held", code="web_filter"),
    ("web-filter-storage",): Case(ends="held", code="web_filter"),
    ("gzip",): Case(),
    ("no-content-type",): Case(),
    ("early-hints",): Case(),
    # The access token: the request.
    ("token-path",): _token("url", url="/auth/v2/access-token"),
    ("token-port",): _token("url", url="{token_url}"),
    ("token-get",): _token("method", method="GET", form=None),
    ("token-json",): _token("json", headers={}, form=None, json={"appId": "{app_id}", "apiKey": "{api_key}"}),
    ("token-json-grant",): _token("json", form=None, json={"grant_type": "client_credentials"}),
    ("token-form-credentials",): _token(
        "form", headers={}, form={"client_id": "{app_id}", "client_secret": "{api_key}"}
    ),
    ("token-bearer",): _token("headers", headers={"Authorization": "Bearer {base64}"}),
    ("token-base64",): _token("headers", headers={"Authorization": "{base64}"}),
    ("token-headers",): _token("headers", headers={"x-app-id": "{app_id}", "x-api-key": "{api_key}"}),
    ("token-no-body",): _token("form", form=None),
    # The access token: the reply.
    ("token-access_token",): Case(),
    ("token-token",): _lifetime(7200),
    ("token-data",): _lifetime(3600),
    ("token-odd",): _token("field", field="result.credentials.jwt"),
    ("token-text",): _lifetime(7200),
    ("token-json-string",): _lifetime(7200),
    ("lifetime-text",): _lifetime(3600),
    ("lifetime-milliseconds",): _lifetime(3600),
    ("lifetime-expires-at",): _lifetime(3600),
    ("lifetime-epoch",): _lifetime(3600),
    ("lifetime-jwt",): _lifetime(3600),
    ("lifetime-none",): _lifetime(7200),
    ("oauth-errors",): Case(
        keys={"credentials": {"api_key": "sandbox-key"}}, names="credentials.api_key", says="invalid_client"
    ),
    ("expired-token-403", "lifetime-none"): Case(settings=_SHORT_TOKENS, polls=4),
    ("expired-token-bare", "lifetime-none"): Case(settings=_SHORT_TOKENS, polls=4),
    ("one-token",): Case(),
    # The presigned URL.
    ("presign-language",): Case(
        keys={"api": {"presign_fields": {"language": "es-ES"}}}, names="api.presign_fields"
    ),
    ("presign-201",): Case(),
    ("presign-signedUrl",): Case(),
    ("presign-uploadUrl",): Case(),
    ("presign-url",): Case(),
    ("presign-id",): Case(),
    ("presign-jobId",): Case(),
    ("presign-data",): Case(),
    ("presign-headers",): Case(),
    ("presign-signedHeaders",): Case(),
    ("presign-requiredHeaders",): Case(),
    ("presign-header-names",): Case(),
    ("odd-ids",): Case(),
    ("odd-ids", "status-get"): Case(keys={"api": {"status_path": _STATUS_GET}}),
    ("odd-ids", "callback-404"): _pushed(),
    ("odd-url",): Case(),
    ("mime-iana",): Case(
        recording="mp3", keys={"api": {"mime_types": ["audio/mpeg", "audio/wav"]}}, names="api.mime_types"
    ),
    ("mime-any",): Case(recording="mp3"),
    ("mime-leading-blank",): Case(
        recording="mp3", keys={"api": {"mime_types": [" audio/mpeg", "audio/wav"]}}, names="api.mime_types"
    ),
    # Storage.
    ("upload-header",): Case(
        keys={"upload": {"headers": {"x-amz-acl": "bucket-owner-full-control"}}}, names="upload.headers"
    ),
    ("upload-102",): Case(),
    ("upload-103",): Case(),
    ("upload-201",): Case(),
    ("upload-204",): Case(),
    ("upload-500-taken",): Case(),
    ("upload-502-taken",): Case(),
    ("upload-500-lost",): _LOST,
    ("upload-once",): Case(),
    # The status call.
    ("status-get",): Case(
        keys={"api": {"status_path": _STATUS_GET}}, names="api.status_path", paid_before_key=True
    ),
    ("status-get-query",): Case(
        keys={"api": {"status_path": "/api/v1/get-transcription?requestId={request_id}"}},
        names="api.status_path",
        paid_before_key=True,
    ),
    ("status-data",): Case(),
    ("status-transcriptionStatus",): Case(),
    ("status-status",): Case(),
    ("not-found-untyped", "upload-500-lost"): _LOST,
    ("messsage", "no-permission"): _FORBIDDEN,
    ("error-details", "no-permission"): _FORBIDDEN,
    ("before-upload-pending",): _PENDING,
    ("pending-empty",): _PENDING,
    ("pending-no-state",): _PENDING,
    ("pending-null",): _PENDING,
    ("pending-202",): _PENDING,
    ("pending-204",): _PENDING,
    ("pending-404",): _PENDING,
    ("pending-404-untyped",): _PENDING,
    ("pending-409",): _PENDING,
    ("pending-425",): _PENDING,
    ("pending-lower-case",): _PENDING,
    ("callback-400",): _pushed(settings=_SLOW, polls=2),
    ("callback-404",): _pushed(settings=_SLOW, polls=2),
    # Without the key it takes ten minutes until the first webhook is believed.
    ("callback-pending",): _pushed(settings=_SLOW, keys={"webhook": {"confirm": "never"}}),
    # The result.
    **{
        (name,): Case()
        for name in (
            *("state-failed", "state-success", "state-done", "state-lower-case"),
            *("state-complete", "state-succeeded", "state-finished", "state-expired"),
        )
    },
    **{
        (name, "always-fails"): _FAILED
        for name in (
            *("state-failed", "state-success", "state-done", "state-lower-case"),
            *("state-complete", "state-succeeded", "state-finished", "state-expired"),
        )
    },
    ("always-fails",): _FAILED,
    ("reason-message", "always-fails"): _FAILED,
    ("state-failed", "always-fails", "callback-404"): Case(
        webhooks=True, ends="failed", code="transcription_failed", says="too little speech"
    ),
    ("words-no-vtt",): Case(),
    ("words-vtt",): Case(speakers=NAMES),
    ("words-vtt-beside-empty",): Case(speakers=NAMES),
    ("words-vtt-rich",): Case(speakers=NAMES),
    ("words-string",): _NO_TIMES,
    ("words-untimed",): _NO_TIMES,
    ("words-text",): _NO_TIMES,
    ("words-none",): Case(words="none"),
    ("speaker",): Case(),
    ("speaker-none",): Case(speakers=NOBODY),
    ("speaker-name",): Case(speakers=NAMES),
    ("speaker-number",): Case(),
    ("times-milliseconds",): Case(),
    ("times-text",): Case(),
    ("times-suffix",): Case(),
    ("times-clock",): Case(),
    ("times-none",): Case(times="estimated"),
    # The webhook.
    ("webhook-no-status", "callback-404"): _pushed(),
    ("webhook-no-status", "words-none", "callback-404"): _pushed(words="none"),
    ("webhook-no-status", "always-fails", "callback-404"): Case(
        webhooks=True, ends="failed", code="transcription_failed", says="too little speech"
    ),
    # What its signature covers is believed without a question.
    ("webhook-requestSignature", "callback-404"): _pushed(keys=_RARELY, most_polls=0),
    ("webhook-both-signatures", "callback-404"): _pushed(keys=_RARELY, most_polls=0),
    ("webhook-unsigned",): Case(webhooks=True, delivered_by="polling"),
    ("webhook-salted", "callback-404"): _pushed(),
    ("webhook-test", "callback-404"): _pushed(),
    ("webhook-test-required", "callback-404"): _pushed(),
    ("webhook-milliseconds", "callback-404"): _pushed(),
    ("webhook-iso", "callback-404"): _pushed(),
    ("webhook-text", "callback-404"): _pushed(),
    ("webhook-chunked", "callback-404"): _pushed(),
}
