"""Readings of the vendor's API that need other keys of the configuration, and which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from invox_watcher.sandbox.server import Sandbox
from tests.kit.clinic import Clinic

# A key as `check` prints it, and its value; `{api_url}` and `{token_url}` are what a vendor would tell.
Keys = Mapping[str, Any]

_V1 = {"api.presign_path": "/v1/generate-presigned-url", "api.status_path": "/v1/get-transcription"}
_STATUS_GET = {"api.status_path": "/api/v1/get-transcription/{request_id}"}
_HEADER = {"upload.headers": {"x-amz-acl": "bucket-owner-full-control"}}
_GET = {"api.token.method": "GET"}
_TOKEN_URL = {"api.token.url": "/auth/v2/access-token"}
_BASE_URL = {"api.base_url": "{api_url}"}
_AS_JSON = {
    "api.token.json": {"appId": "{app_id}", "apiKey": "{api_key}"},
    "api.token.headers": {},
}
_GRANT_AS_JSON = {"api.token.json": {"grant_type": "client_credentials"}}
_AS_FORM = {
    "api.token.headers": {},
    "api.token.form": {"client_id": "{app_id}", "client_secret": "{api_key}"},
}
_NO_BODY = {"api.token.form": None}
_BEARER = {"api.token.headers": {"Authorization": "Bearer {base64}"}}
_LANGUAGE = {"api.presign_fields": {"language": "es-ES"}}
_VERSION = {"api.version": "2026-03-01"}
_IANA = {"api.mime_types": ["audio/wav", "audio/mpeg", "audio/mp4", "audio/flac", "audio/ogg", "audio/webm"]}
_BLANK = {"api.mime_types": ["audio/wav", " audio/mpeg"]}
_X_API_KEY = {"api.headers": {"x-api-key": "{api_key}"}}

NEEDED: Mapping[tuple[str, ...], Keys] = {
    ("stage",): _BASE_URL,
    ("stage", "gateway"): _BASE_URL,
    ("stage", "gateway-forbidden"): _BASE_URL,
    ("paths-v1",): _V1,
    ("paths-v1", "no-content-type"): _V1,
    ("paths-v1-forbidden",): _V1,
    ("api-key-header",): _X_API_KEY,
    ("api-key-header", "gateway"): _X_API_KEY,
    ("api-key-header", "gateway-forbidden"): _X_API_KEY,
    ("version-2026",): _VERSION,
    ("version-2026", "messsage"): _VERSION,
    ("version-2026", "error-details"): _VERSION,
    ("token-path",): _TOKEN_URL,
    ("token-path", "oauth-errors"): _TOKEN_URL,
    ("token-port",): {"api.token.url": "{token_url}"},
    ("token-port", "gateway"): {"api.token.url": "{token_url}"},
    ("token-port", "gateway-forbidden"): {"api.token.url": "{token_url}"},
    ("token-get",): _GET,
    ("token-get", "gateway"): _GET,
    ("token-get", "gateway-forbidden"): _GET,
    ("token-json",): _AS_JSON,
    ("token-json", "oauth-errors"): _AS_JSON,
    ("token-json", "messsage"): _AS_JSON,
    ("token-json-grant",): _GRANT_AS_JSON,
    ("token-json-grant", "oauth-errors"): _GRANT_AS_JSON,
    ("token-form-credentials",): _AS_FORM,
    ("token-form-credentials", "oauth-errors"): _AS_FORM,
    ("token-bearer",): _BEARER,
    ("token-bearer", "oauth-errors"): _BEARER,
    ("token-base64",): {"api.token.headers": {"Authorization": "{base64}"}},
    ("token-headers",): {"api.token.headers": {"x-app-id": "{app_id}", "x-api-key": "{api_key}"}},
    ("token-no-body",): _NO_BODY,
    ("token-no-body", "oauth-errors"): _NO_BODY,
    ("token-odd",): {"api.token.field": "result.credentials.jwt"},
    ("token-odd", "gzip"): {"api.token.field": "result.credentials.jwt"},
    ("presign-language",): _LANGUAGE,
    ("presign-language", "messsage"): _LANGUAGE,
    ("presign-language", "presign-data"): _LANGUAGE,
    ("mime-iana",): _IANA,
    ("mime-iana", "presign-signedUrl"): _IANA,
    ("mime-leading-blank",): _BLANK,
    ("status-get",): _STATUS_GET,
    ("status-get", "gateway"): _STATUS_GET,
    ("status-get", "gateway-forbidden"): _STATUS_GET,
    ("status-get", "odd-ids"): _STATUS_GET,
    ("status-get-query",): {"api.status_path": "/api/v1/get-transcription?requestId={request_id}"},
}
# Only a recording shows these: nothing that is free does.
NEEDED_BY_UPLOADS: Mapping[tuple[str, ...], Keys] = {
    ("upload-header",): _HEADER,
    ("upload-header", "presign-uploadUrl"): _HEADER,
}


def clinic_with(folder: Path, api: Sandbox, keys: Keys) -> Clinic:
    """A clinic with these keys in its configuration."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in keys.items():
        section, *parts = key.split(".")
        place = sections.setdefault(section, {})
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = _told(value, api)
    sections["api"] = {"base_url": api.base_url} | sections.get("api", {})
    clinic = Clinic(folder, api.base_url, **sections)
    clinic.config.chmod(0o600)
    return clinic


def _told(value: Any, api: Sandbox) -> Any:
    """The value with the addresses that a vendor would tell with the credentials."""
    if not isinstance(value, str):
        return value
    return value.replace("{api_url}", api.api_url).replace("{token_url}", api.token_url)
