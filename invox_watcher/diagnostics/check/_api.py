"""The API: is it reachable, are certificate and credentials accepted, and do the clocks agree?"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from invox_watcher.assembly import api_of, client_of
from invox_watcher.config import Config
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.errors import ApiError, ExitStatus

_SKEW_SECONDS = 300.0
# The name of the finding by the error's code; all others are "API".
_NAMES = {
    "credentials": "credentials",
    "unauthorized": "credentials",
    "forbidden": "credentials",
    "tls": "API certificate",
    "proxy": "api.proxy",
    "not_found": "api.token.url",
}


def ca_bundle(config: Config) -> Iterator[Finding]:
    """Can the certificate authorities be read?"""
    if config.api.ca_bundle is not None:
        client_of(config).close()  # raises what is wrong with it
        yield Finding("api.ca_bundle", seen=str(config.api.ca_bundle))


def proxy(config: Config) -> Iterator[Finding]:
    """Does the proxy accept connections? Whether it connects to the API is seen by `api`."""
    if config.api.proxy is None:
        return
    parts = urlsplit(config.api.proxy)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    where = f"{host}:{port}"  # never the whole address: it may hold a password
    try:
        socket.create_connection((host, port), timeout=config.api.connect_timeout_seconds).close()
    except OSError as error:
        problem = f"{where} can't be reached: {error.strerror or 'no answer in time'}"
        yield Finding("api.proxy", "failed", problem, "Check api.proxy.", ExitStatus.UNAVAILABLE)
    else:
        yield Finding("api.proxy", seen=f"{where} accepts connections")


def api(config: Config) -> Iterator[Finding]:
    """Does the API answer, does it accept the credentials, and what is its time?"""
    client = client_of(config)
    try:
        api, began = api_of(config, client), time.monotonic()
        try:
            api.authenticate()
        except ApiError as error:
            name = _NAMES.get(error.code, "API")
            if name == "credentials":
                yield _answered(config, began)
            yield Finding(name, "failed", error.message, error.hint, error.exit_status)
        else:
            yield _answered(config, began)
            yield Finding("credentials", seen="the API accepted them")
        if api.clock_ahead_seconds is not None:
            yield _clock(api.clock_ahead_seconds)
    finally:
        client.close()


def _answered(config: Config, began: float) -> Finding:
    return Finding("API", seen=f"{config.api.base_url} answered in {time.monotonic() - began:.2f} s")


def _clock(ahead_seconds: float) -> Finding:
    if abs(ahead_seconds) < _SKEW_SECONDS:
        return Finding("clock", seen="this machine's clock agrees with the API's")
    direction = "ahead of" if ahead_seconds > 0 else "behind"
    problem = f"this machine's clock is {abs(ahead_seconds) / 60:.0f} minutes {direction} the API's"
    return warning("clock", problem, "Set it by NTP: certificates, tokens and upload addresses depend on it.")
