"""Connections of targets: TLS, a deadline for a whole delivery, errors without names."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from invox_watcher.errors import TargetError, TargetUnavailableError
from invox_watcher.heartbeat import beat
from invox_watcher.net import SocketHandle

_CERTIFICATE = "Is it from an authority of your own? Set ca_bundle. Check this machine's clock too."


class Guard:
    """Ends a delivery that takes longer than its deadline, or that is aborted, by its socket.

    A timeout for each read alone would never end a peer that sends one byte now and then.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._handle = SocketHandle()
        self._ended = False

    @contextlib.contextmanager
    def over_delivery(self) -> Iterator[None]:
        """The block has `seconds`; after that, and after `abort`, its reads and writes fail."""
        with self._lock:
            self._ended = False
        timer = threading.Timer(self._seconds, self.abort)
        timer.daemon = True
        timer.start()
        beat(self._seconds)
        try:
            yield
        finally:
            timer.cancel()
            beat()

    def watch(self, sock: socket.socket) -> None:
        """The socket of this delivery and the next ones."""
        with self._lock:
            self._handle.follow(sock.fileno())
            if self._ended:
                self._handle.shut_down()

    @property
    def has_ended(self) -> bool:
        """Whether the delivery was aborted, or reached its deadline."""
        with self._lock:
            return self._ended

    def abort(self) -> None:
        """End the delivery in progress, if there is one."""
        with self._lock:
            self._ended = True
            self._handle.shut_down()

    def release(self) -> None:
        """Close the handle: the connection was closed."""
        with self._lock:
            self._handle.close()


def tls_context(ca_bundle: Path | None, certificate: Path | None = None) -> ssl.SSLContext:
    """A client's context that checks certificates; `certificate` is our own, with its key, in one PEM file.

    Raises:
        TargetUnavailableError: `tls`, a file can't be used.
    """
    try:
        context = ssl.create_default_context(cafile=str(ca_bundle) if ca_bundle else None)
    except OSError:  # also ssl.SSLError
        raise TargetUnavailableError(
            f"Can't load certificates from {ca_bundle}.",
            code="tls",
            hint="ca_bundle must be a PEM file that the daemon's user can read.",
        ) from None
    try:
        if certificate is not None:
            context.load_cert_chain(certificate)
    except OSError:
        raise TargetUnavailableError(
            f"Can't load a certificate and its key from {certificate}.",
            code="tls",
            hint="client_certificate must be a PEM file with both, that the daemon's user can read.",
        ) from None
    return context


def refuses_tls(error: OSError) -> bool:
    """Whether it is an error of the TLS layer, rather than an end of the connection."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)


def unreachable(where: str, error: OSError) -> TargetError:
    """The error for what a socket raised while talking to `where` (`host:port`); quotes only errno's text."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TargetUnavailableError(
            f"The certificate of {where} is not trusted.", code="tls", hint=_CERTIFICATE
        )
    if refuses_tls(error):
        return TargetUnavailableError(
            f"TLS handshake with {where} failed.",
            code="tls",
            hint="Does this port expect TLS, or a certificate of ours? Check port and tls.",
        )
    if isinstance(error, socket.gaierror):
        return TargetUnavailableError(
            f"Can't resolve the host name of {where}.", code="network", hint="Check host, and DNS."
        )
    if isinstance(error, TimeoutError):
        return TargetUnavailableError(
            f"{where} did not answer in time.", code="timeout", hint="Check host and port, and any firewall."
        )
    is_errno = error.errno is not None and not isinstance(error, ssl.SSLError)
    reason = os.strerror(error.errno) if is_errno and error.errno is not None else "closed by the other side"
    return TargetUnavailableError(
        f"The connection to {where} failed: {reason}.",
        code="network",
        hint="Check host and port, and whether the server is running.",
    )


def secret_in(file: Path, key: str) -> str:
    """The secret in the file that `key` of the configuration names; read at each use, to be changeable.

    Raises:
        TargetUnavailableError: `secret`, there is none.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        fault = f"can't be read: {error.strerror}"
    except UnicodeDecodeError:
        fault = "is not UTF-8 text"
    else:
        if text and text.isprintable() and text == text.strip():
            return text
        fault = "must contain one line, which neither begins nor ends with a space"
    raise TargetUnavailableError(
        f"{key}: {file} {fault}.", code="secret", hint="The daemon's user must be able to read it."
    )
