"""requests' transport made to obey: one deadline over a whole exchange, abort, and errors in our words.

A timeout per read lets a peer that sends one byte a second go on for ever: a watchdog shuts the socket down.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
import urllib3
from urllib3.util.ssl_match_hostname import CertificateError

from invox_watcher.errors import ApiError, ApiRefusedError, ApiUnavailableError, StoppedError

WAY_OUT = "Check api.base_url, and whether this machine may go out: firewall, api.proxy."


_CERTIFICATE = (ssl.SSLCertVerificationError, CertificateError)
_PROXY = (
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidProxyURL,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.ProxySchemeUnknown,
    urllib3.exceptions.ProxySchemeUnsupported,
)
_BAD_URL = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.URLRequired,
    urllib3.exceptions.LocationValueError,
)
# What a peer that hangs up looks like; http.client.RemoteDisconnected is a ConnectionError as well.
_HUNG_UP = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_TLS = (ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError)
_TIMEOUT = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
# What keeps us from a proxy, rather than what a proxy keeps us from.
_UNREACHED = (*_HUNG_UP, *_TIMEOUT, urllib3.exceptions.NewConnectionError)
_NONSENSE = (
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    requests.exceptions.InvalidJSONError,
    urllib3.exceptions.DecodeError,
    urllib3.exceptions.InvalidHeader,
    urllib3.exceptions.HeaderParsingError,
    http.client.HTTPException,
)
LIBRARY_ERRORS = (OSError, ValueError, urllib3.exceptions.HTTPError, http.client.HTTPException)


def translated(error: Exception, where: str) -> ApiError:
    """Our error for what a library raised while talking to `where`; it quotes nothing but errno's text."""
    causes = tuple(_causes(error))

    def is_a(*kinds: type[Exception]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_a(*_CERTIFICATE):
        return ApiRefusedError(
            f"The certificate of {where} is not trusted, has expired, or is for another name.",
            code="tls",
            hint="Where the certificate is from an authority of your own, name its PEM file in api.ca_bundle."
            " Check this machine's clock too.",
        )
    if is_a(*_PROXY):
        return _proxy_failure(causes, where)
    if is_a(*_BAD_URL):
        return ApiRefusedError(
            f"The address on {where} can't be used.", code="bad_url", hint="Check api.base_url and the paths."
        )
    if is_a(requests.exceptions.TooManyRedirects):
        return redirected(where, None)
    if is_a(urllib3.exceptions.NameResolutionError, socket.gaierror):
        return ApiUnavailableError(f"The name {where} can't be resolved.", code="network", hint=WAY_OUT)
    if is_a(*_HUNG_UP) or is_a(urllib3.exceptions.NewConnectionError):
        return ApiUnavailableError(
            f"The connection to {where} failed: {_reason(causes)}.", code="network", hint=WAY_OUT
        )
    if is_a(*_TIMEOUT):
        return ApiUnavailableError(f"{where} did not answer in time.", code="timeout", hint=WAY_OUT)
    if is_a(*_TLS):
        return ApiRefusedError(
            f"No TLS connection to {where} comes about.",
            code="tls",
            hint="Check that the port speaks https, and which TLS versions it offers.",
        )
    if is_a(*_NONSENSE):
        return ApiUnavailableError(
            f"{where} broke off its reply, or it is not proper HTTP.", code="api_protocol"
        )
    if isinstance(error, ValueError):
        return ApiRefusedError(
            f"A request to {where} can't be made: a header or the address has characters that don't belong.",
            code="bad_request",
            hint="Check api.base_url, api.version and the credentials.",
        )
    return ApiUnavailableError(
        f"The connection to {where} failed: {_reason(causes)}.", code="network", hint=WAY_OUT
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it wraps, wherever the libraries put that."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None), error.__cause__):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _reason(causes: tuple[BaseException, ...]) -> str:
    for cause in causes:
        # The errno of an SSLError is not one of the operating system.
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno is not None:
            return os.strerror(cause.errno)
    return "it was closed without an answer"


def _proxy_failure(causes: tuple[BaseException, ...], where: str) -> ApiError:
    # The status of a refused CONNECT is nowhere but in the text of http.client's OSError.
    texts = (str(cause) for cause in causes if isinstance(cause, OSError))
    tunnel = next(
        filter(None, (re.match(r"Tunnel connection failed: (\d{3})", text) for text in texts)), None
    )
    if tunnel and tunnel[1].startswith("5"):
        return ApiUnavailableError(
            f"The proxy does not get through to {where} ({tunnel[1]}).",
            code="network",
            hint="Ask whoever runs the proxy if it lasts.",
        )
    if not tunnel and any(isinstance(cause, _UNREACHED) for cause in causes):
        return ApiUnavailableError(
            f"The proxy can't be reached: {_reason_unreached(causes)}.",
            code="network",
            hint="Does it run, and is api.proxy its address? Work goes on by itself once it answers.",
        )
    return proxy_refused(where, int(tunnel[1]) if tunnel else None)


def _reason_unreached(causes: tuple[BaseException, ...]) -> str:
    if any(isinstance(cause, socket.gaierror) for cause in causes):  # its errno is none of strerror's
        return "its name can't be resolved"
    # To urllib3 a connection that is refused is a timeout as well.
    if any(type(cause) in (TimeoutError, urllib3.exceptions.ConnectTimeoutError) for cause in causes):
        return "it did not answer in time"
    return _reason(causes)


def proxy_refused(where: str, status: int | None) -> ApiRefusedError:
    return ApiRefusedError(
        f"The proxy does not let us through to {where}{f' ({status})' if status else ''}.",
        code="proxy",
        status=status,
        hint="Check api.proxy: its address, and user and password in it where the proxy wants them.",
    )


def redirected(where: str, status: int | None) -> ApiRefusedError:
    return ApiRefusedError(
        f"{where} tried to send us elsewhere{f' ({status})' if status else ''}; redirects are not followed.",
        code="redirected",
        status=status,
        hint="Credentials and recordings go to no other host. If the API has moved, change api.base_url.",
    )


def stopped() -> StoppedError:
    return StoppedError("Stopping: the exchange was given up.")


def host_of(url: str) -> str:
    """The host (and port) of a URL for messages: nothing else of it may be shown."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "the given address"
    if not host or not re.fullmatch(r"[\w.:-]+", host):
        return "the given address"
    return f"{host}:{port}" if port else host
