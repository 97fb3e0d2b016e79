"""The daemon's HTTP server: webhooks, health, readiness, metrics."""

from __future__ import annotations

from invox_watcher.web.gauges import Gauges, IntakeSnapshot, exposition
from invox_watcher.web.listening import listen_on
from invox_watcher.web.metrics import Counters
from invox_watcher.web.protocol import BoundedH11Protocol, BoundedServer
from invox_watcher.web.server import Answers, Server, create_app

__all__ = [
    "Answers",
    "BoundedH11Protocol",
    "BoundedServer",
    "Counters",
    "Gauges",
    "IntakeSnapshot",
    "Server",
    "create_app",
    "exposition",
    "listen_on",
]
