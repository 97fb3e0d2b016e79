"""The reply to the request for an upload address, in each of the vendor's spellings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_URL_KEYS = ("presignedUrl", "signedUrl", "uploadUrl", "presigned_url", "signed_url", "upload_url", "url")
_ID_KEYS = ("requestId", "request_id", "jobId", "job_id", "id")
_HEADER_KEYS = ("headers", "signedHeaders", "requiredHeaders")
_LONGEST_ID = 250
# Set by the upload itself, and never to be set twice.
_OWN_HEADERS = frozenset({"content-type", "content-length", "host", "transfer-encoding", "connection"})


@dataclass(frozen=True)
class PresignedUpload:
    """Where a recording may be put, and the id under which its result will be found. The URL is a secret."""

    url: str = field(repr=False)
    request_id: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # to be sent with the upload


def read_presigned(payload: Mapping[str, Any]) -> PresignedUpload | str:
    """What the reply says; if it is unusable, what is wrong with it, without quoting it.

    URL and id are looked for in the object and one level down, each in its own place if need be.
    """
    levels = [payload, *(value for value in payload.values() if isinstance(value, Mapping))]
    url = _first(levels, _URL_KEYS, _is_word)
    request_id = _first(levels, _ID_KEYS, _is_line)
    if url is None or request_id is None:
        missing = "presignedUrl" if url is None else "requestId"
        return f"has no usable {missing}"
    return PresignedUpload(url, request_id, _headers(levels))


def _first(
    levels: list[Mapping[str, Any]], keys: tuple[str, ...], usable: Callable[[str], bool]
) -> str | None:
    """The first value under one of `keys` that is a usable text, or a whole number."""
    for level in levels:
        for key in keys:
            value = level.get(key)
            if isinstance(value, int) and not isinstance(value, bool):
                value = str(value)
            if isinstance(value, str) and usable(value.strip()):
                return value.strip()
    return None


def _is_word(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


def _is_line(text: str) -> bool:
    """An id may hold anything that can be shown: it is escaped when it goes into a URL."""
    return bool(text) and text.isprintable() and len(text) <= _LONGEST_ID


def _headers(levels: list[Mapping[str, Any]]) -> dict[str, str]:
    for level in levels:
        for key in _HEADER_KEYS:
            found = level.get(key)
            if isinstance(found, Mapping):
                return {
                    str(name): _header_value(value)
                    for name, value in found.items()
                    if str(name).lower() not in _OWN_HEADERS and isinstance(value, str | int | list)
                }
    return {}


def _header_value(value: str | int | list[Any]) -> str:
    """AWS SDKs give each header's values as a list."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
