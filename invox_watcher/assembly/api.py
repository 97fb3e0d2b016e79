"""The API client, and the receiver of its webhooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from invox_watcher.config import Config
from invox_watcher.invox import ApiCall, ApiOptions, Credentials, InvoxApi, Receiver, TokenRequest
from invox_watcher.journal import Journal

if TYPE_CHECKING:
    from invox_watcher.net import HttpClient


def client_of(config: Config) -> HttpClient:
    """The HTTP client that the configuration describes."""
    # requests takes a while to load, and most commands make no call.
    from invox_watcher.net import HttpClient  # noqa: PLC0415

    return HttpClient(
        connect_timeout_seconds=config.api.connect_timeout_seconds,
        ca_bundle=str(config.api.ca_bundle) if config.api.ca_bundle else None,
        proxy=config.api.proxy,
    )


def api_of(
    config: Config,
    client: HttpClient,
    *,
    on_call: Callable[[ApiCall], None] | None = None,
    before_block: Callable[[], None] | None = None,
) -> InvoxApi:
    """The API client that the configuration describes; see `InvoxApi` for what is called."""
    token = config.api.token
    options = ApiOptions(
        base_url=config.api.base_url,
        version=config.api.version,
        headers=config.api.headers,
        token=TokenRequest(
            url=token.url,
            method=token.method,
            headers=token.headers,
            form=token.form,
            json=token.json_body,
            field=token.field,
            lifetime_seconds=token.lifetime_seconds,
        ),
        presign_path=config.api.presign_path,
        presign_fields=config.api.presign_fields,
        status_path=config.api.status_path,
        upload_headers=config.upload.headers,
        read_timeout_seconds=config.api.read_timeout_seconds,
        retry_max_seconds=config.retry.max_seconds,
    )
    return InvoxApi(
        client,
        options,
        app_id=config.credentials.app_id.get_secret_value(),
        api_key=config.credentials.api_key.get_secret_value(),
        on_call=on_call,
        before_block=before_block,
    )


def receiver_of(config: Config, journal: Journal, *, wake: Callable[[str], None]) -> Receiver | None:
    """The receiver of webhooks; None if there are to be none. `wake` expedites the job of a request."""
    secret = config.credentials.app_secret
    if not config.webhook.enabled or secret is None:
        return None
    credentials = Credentials(
        app_id=config.credentials.app_id.get_secret_value(),
        api_key=config.credentials.api_key.get_secret_value(),
        app_secret=secret.get_secret_value(),
    )
    return Receiver(credentials, record=journal.record_notice, wake=wake)
