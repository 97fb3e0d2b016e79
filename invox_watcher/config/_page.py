"""The section `page`: where the page listens, and who may see it."""

from __future__ import annotations

import importlib.util
import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from invox_watcher.config._types import AbsolutePath, Minutes, Section, Unique, host_and_port

_UNIX = "unix:"
_MAX_SOCKET_PATH = 107  # bytes; see unix(7)
_WIDEST_NETWORK = 7  # bits: fc00::/7 is the widest that anyone owns
# Any browser sends these, or they mean something else.
_OTHER_HEADERS = re.compile(
    r"(accept|access-control|content|if|sec|proxy|cf|fly)-.*"
    r"|x-forwarded-(?!(user|email|preferred-username)$).*|x-real-ip|x-csrf-token|x-requested-with"
    r"|accept|authorization|cache-control|connection|cookie|cookie2|date|dnt|expect|forwarded|from|host"
    r"|keep-alive|last-event-id|origin|pragma|priority|range|referer|te|trailer|transfer-encoding"
    r"|true-client-ip|upgrade|upgrade-insecure-requests|user-agent|via|warning",
    re.IGNORECASE,
)
_LIBRARIES = ("jinja2", "bcrypt")
_INSTALL = (
    "pip install 'PATH[page]', where PATH is the wheel or the clone that invox-watcher was installed from "
    "(the Debian package has it)"
)


class PageSection(Section):
    listen: str | None = Field(
        None,
        description="Address of the page, for example 127.0.0.1:8786, or unix: and the absolute path of a "
        "socket for a web server on this machine; null for no page. It shows names and transcripts: put a "
        "web server with TLS in front of it. See docs/install.md.",
        examples=["unix:/run/invox-watcher/page.sock"],
        json_schema_extra={"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
    )
    users_file: AbsolutePath | None = Field(
        None,
        description="The file of users with their passwords, roles and profiles. `invox-watcher page user "
        "NAME` writes it; a change takes effect at once.",
        examples=["/etc/invox-watcher/users.yaml"],
    )
    user_header: str | None = Field(
        None,
        description="The header in which a trusted web server names the user whom it has signed in. Their "
        "roles and profiles are those of the users file, in whatever spelling the name comes.",
        examples=["X-Remote-User"],
    )
    trusted_proxies: Annotated[tuple[str, ...], Field(strict=False), Unique] = Field(
        (),
        description="Addresses or networks of web servers whose user_header, X-Forwarded-For and "
        "X-Forwarded-Proto are believed; from others they are ignored. What comes through a Unix socket is "
        "always trusted.",
        examples=[["127.0.0.1", "10.0.5.0/24"]],
    )
    header_roles: Annotated[tuple[Literal["see", "listen", "act"], ...], Field(strict=False), Unique] = Field(
        (),
        description="What users may do whom user_header names and the users file does not have: see names "
        "and states, listen to recordings and read transcripts, act (retry, send again), for all profiles. "
        "Empty: nothing. They count only while the users file gives no one less; see the next key.",
        examples=[["see", "listen"]],
    )
    header_roles_beside_limits: bool = Field(
        False,
        description="Whether header_roles count even if the users file gives someone less: fewer roles, or "
        "only some profiles. Set it only if the web server passes on each name in one form: who is limited "
        "as anna, and is let in as anna@CLINIC.EXAMPLE as well, would have them under that name.",
    )
    session_minutes: Minutes = Field(480, description="After this time one has to sign in again.")
    idle_minutes: Minutes = Field(
        60, description="The same, if nothing was done; a page that updates itself does not count."
    )

    @field_validator("listen", mode="before")
    @classmethod
    def _address_or_socket(cls, value: object) -> str | None:
        if not isinstance(value, str) or not value.startswith(_UNIX):
            wanted = 'host:port, for example 127.0.0.1:8786, or "unix:/path/of/a.sock"'
            address = host_and_port(value, wanted)
            if address is not None and int(address.rpartition(":")[2]) == 0:
                raise ValueError(f"must be {wanted}, with a port that is not 0")
            return address
        path = value.removeprefix(_UNIX)
        if not path.startswith("/") or not path.isprintable() or len(path.encode()) > _MAX_SOCKET_PATH:
            raise ValueError(
                "must have an absolute path of at most 107 bytes after unix:, for example "
                "unix:/run/invox-watcher/page.sock"
            )
        return value

    @field_validator("user_header")
    @classmethod
    def _header_name(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z0-9-]+", value):
            raise ValueError("must be the name of a header, for example X-Remote-User")
        if value is not None and _OTHER_HEADERS.fullmatch(value):
            raise ValueError(
                "must be a header of its own, for example X-Remote-User: browsers send this one, or it means "
                "something else"
            )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            try:
                network = ip_network(one)
            except ValueError:
                raise ValueError(
                    "must list IP addresses and networks, for example [127.0.0.1, 10.0.5.0/24]"
                ) from None
            if network.prefixlen < _WIDEST_NETWORK:
                raise ValueError(
                    f"must name the web servers, and not everyone: from {one} anyone could be anyone"
                )
        return value

    @model_validator(mode="after")
    def _usable(self) -> PageSection:
        if self.listen is None:
            return self
        missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
        if missing:
            _refuse("listen", f"needs the extra `page`, which is not installed: {_INSTALL}")
        if self.users_file is None and self.user_header is None:
            _refuse(
                "users_file", "or page.user_header is required if page.listen is set: who may see the page?"
            )
        if self.user_header is not None and not self.trusted_proxies and self.socket is None:
            _refuse("trusted_proxies", "must name the web servers whose page.user_header is believed")
        if self.users_file is None and not self.header_roles:
            _refuse("header_roles", "or page.users_file is required: otherwise no one may see anything")
        return self

    @property
    def socket(self) -> Path | None:
        """The Unix socket to listen on; None for an address."""
        if self.listen is None or not self.listen.startswith(_UNIX):
            return None
        return Path(self.listen.removeprefix(_UNIX))

    @property
    def address(self) -> tuple[str, int] | None:
        """Host (IPv6 without brackets) and port to listen on; None for a socket, or for no page."""
        if self.listen is None or self.socket is not None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """`trusted_proxies` as networks."""
        return [ip_network(one) for one in self.trusted_proxies]


def _refuse(key: str, message: str) -> None:
    raise PydanticCustomError("incomplete", "{message}", {"message": message, "key": key})
