"""What a server's certificate contains, trusted or not, for a person who looks for the fault."""

from __future__ import annotations

import ssl
import tempfile
from typing import Any
from urllib.parse import urlsplit


def described_certificate(url: str, timeout_seconds: float) -> str | None:
    """Issuer and dates of the certificate that the host of `url` presents; None if it can't be had.

    Without a proxy. Nothing is sent over that connection.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return None
    try:
        pem = ssl.get_server_certificate((parts.hostname, parts.port or 443), timeout=timeout_seconds)
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(pem)
            file.flush()
            # The only parser in the standard library: `getpeercert` returns nothing for untrusted ones.
            found: dict[str, Any] = ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return None
    issuer = {name: value for part in found.get("issuer", ()) for name, value in part}
    name = issuer.get("organizationName") or issuer.get("commonName") or "an unnamed authority"
    return f"issued by {name}, valid from {found.get('notBefore')} to {found.get('notAfter')}"
