"""URLs."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def split_url(url: str) -> SplitResult | None:
    """The parts of an http(s) URL with a host and without a user name, else None."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # or ValueError
    except ValueError:
        return None
    return parts if usable and "@" not in parts.netloc else None
