"""The API: is it reachable, are certificate and credentials accepted, and do the clocks agree?"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from invox_watcher.assembly import api_of, client_of
from invox_watcher.config import Config
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.errors import ApiError, ApiRejectedError, ExitStatus, RequestUnknownError
from invox_watcher.invox import InvoxApi, ReplyStatus
from invox_watcher.net import HttpClient, described_certificate

_SKEW_SECONDS = 300.0
_CERTIFICATE_SECONDS = 10.0
# The name of a finding by the error's code. Of a token: all others are "API".
_TOKEN_NAMES = {
    "credentials": "credentials",
    "token_not_found": "api.token",
    "token_request": "api.token",
    "api_protocol": "api.token",
    "tls": "API certificate",
    "proxy": "api.proxy",
}
# Of the calls after it: all others are named after the call's path.
_CALL_NAMES = {"unauthorized": "credentials", "forbidden": "permission", "tls": "API certificate"}
_MADE_UP_ID = "00000000-0000-4000-8000-000000000000"


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
    """Does each call work as far as that can be found out for free?

    A token; an upload address, which is not used; a connection to the storage behind it; and the result of a
    request that does not exist. Each needs the one before.
    """
    client = client_of(config)
    try:
        api = api_of(config, client)
        yield from _calls(config, api, client)
        if api.clock_ahead_seconds is not None:
            yield _clock(api.clock_ahead_seconds)
    finally:
        client.close()


def _calls(config: Config, api: InvoxApi, client: HttpClient) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        api.authenticate()
    except ApiError as error:
        if error.code in _TOKEN_NAMES:
            yield _answered(config, began)
        yield _failed(_TOKEN_NAMES.get(error.code, "API"), error, config.api.base_url)
        return
    yield _answered(config, began)
    yield Finding("credentials", seen="the API accepted them")
    kind = config.api.mime_types[0]
    try:
        url = api.presign(kind).url
    except ApiError as error:
        yield _failed(_CALL_NAMES.get(error.code, "api.presign_path"), error)
        return
    yield Finding("api.presign_path", seen=f"the API gave an upload address for {kind}")
    try:
        client.reach(url, deadline_seconds=config.api.read_timeout_seconds)
    except ApiError as error:
        yield _failed("storage", error, url)
    else:
        yield Finding("storage", seen=f"{urlsplit(url).hostname} accepts connections")
    yield _status(api)


def _status(api: InvoxApi) -> Finding:
    """Whether results can be asked for: the API must not know a request that does not exist."""
    name = "api.status_path"
    try:
        reply = api.result(_MADE_UP_ID)
    except RequestUnknownError as error:
        if error.code == RequestUnknownError.code:
            return Finding(name, seen="the API answers there")
        return _failed(name, error)
    except ApiRejectedError as error:
        seen = f"the API answers there, with {error.status} for a request that does not exist"
        return Finding(name, seen=seen)
    except ApiError as error:
        return _failed(_CALL_NAMES.get(error.code, name), error)
    if reply.status is ReplyStatus.PENDING:
        return Finding(name, seen="the API answers there, and says pending even of an unknown request")
    problem = "the API reports a result for a request that does not exist"
    return warning(name, problem, "Is it the right path? `invox-watcher check --try FILE` shows the replies.")


def _failed(name: str, error: ApiError, url: str = "") -> Finding:
    shown = described_certificate(url, _CERTIFICATE_SECONDS) if error.code == "tls" else None
    message = f"{error.message} It is {shown}." if shown else error.message
    return Finding(name, "failed", message, error.hint, error.exit_status)


def _answered(config: Config, began: float) -> Finding:
    return Finding("API", seen=f"{config.api.base_url} answered in {time.monotonic() - began:.2f} s")


def _clock(ahead_seconds: float) -> Finding:
    if abs(ahead_seconds) < _SKEW_SECONDS:
        return Finding("clock", seen="this machine's clock agrees with the API's")
    direction = "ahead of" if ahead_seconds > 0 else "behind"
    problem = f"this machine's clock is {abs(ahead_seconds) / 60:.0f} minutes {direction} the API's"
    return warning("clock", problem, "Set it by NTP: certificates, tokens and upload addresses depend on it.")
