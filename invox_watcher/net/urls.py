"""URLs."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit


def split_url(url: str) -> SplitResult | None:
    """The parts of an http(s) URL with a host and without a user name, else None."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # or ValueError
    except ValueError:
        return None
    return parts if usable and "@" not in parts.netloc else None


def host_of(url: str) -> str:
    """The host (and port) of a URL, for messages; the rest of it is secret."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "the given address"
    if not host or not re.fullmatch(r"[\w.:-]+", host):
        return "the given address"
    return f"{host}:{port}" if port else host
