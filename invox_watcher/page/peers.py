"""Who is at the other end of a connection, and what of a request's headers can be believed.

Only a trusted proxy may say who its user is, where that user is, and that the connection to him is encrypted.
The same headers of anyone else are removed before anything reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

Network = IPv4Network | IPv6Network
_LOCAL_SOCKET = "unix"
_FOR, _PROTO = b"x-forwarded-for", b"x-forwarded-proto"

RawHeaders = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Peer:
    """The browser, as far as it is known."""

    address: str  # its IP address, or `unix`
    is_https: bool  # whether its connection, to the proxy, is encrypted
    named: str | None  # the user that a trusted proxy names; None if it names none
    headers: RawHeaders = field(repr=False)  # of the request, without those that only a proxy may send
    cookies: Mapping[str, str] = field(repr=False)


def peer_of(scope: Mapping[str, Any], trusted: Sequence[Network], user_header: str | None) -> Peer:
    """The browser that sent the request of this ASGI scope.

    Through a Unix socket comes only whom its permissions let in: that is a trusted proxy.
    """
    client = scope.get("client")
    address = client[0] if client else _LOCAL_SOCKET
    header = user_header.lower().encode() if user_header else None
    headers: RawHeaders = [pair for pair in scope["headers"] if pair[0] not in (header, _FOR, _PROTO)]
    cookies = _cookies(headers)
    if address != _LOCAL_SOCKET and not _is_among(address, trusted):
        return Peer(address, False, None, headers, cookies)
    named = _single(scope["headers"], header) if header else None
    is_https = _single(scope["headers"], _PROTO) == "https"
    return Peer(_behind(scope["headers"], address, trusted), is_https, named, headers, cookies)


def _behind(headers: RawHeaders, address: str, trusted: Sequence[Network]) -> str:
    """The last address in X-Forwarded-For that is not a trusted proxy's: any before it could be made up."""
    listed = b",".join(value for name, value in headers if name == _FOR).decode("latin-1").split(",")
    for one in reversed([text.strip() for text in listed]):
        try:
            ip_address(one)
        except ValueError:
            break
        address = one
        if not _is_among(one, trusted):
            break
    return address


def _is_among(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in networks)


def _single(headers: RawHeaders, name: bytes) -> str | None:
    """The value of a header that comes once and is not empty; a second one may be the browser's own."""
    values = [value for key, value in headers if key == name]
    if len(values) != 1:
        return None
    return values[0].decode("utf-8", "replace").strip() or None


def _cookies(headers: RawHeaders) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                key, _, content = part.strip().partition("=")
                found.setdefault(key, content)
    return found
