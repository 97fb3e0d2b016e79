"""What can be chosen about a sandbox: where it listens, how long things live, and how its replies look.

What the vendor's pages leave open or contradict is a choice here, so that a client can be tried on each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Recognizer = Literal["auto", "speech", "none"]


@dataclass(frozen=True)
class ReplyShape:
    """The names the sandbox's replies use, where the vendor's type, example and prose disagree.

    `token_field` also decides the lifetime's name: `expiresIn`, `expires_in`, or none with a bare `token`.
    `speaker_field` `speakerId` has values like `Speaker_00`, `speaker` like `"0"`; None names no speaker.
    """

    token_field: Literal["accessToken", "access_token", "token"] = "accessToken"  # noqa: S105 - a field's name
    state_field: Literal["processingStatus", "transcriptionStatus"] = "processingStatus"
    speaker_field: Literal["speakerId", "speaker"] | None = "speakerId"
    message_field: Literal["message", "messsage"] = "message"
    vtt: bool = True


@dataclass(frozen=True)
class SandboxSettings:
    """One sandbox. `port` 0 takes any free port; uploads are kept in `data_directory`.

    `recognizer`: `speech` needs the `sandbox` extra, `auto` uses it where it is installed, `none` answers
    at once with sentences made from the content's SHA-256. `unuploaded_status` is the answer for a request
    id whose upload never came: unknown (404) or pending; the vendor's behaviour is not known.
    `result_delay_seconds` is the least time from the end of an upload to COMPLETED;
    `upload_bytes_per_second` slows the reading of uploads down, so that progress can be seen.
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
