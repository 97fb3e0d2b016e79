"""The vendor's API in the vendor's words: token, presigned URL, upload, result.

The README says which parts of it are assumptions ("What to check against your account"); each of them is an
argument here. Each method raises the errors of `errors` and nothing else.
"""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def split_url(url: str) -> SplitResult | None:
    """The parts of an http(s) URL that has a host and no user name in it, else None."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # or ValueError
    except ValueError:
        return None
    return parts if usable and "@" not in parts.netloc else None
