"""What can be chosen about a sandbox: where it listens, how long things live, and how its replies look.

What the vendor's pages leave open or contradict is a choice here, so that a client can be tried on each.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from invox_watcher.sandbox import readings
from invox_watcher.sandbox.readings import Reading, ReplyShape

__all__ = ["Recognizer", "ReplyShape", "SandboxSettings"]

Recognizer = Literal["auto", "speech", "none"]

_RAW_SECRET_BYTES = (16, 24, 32)


@dataclass(frozen=True)
class SandboxSettings:
    """One sandbox. `port` 0 takes any free port; uploads are kept in `data_directory`.

    `readings` are names of `readings.READINGS`; the fields that they change must have their defaults here.

    `recognizer`: `speech` needs the `sandbox` extra, `auto` uses it where it is installed, `none` answers
    at once with sentences made from the content's SHA-256. `unuploaded_status` is the answer for a request
    id whose upload never came: unknown (404) or pending; the vendor's behaviour is not known.
    `result_delay_seconds` is the least time from the end of an upload to COMPLETED;
    `upload_bytes_per_second` slows the reading of uploads down, so that progress can be seen.

    Webhooks are signed with `app_secret` in either of the guide's layouts, and sent `webhook_delay_seconds`
    after the result is due. One that meets no 2xx within `webhook_timeout_seconds` is sent `webhook_retries`
    times more, after `webhook_backoff_seconds` and twice as long each time; `webhook_repeats` says how many
    times each is delivered. Receivers at https URLs must show a certificate that `webhook_ca`, a PEM file,
    vouches for; None trusts what the system trusts. `webhook_status_endpoint`: whether the status call
    answers for a request that named a callback URL, or never knows it (404); the vendor's pages don't say.

    Raises ValueError for readings that don't exist or contradict each other or these settings, and where
    the secret's length makes no AES key for the layout `raw`.
    """

    data_directory: Path
    app_id: str = "sandbox-app"
    api_key: str = "sandbox-key"
    host: str = "127.0.0.1"
    port: int = 0
    token_lifetime_seconds: int = 7200
    url_lifetime_seconds: float = 900
    result_delay_seconds: float = 0.5
    recognizer: Recognizer = "auto"
    unuploaded_status: Literal["unknown", "pending"] = "unknown"
    upload_bytes_per_second: int | None = None
    reply_shape: ReplyShape = field(default_factory=ReplyShape)
    app_secret: str = "sandbox-secret-of-32-characters!"
    signature_layout: Literal["raw", "salted"] = "raw"
    webhook_delay_seconds: float = 0
    webhook_timeout_seconds: float = 5
    webhook_retries: int = 4
    webhook_backoff_seconds: float = 0.2
    webhook_repeats: int = 1
    webhook_ca: Path | None = None
    webhook_status_endpoint: Literal["answers", "unknown"] = "answers"
    readings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.reading.aes_layout == "raw" and len(self.app_secret.encode()) not in _RAW_SECRET_BYTES:
            raise ValueError("app_secret: the layout raw needs 16, 24 or 32 bytes; change it, or use salted")

    @functools.cached_property
    def reading(self) -> Reading:
        """How this sandbox behaves: its readings, and the other settings about the same."""
        chosen = Reading(
            shape=self.reply_shape,
            before_upload=self.unuploaded_status,
            callback_jobs=self.webhook_status_endpoint,
            aes_layout=self.signature_layout,
        )
        return readings.combined([readings.named(self.readings), chosen])
