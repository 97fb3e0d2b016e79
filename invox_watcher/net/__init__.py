"""HTTP: one client, one deadline for each exchange, one place that translates library errors."""

from __future__ import annotations

from invox_watcher.net.certificates import described_certificate
from invox_watcher.net.client import HttpClient, HttpReply, media_type, read_json, read_object
from invox_watcher.net.clock import RemoteClock
from invox_watcher.net.failures import host_of
from invox_watcher.net.headers import retry_after_seconds
from invox_watcher.net.urls import split_url

__all__ = [
    "HttpClient",
    "HttpReply",
    "RemoteClock",
    "described_certificate",
    "host_of",
    "media_type",
    "read_json",
    "read_object",
    "retry_after_seconds",
    "split_url",
]
