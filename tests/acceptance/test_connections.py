"""Every exception that a library can raise while it talks becomes one of ours, and gives nothing away."""

from __future__ import annotations

import http.client
import inspect
import socket
import ssl
from typing import Any

import pytest
import requests
import urllib3

from invox_watcher.errors import ApiError, ApiRefusedError, ApiUnavailableError
from invox_watcher.net.failures import translated

SECRET = "Sup3rS3cret"


def exceptions_of(module: Any) -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception)
        and not issubclass(kind, Warning)
        and kind.__module__ == module.__name__
    ]


UNAVAILABLE = {
    requests.exceptions.ConnectionError: "network",
    requests.exceptions.ConnectTimeout: "timeout",
    requests.exceptions.ReadTimeout: "timeout",
    requests.exceptions.Timeout: "timeout",
    requests.exceptions.ChunkedEncodingError: "api_protocol",
    requests.exceptions.ContentDecodingError: "api_protocol",
    requests.exceptions.InvalidJSONError: "api_protocol",
    requests.exceptions.JSONDecodeError: "api_protocol",
}
REFUSED = {
    requests.exceptions.SSLError: "tls",
    requests.exceptions.ProxyError: "proxy",
    requests.exceptions.InvalidProxyURL: "proxy",
    requests.exceptions.InvalidURL: "bad_url",
    requests.exceptions.InvalidSchema: "bad_url",
    requests.exceptions.MissingSchema: "bad_url",
    requests.exceptions.URLRequired: "bad_url",
    requests.exceptions.InvalidHeader: "bad_request",
    requests.exceptions.TooManyRedirects: "redirected",
}


@pytest.mark.parametrize("kind", exceptions_of(requests.exceptions))
def test_every_exception_of_requests_becomes_ours(kind: type[Exception]) -> None:
    args = (SECRET, SECRET, 0) if kind is requests.exceptions.JSONDecodeError else (SECRET,)
    error = translated(kind(*args), "api.example.com")
    if kind in REFUSED:
        assert (type(error), error.code) == (ApiRefusedError, REFUSED[kind])
    else:
        assert (type(error), error.code) == (ApiUnavailableError, UNAVAILABLE.get(kind, "network"))
    assert SECRET not in str(error) + error.hint
    assert "api.example.com" in error.message
    assert error.hint


@pytest.mark.parametrize("kind", exceptions_of(urllib3.exceptions))
def test_every_exception_of_urllib3_becomes_ours(kind: type[Exception]) -> None:
    wrapped = kind.__new__(kind)
    wrapped.args = (SECRET,)
    for error in (
        translated(wrapped, "api.example.com"),
        translated(requests.exceptions.ConnectionError(wrapped), "api.example.com"),
    ):
        assert isinstance(error, ApiError)
        assert SECRET not in str(error) + error.hint


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (http.client.BadStatusLine(SECRET), "api_protocol"),
        (http.client.InvalidURL(SECRET), "bad_url"),
        (http.client.RemoteDisconnected(SECRET), "network"),
        (ssl.SSLCertVerificationError(1, SECRET), "tls"),
        (ssl.SSLEOFError(8, SECRET), "network"),
        (ssl.SSLError(1, SECRET), "tls"),
        (TimeoutError(SECRET), "timeout"),
        (OSError(113, SECRET), "network"),
        (ValueError(SECRET), "bad_request"),
    ],
)
def test_what_the_standard_library_raises_becomes_ours(raised: Exception, code: str) -> None:
    error = translated(raised, "api.example.com")
    assert (error.code, SECRET in str(error)) == (code, False)


def test_an_unreachable_api_comes_with_a_hint() -> None:
    for raised in (OSError(113, SECRET), socket.gaierror(-2, SECRET)):
        hint = translated(raised, "api.example.com").hint
        assert "api.base_url" in hint
        assert "api.proxy" in hint
