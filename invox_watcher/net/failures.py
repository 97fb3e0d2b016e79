"""Translates what requests, urllib3, ssl and socket raise into the package's errors."""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
from collections.abc import Iterator

import requests
import urllib3
from urllib3.util.ssl_match_hostname import CertificateError

from invox_watcher.errors import ApiError, ApiRefusedError, ApiUnavailableError, StoppedError

WAY_OUT = "Check api.base_url, and whether this machine has network access: DNS, firewall, api.proxy."


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
    http.client.InvalidURL,  # a space or a control character in it: nothing was sent
)
# Raised if the peer closes the connection; http.client.RemoteDisconnected is a ConnectionError as well.
_HUNG_UP = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_TLS = (ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError)
_TIMEOUT = (TimeoutError, requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)
# The proxy itself is unreachable, rather than the host behind it.
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
    """The ApiError for what a library raised while talking to `where`; it quotes only errno's text."""
    causes = tuple(_causes(error))

    def is_a(*kinds: type[Exception]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_a(*_CERTIFICATE):
        return _certificate_failure(causes, where)
    if is_a(*_PROXY):
        return _proxy_failure(causes, where)
    if is_a(*_BAD_URL):
        return ApiRefusedError(
            f"The URL on {where} is invalid.",
            code="bad_url",
            hint="Check api.base_url and the api.*_path keys.",
        )
    if is_a(requests.exceptions.TooManyRedirects):
        return redirected(where, None)
    if is_a(urllib3.exceptions.NameResolutionError, socket.gaierror):
        return ApiUnavailableError(f"Can't resolve the host name {where}.", code="network", hint=WAY_OUT)
    if is_a(*_HUNG_UP) or is_a(urllib3.exceptions.NewConnectionError):
        return ApiUnavailableError(
            f"The connection to {where} failed: {_reason(causes)}.", code="network", hint=WAY_OUT
        )
    if is_a(*_TIMEOUT):
        return ApiUnavailableError(f"{where} did not answer in time.", code="timeout", hint=WAY_OUT)
    if is_a(*_TLS):
        return ApiRefusedError(
            f"TLS handshake with {where} failed.",
            code="tls",
            hint="Check that the port serves HTTPS, and which TLS versions it supports.",
        )
    if is_a(*_NONSENSE):
        return ApiUnavailableError(
            f"The reply of {where} was cut short or is not valid HTTP.", code="api_protocol"
        )
    if isinstance(error, ValueError):
        return ApiRefusedError(
            f"Can't send a request to {where}: its URL or a header contains invalid characters.",
            code="bad_request",
            hint="Check api.base_url, api.version and the credentials.",
        )
    return ApiUnavailableError(
        f"The connection to {where} failed: {_reason(causes)}.", code="network", hint=WAY_OUT
    )


# What is wrong with a certificate, by OpenSSL's code (x509_vfy.h): the sentence's end, and what to do.
_OWN_AUTHORITY = "If it is from an authority of your own, or a proxy that inspects TLS, set api.ca_bundle."
_CERTIFICATE_FAULTS = {
    9: ("is not valid yet", "Check this machine's clock."),
    10: ("has expired", "Check this machine's clock; if it is right, the certificate has to be renewed."),
    18: ("is self-signed", _OWN_AUTHORITY),
    19: ("is from an authority that this machine does not trust", _OWN_AUTHORITY),
    20: ("is from an authority that this machine does not trust", _OWN_AUTHORITY),
    21: ("is from an authority that this machine does not trust", _OWN_AUTHORITY),
    62: ("is for another host", "Check the host's name in api.base_url."),
    64: ("is for another host", "Check the address in api.base_url."),
}


def _certificate_failure(causes: tuple[BaseException, ...], where: str) -> ApiRefusedError:
    codes = (getattr(cause, "verify_code", None) for cause in causes)
    fault, hint = next(
        (_CERTIFICATE_FAULTS[code] for code in codes if code in _CERTIFICATE_FAULTS),
        ("is not trusted", f"{_OWN_AUTHORITY} Check this machine's clock too."),
    )
    return ApiRefusedError(f"The certificate of {where} {fault}.", code="tls", hint=hint)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and every exception that it wraps; the libraries differ in where they keep it."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None), error.__cause__):
        if isinstance(inner, BaseException):
            yield from _causes(inner)


def _reason(causes: tuple[BaseException, ...]) -> str:
    for cause in causes:
        # The errno of an SSLError is not an operating system error.
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno is not None:
            return os.strerror(cause.errno)
    return "closed without a response"


def _proxy_failure(causes: tuple[BaseException, ...], where: str) -> ApiError:
    # http.client gives the status of a refused CONNECT only in the text of its OSError.
    texts = (str(cause) for cause in causes if isinstance(cause, OSError))
    tunnel = next(
        filter(None, (re.match(r"Tunnel connection failed: (\d{3})", text) for text in texts)), None
    )
    if tunnel and tunnel[1].startswith("5"):
        return ApiUnavailableError(
            f"The proxy can't reach {where} ({tunnel[1]}).",
            code="network",
            hint="Contact the proxy's administrator if it persists.",
        )
    if not tunnel and any(isinstance(cause, _UNREACHED) for cause in causes):
        return ApiUnavailableError(
            f"Can't reach the proxy: {_reason_unreached(causes)}.",
            code="network",
            hint="Check that it is running at the address in api.proxy. Processing resumes automatically.",
        )
    return proxy_refused(where, int(tunnel[1]) if tunnel else None)


def _reason_unreached(causes: tuple[BaseException, ...]) -> str:
    if any(isinstance(cause, socket.gaierror) for cause in causes):  # strerror does not know its errno
        return "can't resolve its host name"
    # urllib3 reports a refused connection as a timeout as well.
    if any(type(cause) in (TimeoutError, urllib3.exceptions.ConnectTimeoutError) for cause in causes):
        return "no response in time"
    return _reason(causes)


def proxy_refused(where: str, status: int | None) -> ApiRefusedError:
    return ApiRefusedError(
        f"The proxy refused to connect to {where}{f' ({status})' if status else ''}.",
        code="proxy",
        status=status,
        hint="Check api.proxy: its address, and the user name and password in it if the proxy needs them.",
    )


def redirected(where: str, status: int | None) -> ApiRefusedError:
    return ApiRefusedError(
        f"{where} answered with a redirect{f' ({status})' if status else ''}; redirects are not followed.",
        code="redirected",
        status=status,
        hint="Credentials and recordings go to no other host. If the API has moved, change api.base_url.",
    )


def stopped() -> StoppedError:
    return StoppedError("Stopping: the request was cancelled.")
