"""A browser without a window: keeps cookies, follows nothing, and can come from any address of loopback."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

SECONDS = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def cookie(self) -> str:
        """The whole Set-Cookie header; empty without one."""
        return self.headers.get("Set-Cookie", "")


@dataclass
class Browser:
    """`at` is host and port, or the path of a Unix socket."""

    at: tuple[str, int] | Path
    headers: dict[str, str] = field(default_factory=dict)  # of every request
    source: str = "127.0.0.1"
    cookies: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **headers: str) -> Answer:
        """GET; of header names, underscores are hyphens."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """POST of a form."""
        form = {"content-type": "application/x-www-form-urlencoded"}
        return self.request("POST", path, urlencode(fields), headers=form | headers)

    def request(
        self, method: str, path: str, body: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Any request."""
        connection = self.connection()
        try:
            sent = self.headers | {name.replace("_", "-"): value for name, value in (headers or {}).items()}
            if self.cookies:
                sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        finally:
            connection.close()
        self._keep(answer)
        return answer

    def connection(self) -> http.client.HTTPConnection:
        """A connection that is not used yet."""
        if isinstance(self.at, Path):
            connection = http.client.HTTPConnection("page.example", timeout=SECONDS)
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(SECONDS)
            try:
                connection.sock.connect(str(self.at))
            except OSError:
                connection.close()
                raise
            return connection
        return http.client.HTTPConnection(*self.at, timeout=SECONDS, source_address=(self.source, 0))

    def sign_in(self, name: str, password: str, **fields: str) -> Answer:
        """Sign in by the form."""
        return self.post("/sign-in", {"name": name, "password": password} | fields)

    def token(self, path: str = "/") -> str:
        """What the forms of a page carry."""
        found = re.search(r'name="token" value="([^"]+)"', self.get(path).text)
        assert found is not None
        return found[1]

    def _keep(self, answer: Answer) -> None:
        name, _, rest = answer.cookie.partition("=")
        value = rest.partition(";")[0].strip('"')
        if name and value:
            self.cookies[name] = value
        elif name:
            self.cookies.pop(name, None)
