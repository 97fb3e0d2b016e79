"""The access token: how it is bought, and what the reply looks like."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from tests.acceptance.readings.client import (
    BASE64,
    CREDENTIALS,
    FORM,
    GRANT,
    JSON,
    MISSING_TOKEN,
    PRESIGN,
    TOKEN,
    Answer,
    Client,
    bearer,
    check,
)
from tests.kit.waiting import wait_for

# --- the token: the request ---


def works(client: Client, answer: Answer, token: str | None = None) -> None:
    """A token was issued, and it is accepted."""
    assert answer.status == 200, answer.body
    assert client.presign(headers=bearer(token or answer.json()["accessToken"])).status == 200


@check("token-path")
def _(client: Client) -> None:
    assert client.token().outcome() == MISSING_TOKEN
    assert client.api.token_url == f"{client.api.base_url}/auth/v2/access-token"
    works(client, client.call("POST", client.api.token_url, GRANT, FORM | CREDENTIALS))


@check("token-port")
def _(client: Client) -> None:
    assert client.token().status == 404
    one, other = urlsplit(client.api.base_url), urlsplit(client.api.token_url)
    assert (one.hostname, other.path) == (other.hostname, TOKEN)
    assert one.port != other.port
    works(client, client.call("POST", client.api.token_url, GRANT, FORM | CREDENTIALS))
    assert client.call("POST", client.api.token_url.replace(TOKEN, PRESIGN)).status == 404
    assert client.api.stats()["unknown_paths"] == 2


@check("token-get")
def _(client: Client) -> None:
    assert client.token().status == 405
    assert client.call("GET", TOKEN).status == 401
    works(client, client.call("GET", TOKEN, headers=CREDENTIALS))


@check("token-json")
def _(client: Client) -> None:
    body = json.dumps({"appId": "sandbox-app", "apiKey": "sandbox-key"})
    assert client.token().status == 415
    assert client.call("POST", TOKEN, body, JSON | CREDENTIALS).status == 400
    assert client.call("POST", TOKEN, body.replace("sandbox-key", "wrong"), JSON).status == 401
    works(client, client.call("POST", TOKEN, body, JSON))


@check("token-json-grant")
def _(client: Client) -> None:
    assert client.token().outcome() == (415, {"message": "Unsupported Media Type"})
    assert client.call("POST", TOKEN, '{"grant_type": "password"}', JSON | CREDENTIALS).status == 400
    works(client, client.call("POST", TOKEN, '{"grant_type": "client_credentials"}', JSON | CREDENTIALS))


@check("token-form-credentials")
def _(client: Client) -> None:
    form = f"{GRANT}&client_id=sandbox-app&client_secret=sandbox-key"
    assert client.token(body=form).status == 400
    assert client.token({}, f"{form}x").status == 401
    works(client, client.token({}, form))


@check("token-bearer")
def _(client: Client) -> None:
    assert client.token().status == 401
    works(client, client.token(bearer(BASE64)))


@check("token-base64")
def _(client: Client) -> None:
    assert client.token().status == 401
    works(client, client.token({"Authorization": BASE64}))


@check("token-headers")
def _(client: Client) -> None:
    assert client.token().status == 401
    assert client.token({"x-app-id": "sandbox-app", "x-api-key": "wrong"}).status == 401
    works(client, client.token({"x-app-id": "sandbox-app", "x-api-key": "sandbox-key"}))


@check("token-no-body")
def _(client: Client) -> None:
    assert client.token().status == 400
    works(client, client.call("POST", TOKEN, headers=CREDENTIALS))


# --- the token: the reply ---


@check("token-access_token")
def _(client: Client) -> None:
    reply = client.token().json()
    assert set(reply) == {"access_token", "expires_in"}
    works(client, client.token(), reply["access_token"])


@check("token-token")
def _(client: Client) -> None:
    reply = client.token().json()
    assert set(reply) == {"token"}
    works(client, client.token(), reply["token"])


@check("token-data")
def _(client: Client) -> None:
    reply = client.token().json()
    assert (set(reply), set(reply["data"])) == ({"data"}, {"access_token", "expires_in"})
    works(client, client.token(), reply["data"]["access_token"])


@check("token-odd")
def _(client: Client) -> None:
    works(client, client.token(), client.token().json()["result"]["credentials"]["jwt"])


@check("token-text")
def _(client: Client) -> None:
    reply = client.token()
    assert reply.headers.get_content_type() == "text/plain"
    works(client, reply, reply.body.decode())


@check("token-json-string")
def _(client: Client) -> None:
    reply = client.token()
    assert isinstance(reply.json(), str)
    works(client, reply, reply.json())


def lifetime(client: Client) -> dict[str, Any]:
    """What the reply has besides the token."""
    reply: dict[str, Any] = client.token().json()
    works(client, client.token(), reply.pop("accessToken"))
    return reply


@check("lifetime-text")
def _(client: Client) -> None:
    assert lifetime(client) == {"expiresIn": "7200"}


@check("lifetime-milliseconds")
def _(client: Client) -> None:
    assert lifetime(client) == {"expiresIn": 7_200_000}


@check("lifetime-expires-at")
def _(client: Client) -> None:
    rest = lifetime(client)
    assert set(rest) == {"expiresAt"}
    assert rest["expiresAt"].endswith("Z")
    left = datetime.fromisoformat(rest["expiresAt"]) - datetime.now(UTC)
    assert 7190 < left.total_seconds() <= 7200


@check("lifetime-epoch")
def _(client: Client) -> None:
    rest = lifetime(client)
    assert set(rest) == {"expiresAt"}
    assert 7190 < rest["expiresAt"] - time.time() <= 7200


@check("lifetime-jwt", token_lifetime_seconds=300)
def _(client: Client) -> None:
    reply = client.token().json()
    assert set(reply) == {"accessToken"}
    head, claims, signature = reply["accessToken"].split(".")
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["typ"] == "JWT"
    assert 290 < json.loads(base64.urlsafe_b64decode(claims + "=="))["exp"] - time.time() <= 300
    assert signature
    works(client, client.token(), reply["accessToken"])


@check("lifetime-none")
def _(client: Client) -> None:
    assert lifetime(client) == {}


@check("oauth-errors")
def _(client: Client) -> None:
    wrong = client.token({"Authorization": "Basic d3Jvbmc6d3Jvbmc="})
    assert (wrong.status, set(wrong.json())) == (401, {"error", "error_description"})
    assert wrong.json()["error"] == "invalid_client"
    assert client.token(body="grant_type=password").json()["error"] == "unsupported_grant_type"
    assert "message" in client.presign("audio/aac").json()


@check("expired-token-403", token_lifetime_seconds=1)
def _(client: Client) -> None:
    assert client.presign().status == 200
    refused = (403, {"message": "User is not authorized to access this resource"})
    wait_for("the token has expired", lambda: client.presign().status != 200)
    assert client.presign().outcome() == refused
    assert client.presign(headers={}).outcome() == refused


@check("expired-token-bare")
def _(client: Client) -> None:
    refused = client.presign(headers=bearer("made-up"))
    assert (refused.status, refused.body) == (401, b"")


@check("one-token")
def _(client: Client) -> None:
    first = client.token().json()["accessToken"]
    second = client.token().json()["accessToken"]
    assert client.presign(headers=bearer(first)).status == 401
    assert client.presign(headers=bearer(second)).status == 200
