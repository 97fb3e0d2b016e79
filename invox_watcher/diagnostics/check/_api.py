"""The API: is it reachable, are certificate and credentials accepted, and do the clocks agree?"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from urllib.parse import urlsplit

from invox_watcher.assembly import api_of, client_of
from invox_watcher.config import Config
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.diagnostics.trial import Trial
from invox_watcher.errors import ApiError, ApiRejectedError, ExitStatus, RequestUnknownError
from invox_watcher.invox import ApiCall, InvoxApi, ReplyStatus
from invox_watcher.net import HttpClient, described_certificate, host_of

_SKEW_SECONDS = 300.0
_CERTIFICATE_SECONDS = 10.0
_MADE_UP_ID = "00000000-0000-4000-8000-000000000000"
_KEY = re.compile(r"\b(?:api|upload)\.[a-z_]+(?:\.[a-z_]+)*")
# The name of a finding by the error's code. All others are named after the key that is the likeliest cause.
_NAMES = {
    "credentials": "credentials",
    "forbidden": "permission",
    "tls": "API certificate",
    "proxy": "api.proxy",
    **dict.fromkeys(("network", "timeout", "api_unavailable", "web_filter"), "API"),
}
_OF_TOKEN_REQUEST = frozenset({"credentials", "token_not_found", "token_request", "api_protocol"})
# After these the next call can still be tried: they say something about one call, not about the connection.
_OF_ONE_CALL = frozenset({"not_found", "rejected", "forbidden", "api_protocol"})


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

    A token; an upload address for each type, which is not used; a connection to the storage behind it; and
    the result of a request that does not exist.
    """
    client = client_of(config)
    calls: list[ApiCall] = []
    try:
        api = api_of(config, client, on_call=calls.append)
        yield from _calls(config, api, client, calls)
        if api.clock_ahead_seconds is not None:
            yield _clock(api.clock_ahead_seconds)
    finally:
        client.close()


def _calls(config: Config, api: InvoxApi, client: HttpClient, calls: list[ApiCall]) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        api.authenticate()
    except ApiError as error:
        if error.code in _OF_TOKEN_REQUEST:
            yield _answered(config, began)
        yield _failed(error, "API", calls=calls, url=config.api.base_url)
        return
    yield _answered(config, began)
    yield Finding("credentials", seen="the API accepted them")
    url, failure = yield from _upload_address(config, api, calls)
    if url is not None:
        try:
            client.reach(url, deadline_seconds=config.api.read_timeout_seconds)
        except ApiError as error:
            yield _failed(error, "storage", name="storage", url=url)
        else:
            yield Finding("storage", seen=f"{host_of(url)} accepts connections")
    if failure is None or failure.code in _OF_ONE_CALL:
        yield _status(api, calls)


def _upload_address(
    config: Config, api: InvoxApi, calls: list[ApiCall]
) -> Generator[Finding, None, tuple[str | None, ApiError | None]]:
    """Ask for an address for each accepted type; returns the last one, and the error that ended it."""
    url: str | None = None
    refused: dict[str, ApiError] = {}
    for kind in config.api.mime_types:
        try:
            url = api.presign(kind).url
        except ApiError as error:
            if error.code != "rejected" or _key_in(error.hint) != "api.mime_types":
                yield _failed(error, "api.presign_path", calls=calls)
                return None, error
            refused[kind.strip()] = error
    first = next(iter(refused.values()), None)
    if url is None and first is not None:
        yield _failed(first, "api.mime_types")
        return None, first
    accepted = [kind.strip() for kind in config.api.mime_types if kind.strip() not in refused]
    yield Finding("api.presign_path", seen=f"the API gave an upload address for {', '.join(accepted)}")
    if first is not None:
        yield warning(
            "api.mime_types",
            f"the API does not accept {', '.join(refused)}: {first.message}",
            "Set api.mime_types to the types that the account takes, as the vendor spells them: until then"
            " recordings of the others stop the intake.",
        )
    return url, None


def _status(api: InvoxApi, calls: list[ApiCall]) -> Finding:
    """Whether results can be asked for: the API must not know a request that does not exist."""
    name = "api.status_path"
    try:
        reply = api.result(_MADE_UP_ID)
    except RequestUnknownError as error:
        if error.code == RequestUnknownError.code:
            return _of_unknown(name, calls[-1])
        return _failed(error, name, name=name)
    except ApiRejectedError as error:
        if _key_in(error.hint) == "api.version":
            return _failed(error, name)
        seen = f"the API answers there, with {error.status} for a request that does not exist"
        return Finding(name, seen=seen)
    except ApiError as error:
        return _failed(error, name, calls=calls)
    if reply.status is ReplyStatus.PENDING:
        return Finding(name, seen="the API answers there, and says pending even of an unknown request")
    problem = "the API reports a result for a request that does not exist"
    return warning(name, problem, "Is it the right path? `invox-watcher check --try FILE` shows the replies.")


def _of_unknown(name: str, call: ApiCall) -> Finding:
    """Of a 404: without a word it may be about the path as well."""
    if call.reply is not None and call.reply.body.strip():
        return Finding(name, seen="the API answers there")
    problem = "the API answered 404 and nothing else: for a request that does not exist, or for a wrong path"
    hint = (
        "Compare api.status_path with what the vendor says. With {request_id} in that path, the request is a"
        " GET. `invox-watcher check --try FILE` finds out which."
    )
    return warning(name, problem, hint)


def _failed(
    error: ApiError, otherwise: str, *, name: str = "", calls: Sequence[ApiCall] = (), url: str = ""
) -> Finding:
    """The finding, called `name`, else by the error's code, its hint or its message, else `otherwise`.

    Of a reply that can't be used the names of the fields are shown, and of a certificate issuer and dates.
    """
    if error.code == "api_protocol" and otherwise != "API":
        name = otherwise  # the calls before it have shown that the address is right
    name = name or _NAMES.get(error.code) or _key_in(error.hint) or _key_in(error.message) or otherwise
    message = error.message
    if error.code == "tls" and (shown := described_certificate(url, _CERTIFICATE_SECONDS)):
        message += f" It is {shown}."
    if error.code == "api_protocol" and calls and calls[-1].reply is not None:
        shown = Trial(calls, status_path="").body(calls[-1], calls[-1].reply.body)
        message += f" The reply's body: {shown}."
    return Finding(name, "failed", message, error.hint, error.exit_status)


def _key_in(text: str) -> str | None:
    """The first key of the configuration that a hint names: the likeliest cause comes first."""
    found = _KEY.search(text)
    return found[0] if found else None


def _answered(config: Config, began: float) -> Finding:
    return Finding("API", seen=f"{config.api.base_url} answered in {time.monotonic() - began:.2f} s")


def _clock(ahead_seconds: float) -> Finding:
    if abs(ahead_seconds) < _SKEW_SECONDS:
        return Finding("clock", seen="this machine's clock agrees with the API's")
    direction = "ahead of" if ahead_seconds > 0 else "behind"
    problem = f"this machine's clock is {abs(ahead_seconds) / 60:.0f} minutes {direction} the API's"
    return warning("clock", problem, "Set it by NTP: certificates, tokens and upload addresses depend on it.")
