"""Deliveries by HTTP: one request each, and what an answer means for the delivery."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from invox_watcher.delivery.connecting import tls_context
from invox_watcher.errors import (
    ApiError,
    DeliveryUncertainError,
    StoppedError,
    TargetError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadUncertainError,
)
from invox_watcher.net import HttpClient, HttpReply, retry_after_seconds

_MOST_RETRY_AFTER_SECONDS = 3600.0
# Statuses that are about this request's content (RFC 9110 §15.5); all other errors are the same for any.
_OF_CONTENT = frozenset({400, 406, 411, 412, 413, 414, 415, 417, 422, 431})
_FROM_GATEWAY = frozenset({502, 504})  # what is behind it may have taken the request
_HINTS = {
    "tls": "Is it from an authority of your own? Set ca_bundle. Check this machine's clock too.",
    "proxy": "Check proxy.",
    "redirected": "Redirects are not followed: set url to the address that it leads to.",
    "bad_url": "Check url.",
    "bad_request": "Check url and the secret: one contains characters that HTTP does not allow.",
}
_ANSWER_HINTS = {
    401: "Check the secret or token, and whether it has expired.",
    403: "The server recognised the request, but does not allow it: ask its administrator.",
    404: "Check url: nothing is there.",
    405: "Check url: it takes no POST.",
    410: "The receiver has been removed.",
}


@dataclass(frozen=True)
class HttpOptions:
    """Where to, and how."""

    url: str
    ca_bundle: Path | None
    proxy: str | None = field(repr=False)  # may hold a password
    timeout_seconds: float


class Poster:
    """Sends requests to one server; connections are kept for a moment."""

    def __init__(self, options: HttpOptions, *, retried: frozenset[int] = frozenset()) -> None:
        """`retried`: statuses after which this server's protocol says to try again."""
        self._options = options
        self._of_content = _OF_CONTENT | (frozenset({409}) - retried)
        self._client: HttpClient | None = None  # made by the first request: it has a thread

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> HttpReply:
        """The reply, if it is 2xx.

        Raises:
            TargetRefusedError, TargetUnavailableError, DeliveryUncertainError.
        """
        seconds = self._options.timeout_seconds
        return self._answer_to(
            lambda client: client.deliver(url, headers=headers, body=body, deadline_seconds=seconds)
        )

    def get(self, url: str, headers: Mapping[str, str]) -> HttpReply:
        """The reply, if it is 2xx; raises TargetError."""
        seconds = self._options.timeout_seconds
        return self._answer_to(
            lambda client: client.call("GET", url, headers=headers, body=None, deadline_seconds=seconds)
        )

    def _answer_to(self, request: Callable[[HttpClient], HttpReply]) -> HttpReply:
        failure: TargetError
        try:
            reply = request(self._connected())
        except UploadUncertainError as error:
            failure = DeliveryUncertainError(error.message)
        except (ApiError, StoppedError) as error:
            failure = _translated(error)
        else:
            if reply.ok:
                return reply
            failure = self.refusal(reply)
        raise failure

    def reach(self) -> None:
        """Connect, and request nothing; raises TargetUnavailableError."""
        failure: TargetError | None = None
        try:
            self._connected().reach(self._options.url, deadline_seconds=self._options.timeout_seconds)
        except (ApiError, StoppedError) as error:
            failure = _translated(error)
        if failure is not None:
            raise failure

    def abort(self) -> None:
        """End a request under way; all that follow until `close` fail as well."""
        if self._client is not None:
            self._client.abort_all()

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def refusal(self, reply: HttpReply) -> TargetError:
        """What a reply outside 2xx means. Its text is not quoted: it may repeat what was sent."""
        message = f"{reply.where} answered {reply.status}."
        if reply.status in _FROM_GATEWAY:
            return DeliveryUncertainError(message)
        if reply.status in self._of_content:
            hint = "The receiver does not take this content as it is: its log has the reason."
            return TargetRefusedError(message, code=f"http_{reply.status}", hint=hint)
        return TargetUnavailableError(
            message,
            code=f"http_{reply.status}",
            hint=_ANSWER_HINTS.get(reply.status, "The receiver's log has the reason."),
            retry_after_seconds=retry_after_seconds(
                reply.headers.get("Retry-After"),
                now=datetime.now(UTC),
                max_seconds=_MOST_RETRY_AFTER_SECONDS,
            ),
        )

    def _connected(self) -> HttpClient:
        if self._client is None:
            bundle = self._options.ca_bundle
            tls_context(bundle)  # raises what is wrong with it
            self._client = HttpClient(
                ca_bundle=str(bundle) if bundle else None,
                proxy=self._options.proxy,
                connect_timeout_seconds=self._options.timeout_seconds,
            )
        return self._client


def _translated(error: ApiError | StoppedError) -> TargetUnavailableError:
    hint = _HINTS.get(
        error.code, "Check url, and whether the server is running and this machine can reach it."
    )
    return TargetUnavailableError(error.message, code=error.code, hint=hint)
