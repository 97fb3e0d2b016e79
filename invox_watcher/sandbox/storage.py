"""The object storage behind presigned URLs: signs them, and takes uploads the way Amazon S3 does.

An upload is streamed to a temporary file and counts only once all declared bytes are on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import mkstemp
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from invox_watcher.sandbox.ledger import Ledger, Upload
from invox_watcher.sandbox.recognition import Recognition
from invox_watcher.sandbox.replies import page, storage_error
from invox_watcher.sandbox.settings import SandboxSettings
from invox_watcher.sandbox.webhooks import Webhooks

_FOLDER = "/storage/"
_ODD_FOLDER = "/storage/in%2bbox/./a..b/../%7euploads/"
_NAMED_HEADER, _NAMED_VALUE = "x-amz-server-side-encryption", "AES256"
_UNNAMED_HEADER, _UNNAMED_VALUE = "x-amz-acl", "bucket-owner-full-control"


class Storage:
    """Hands out presigned URLs and answers the PUTs to them."""

    def __init__(
        self, settings: SandboxSettings, ledger: Ledger, recognition: Recognition, webhooks: Webhooks
    ) -> None:
        self._settings = settings
        self._reading = settings.reading
        self._ledger = ledger
        self._recognition = recognition
        self._webhooks = webhooks
        self._secret = secrets.token_bytes(32)
        self._names_a_header = (
            self._reading.headers_field is not None and self._reading.headers_form != "names"
        )
        settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def presigned_path(self, request_id: str, mime_type: str) -> str:
        """Path and query that allow one content type to be PUT under this id until they expire."""
        folder, more = (_ODD_FOLDER, "&note=a%2bb%2Fc") if self._reading.odd_url else (_FOLDER, "")
        expires = time.time() + self._settings.url_lifetime_seconds
        unsigned = f"{folder}{quote(request_id, safe='')}?expires={expires:.3f}{more}"
        type_on_the_wire = mime_type.strip() if self._reading.mime_types == "leading_blank" else mime_type
        header = _NAMED_VALUE if self._names_a_header else ""
        return f"{unsigned}&signature={self._signature(unsigned, type_on_the_wire, header)}"

    def named_headers(self, mime_type: str, url: str) -> dict[str, str]:
        """The headers of the PUT that the presign reply names, as many as the reading has."""
        signed = {"host": urlsplit(url).netloc, "content-type": mime_type.strip()}
        match self._reading.headers_form:
            case "values":
                return {_NAMED_HEADER: _NAMED_VALUE}
            case "lists":
                return signed | {_NAMED_HEADER: _NAMED_VALUE}
            case "names":
                return signed

    async def put(self, request: Request) -> Response:
        """Take one upload, or refuse it as S3 would. Raises ClientDisconnect if it ends early."""
        request_id = request.path_params["key"].rpartition("/")[2]
        refusal = self._refusal(request, request_id)
        if refusal is not None:
            return refusal
        descriptor, name = mkstemp(dir=self._settings.data_directory, prefix="incoming-")
        incoming = Path(name)
        try:
            upload = await self._receive(request, descriptor)
            if self._reading.upload_kept:
                self._keep(request_id, upload, incoming)
                request.state.uploaded = (request_id, upload)
        finally:
            incoming.unlink(missing_ok=True)
        return self._answer()

    def _keep(self, request_id: str, upload: Upload, incoming: Path) -> None:
        stored = self._settings.data_directory / request_id
        incoming.replace(stored)
        self._ledger.uploaded(request_id, upload)
        recognized = self._recognition.submit(request_id, upload, stored)
        self._webhooks.announce(request_id, upload, recognized)

    def _answer(self) -> Response:
        match self._reading.upload_answer:
            case "bare_500":
                return Response(status_code=500)
            case "html_502":
                return page(502, "502 Bad Gateway")
            case success:
                return Response(status_code=int(success))

    def _signature(self, unsigned: str, mime_type: str, header: str) -> str:
        signed = "\n".join(("PUT", unsigned, mime_type, header))
        return hmac.digest(self._secret, signed.encode(), "sha256").hex()

    def _refusal(self, request: Request, request_id: str) -> Response | None:
        headers = request.headers
        if "authorization" in headers:
            return storage_error(400, "InvalidArgument", "Only one auth mechanism allowed")
        if "transfer-encoding" in headers:
            return storage_error(
                501, "NotImplemented", "A header you provided implies functionality that is not implemented"
            )
        if "content-length" not in headers:
            return storage_error(
                411, "MissingContentLength", "You must provide the Content-Length HTTP header."
            )
        return self._url_refusal(request) or self._policy_refusal(request, request_id)

    def _url_refusal(self, request: Request) -> Response | None:
        """The URL must come back byte for byte: what is signed is the request's target as it was sent."""
        if _expired(request.query_params.get("expires", "")):
            return storage_error(403, "AccessDenied", "Request has expired")
        target: bytes = request.scope["raw_path"] + b"?" + request.scope["query_string"]
        unsigned, _, given = target.decode("latin-1").rpartition("&signature=")
        header = request.headers.get(_NAMED_HEADER, "") if self._names_a_header else ""
        genuine = self._signature(unsigned, request.headers.get("content-type", ""), header)
        if hmac.compare_digest(genuine.encode(), given.encode()):
            return None
        return storage_error(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided.",
        )

    def _policy_refusal(self, request: Request, request_id: str) -> Response | None:
        if self._reading.needs_unnamed_header and request.headers.get(_UNNAMED_HEADER) != _UNNAMED_VALUE:
            return storage_error(403, "AccessDenied", "Access Denied")
        record = self._ledger.find(request_id)
        if self._reading.url_works_once and record is not None and record.uploads:
            return storage_error(
                412,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
            )
        return None

    async def _receive(self, request: Request, descriptor: int) -> Upload:
        """Stream the body to the descriptor. Raises ClientDisconnect if it ends early."""
        digest = hashlib.sha256()
        received = 0
        rate = self._settings.upload_bytes_per_second
        started = time.monotonic()
        with os.fdopen(descriptor, "wb") as file:
            async for chunk in request.stream():
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                if rate is not None:
                    await asyncio.sleep(started + received / rate - time.monotonic())
        due_at = time.monotonic() + self._settings.result_delay_seconds
        return Upload(received, digest.hexdigest(), datetime.now(UTC), due_at)


def _expired(expires: str) -> bool:
    try:
        return time.time() >= float(expires)
    except ValueError:
        return False  # a tampered time fails at the signature
