"""The header and the body of a response, without what libraries do for mails and for other callers."""

from __future__ import annotations

import http
import http.client
import io
import re
from collections.abc import Mapping
from typing import Any, BinaryIO, Protocol


class Reading(Protocol):
    """A response of which the body is still to be read."""

    @property
    def status(self) -> int:
        """The status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The header; names are case-insensitive."""

    def read(self, amt: int, decode_content: bool = False) -> bytes:
        """Some of the body; nothing at its end."""

    def close(self) -> None:
        """Close the connection, unless the body was read to its end."""

    def release_conn(self) -> None:
        """Give the connection back."""


# A field that stands on one line, with a name (RFC 9112 §5): nearly every one.
FIELD = re.compile(rb"([!-9;-~]+):[ \t]*([^\r\n]*)\r?\n")


class _Fields(http.client.HTTPMessage):
    """The header of a response, without what only mails have; their parser took longer than the exchange."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, str] = {}  # of each name in lower case, its first value

    def set_raw(self, name: str, value: str) -> None:
        super().set_raw(name, value)
        self._first.setdefault(name.lower(), value)

    def get(self, name: str, failobj: Any = None) -> Any:
        return self._first.get(name.lower(), failobj)

    def items(self) -> list[tuple[str, Any]]:
        return list(self.raw_items())

    def is_multipart(self) -> bool:  # as urllib3 asks of each response
        return False


def _header_of(file: BinaryIO) -> http.client.HTTPMessage:
    """The header that follows in `file`."""
    lines: list[bytes] = http.client._read_headers(file)  # type: ignore[attr-defined]
    fields = _Fields()
    for line in lines[:-1]:  # the last one is empty
        field = FIELD.fullmatch(line)
        if field is None:
            return http.client.parse_headers(io.BytesIO(b"".join(lines)))
        fields.set_raw(field[1].decode("ascii"), field[2].rstrip(b" \t").decode("iso-8859-1"))
    return fields


class Response(http.client.HTTPResponse):
    """A response that comes after any number of interim ones (RFC 9110 §15.2), of which http.client skips
    none but 100; and whose header is read by `_header_of`.
    """

    def begin(self) -> None:
        version, self.status, reason = self._read_status()
        self.code, self.reason = self.status, reason.strip()
        if not version.startswith(("HTTP/1.", "HTTP/0.9")):
            raise http.client.UnknownProtocol(version)
        self.version = 10 if version in ("HTTP/1.0", "HTTP/0.9") else 11
        self.headers = self.msg = _header_of(self.fp)
        self.chunked = str(self.headers.get("transfer-encoding", "")).lower() == "chunked"
        self.chunk_left = None
        self.will_close = self._check_close()  # type: ignore[attr-defined]
        self.length = self._length()
        if self.length is None and not self.chunked:
            self.will_close = True  # the end of the connection is that of the body

    def _length(self) -> int | None:
        if self.status in (http.HTTPStatus.NO_CONTENT, http.HTTPStatus.NOT_MODIFIED) or self.status < 200:
            return 0
        try:
            length = -1 if self.chunked else int(self.headers.get("content-length", -1))
        except ValueError:
            return None
        return length if length >= 0 else None

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
