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
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from invox_watcher.sandbox.ledger import Ledger, Upload
from invox_watcher.sandbox.recognition import Recognition
from invox_watcher.sandbox.replies import storage_error
from invox_watcher.sandbox.settings import SandboxSettings
from invox_watcher.sandbox.webhooks import Webhooks


class Storage:
    """Hands out presigned URLs and answers the PUTs to them."""

    def __init__(
        self, settings: SandboxSettings, ledger: Ledger, recognition: Recognition, webhooks: Webhooks
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._recognition = recognition
        self._webhooks = webhooks
        self._secret = secrets.token_bytes(32)
        settings.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def presigned_path(self, request_id: str, mime_type: str) -> str:
        """Path and query that allow one content type to be PUT under this id until they expire."""
        expires = f"{time.time() + self._settings.url_lifetime_seconds:.3f}"
        query = {"expires": expires, "signature": self._signature(request_id, mime_type, expires)}
        return f"/storage/{request_id}?{urlencode(query)}"

    async def put(self, request: Request) -> Response:
        """Take one upload, or refuse it as S3 would. Raises ClientDisconnect if it ends early."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        request_id = request.path_params["request_id"]
        descriptor, name = mkstemp(dir=self._settings.data_directory, prefix="incoming-")
        incoming = Path(name)
        try:
            upload = await self._receive(request, descriptor)
            stored = self._settings.data_directory / request_id
            incoming.replace(stored)
        finally:
            incoming.unlink(missing_ok=True)
        self._ledger.uploaded(request_id, upload)
        recognized = self._recognition.submit(request_id, upload, stored)
        self._webhooks.announce(request_id, upload, recognized)
        return Response(status_code=200)

    def _signature(self, request_id: str, mime_type: str, expires: str) -> str:
        signed = "\n".join(("PUT", request_id, mime_type, expires))
        return hmac.digest(self._secret, signed.encode(), "sha256").hex()

    def _refusal(self, request: Request) -> Response | None:
        headers, query = request.headers, request.query_params
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
        expires = query.get("expires", "")
        genuine = self._signature(request.path_params["request_id"], headers.get("content-type", ""), expires)
        if _expired(expires):
            return storage_error(403, "AccessDenied", "Request has expired")
        if not hmac.compare_digest(genuine.encode(), query.get("signature", "").encode()):
            return storage_error(
                403,
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
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
