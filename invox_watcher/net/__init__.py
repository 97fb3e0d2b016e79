"""HTTP: one client, one deadline for each exchange, one place that translates library errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invox_watcher.net.certificates import described_certificate
from invox_watcher.net.clock import RemoteClock
from invox_watcher.net.headers import retry_after_seconds
from invox_watcher.net.reply import HttpReply, media_type, read_json, read_object
from invox_watcher.net.sockets import SocketHandle
from invox_watcher.net.urls import host_of, split_url

if TYPE_CHECKING:
    from invox_watcher.net.client import HttpClient

__all__ = [
    "HttpClient",
    "HttpReply",
    "RemoteClock",
    "SocketHandle",
    "described_certificate",
    "host_of",
    "media_type",
    "read_json",
    "read_object",
    "retry_after_seconds",
    "split_url",
]


def __getattr__(name: str) -> Any:
    """Import `HttpClient` when it is asked for (PEP 562): requests takes a while, and few commands call."""
    if name != "HttpClient":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from invox_watcher.net.client import HttpClient  # noqa: PLC0415

    return HttpClient
