"""The configuration: one schema gives types, defaults, checks, the example file and the JSON schema.

`load` reports everything that is wrong at once, each problem with its key and its line. What it returns can't
be changed, and shows no secret when printed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from invox_watcher.config._types import (
    AbsolutePath,
    ApiUrl,
    CallbackUrl,
    Command,
    Days,
    JsonObject,
    MimeType,
    Names,
    ProxyUrl,
    ReadableFile,
    Seconds,
    Section,
    SomeUnique,
    Text,
    TokenUrl,
    Unique,
    UrlPath,
    ordered,
)
from invox_watcher.logs import Level
from invox_watcher.outputs import OutputFormat

REQUIRED_CREDENTIALS = ("app_id", "api_key")
_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


def _not_required(*names: str) -> Callable[[dict[str, Any]], None]:
    """Keys that `load` can fill from elsewhere may be left out of the file."""

    def edit(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in names]

    return edit


class TokenSection(Section):
    url: TokenUrl = Field("/oauth/token", description="A path below api.base_url, or a whole https address.")
    method: Literal["POST", "GET"] = Field("POST", description="The request's method.")
    headers: Names = Field({"Authorization": "Basic {base64}"}, description="Its headers.")
    form: Names | None = Field(
        {"grant_type": "client_credentials"},
        description="Its body, as a form; null for none.",
    )
    json_body: JsonObject | None = Field(
        None,
        alias="json",
        description="Its body as a JSON object, sent instead of the form.",
        examples=[{"appId": "{app_id}", "apiKey": "{api_key}"}],
    )
    field: Text | None = Field(
        None,
        description="Where the token is in the reply; null: under one of the usual names, also one level "
        "down, or the whole text.",
        examples=["data.access_token"],
    )
    lifetime_seconds: Seconds | None = Field(
        None, description="How long a token is used; null: what the reply says, else 7200."
    )


class ApiSection(Section):
    base_url: ApiUrl = Field(
        description="Required. Where the API is, without the paths below. The vendor gives this address with "
        "the credentials. It must be https, except on this machine.",
        examples=["https://api.example.com"],
    )
    version: Text | None = Field(
        "2025-11-01",
        description="Sent as X-Invox-Medical-Api-Version; null sends none. Keep it in quotes.",
    )
    headers: Names = Field(
        {},
        description="Further headers of every request to the API. {app_id}, {api_key} and {base64} (of "
        "APP_ID:API_KEY) in a value are filled in, here and in the keys below.",
        examples=[{"x-api-key": "{api_key}"}],
    )
    token: TokenSection = Field(
        default_factory=TokenSection,
        description="How an access token is bought. An assumption: the vendor's public pages don't say.",
    )
    presign_path: UrlPath = Field(
        "/api/v1/generate-presigned-url",
        description="Path of the request for an upload address. Newer accounts may have /v1/...",
    )
    presign_fields: JsonObject = Field(
        {},
        description="Further fields of that request's JSON body.",
        examples=[{"language": "es-ES"}],
    )
    status_path: UrlPath = Field(
        "/api/v1/get-transcription",
        description="Path of the request for a transcription. With {request_id} in it the request is a GET.",
        examples=["/api/v1/transcriptions/{request_id}"],
    )
    mime_types: Annotated[tuple[MimeType, ...], Field(strict=False), SomeUnique] = Field(
        (
            "audio/x-wav",
            "audio/wav",
            "audio/mp3",
            "audio/m4a",
            "audio/flac",
            "audio/ogg",
            "audio/webm",
        ),
        json_schema_extra={"minItems": 1},
        description="The types the API accepts, in the vendor's words. A recording of another type "
        "is filed in failed/ without an upload.",
    )
    connect_timeout_seconds: Seconds = Field(
        10, description="How long connecting may take, for the API and for the storage it uploads to."
    )
    read_timeout_seconds: Seconds = Field(
        60, description="How long one request may take as a whole; for an upload, how long nothing may move."
    )
    ca_bundle: ReadableFile | None = Field(
        None,
        description="PEM file with the certificate authorities to trust instead of the usual ones, for "
        "networks that inspect TLS. Variables such as REQUESTS_CA_BUNDLE are not read.",
        examples=["/etc/ssl/certs/hospital-ca.pem"],
    )
    proxy: ProxyUrl | None = Field(
        None,
        repr=False,  # may hold a password
        description="Proxy for all requests. Variables such as HTTPS_PROXY are not read.",
        examples=["http://proxy.example.com:3128"],
    )

    @field_validator("token", mode="before")
    @classmethod
    def _all_commented_out(cls, value: object) -> object:
        return {} if value is None else value


class CredentialsSection(Section):
    model_config = ConfigDict(json_schema_extra=_not_required(*REQUIRED_CREDENTIALS))

    app_id: SecretStr = Field(description="The APP Id.", examples=["${INVOX_APP_ID}"])
    app_id_file: AbsolutePath | None = Field(
        None,
        description="Instead of app_id: a file that holds it in one line.",
        examples=["/etc/invox-watcher/app_id"],
    )
    api_key: SecretStr = Field(description="The API Key.", examples=["${INVOX_API_KEY}"])
    api_key_file: AbsolutePath | None = Field(
        None,
        description="Instead of api_key: a file that holds it in one line.",
        examples=["/etc/invox-watcher/api_key"],
    )
    app_secret: SecretStr | None = Field(
        None, description="The APP Secret, for webhooks only.", examples=["${INVOX_APP_SECRET}"]
    )
    app_secret_file: AbsolutePath | None = Field(
        None,
        description="Instead of app_secret: a file that holds it in one line.",
        examples=["/etc/invox-watcher/app_secret"],
    )


def _folder(name: str, what: str) -> Any:
    return Field(
        default_factory=lambda keys: keys.get("root", Path("/")) / name,
        description=f"{what} Default: {name} in root.",
        examples=[f"/srv/dictation/{name}"],
    )


class FoldersSection(Section):
    root: AbsolutePath = Field(
        description="Required. The parent of the five folders below. On one file "
        "system a recording moves between them in one step; where one is elsewhere it is copied, verified "
        "and then removed. For the outbox that makes no difference.",
        examples=["/srv/dictation"],
    )
    inbox: AbsolutePath = _folder("inbox", "Where recordings arrive.")
    processing: AbsolutePath = _folder("processing", "Where a recording stays while it is worked on.")
    outbox: AbsolutePath = _folder("outbox", "Where transcripts are put.")
    done: AbsolutePath = _folder("done", "Where recordings go whose transcript is in the outbox.")
    failed: AbsolutePath = _folder(
        "failed", "Where recordings go that can't be transcribed, with the reason."
    )
    mode: str = Field(
        "0700",
        description="Permissions of the folders the daemon makes, octal, in quotes; its files get the same "
        "without the x bits. '2770' lets a group read and write on a share.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _octal(cls, value: object) -> object:
        if not isinstance(value, str):
            message = 'must be in quotes, for example "0700": without them YAML may read another number'
            raise ValueError(message)  # noqa: TRY004 - the kind of error that pydantic collects
        if not re.fullmatch(r"[0-7]?7[0-7]{2}", value):
            raise ValueError(
                'must be three or four octal digits that give the owner full access, for example "0700"'
            )
        return value

    @property
    def directory_mode(self) -> int:
        """The permission bits for a folder."""
        return int(self.mode, 8)


class WatchSection(Section):
    mode: Literal["auto", "native", "polling"] = Field(
        "auto",
        description="How new files are noticed. auto: by the kernel's events on a local file system, by "
        "polling on network and FUSE mounts.",
    )
    recursive: bool = Field(True, description="Whether folders inside the inbox are watched as well.")
    settle_seconds: Seconds = Field(
        2, description="How long a file must be unchanged before it is taken, where nothing surer says so."
    )
    rescan_seconds: Seconds = Field(
        60, description="How often the whole inbox is looked through, in case an event was lost."
    )
    polling_seconds: Seconds = Field(5, description="How often the inbox is looked through when polling.")
    patience_seconds: Seconds = Field(
        300,
        description="How long a quiet file whose own header says it is unfinished, or that is empty, is left "
        "alone before it is filed as failed.",
    )
    ignore: Annotated[tuple[Text, ...], Field(strict=False), Unique] = Field(
        (),
        description="File name patterns to leave alone, added to the built-in ones (.DS_Store, *.part, …).",
        examples=[["*.bak", "draft-*"]],
    )

    @model_validator(mode="after")
    def _settles_in_time(self) -> WatchSection:
        ordered(self, "settle_seconds", "patience_seconds")
        return self


class IntakeSection(Section):
    max_in_flight: int = Field(
        256,
        ge=1,
        description="How many recordings may be in processing at once; the others wait in the inbox.",
    )
    max_size_mib: int = Field(
        4096, ge=1, description="Recordings larger than this many MiB are filed in failed/ unread."
    )
    on_duplicate: Literal["reuse", "process", "fail"] = Field(
        "reuse",
        description="What to do with a recording whose content was transcribed before. reuse: deliver the "
        "earlier transcript under the new name, without an upload. process: have it transcribed again. fail: "
        "file it in failed/.",
    )


class UploadSection(Section):
    workers: int = Field(
        4, ge=1, le=64, description="How many recordings are read and uploaded at the same moment."
    )
    headers: Names = Field(
        {},
        description="Further headers of every upload, if storage asks for some. Those that the API names in "
        "its reply need no key.",
        examples=[{"x-amz-server-side-encryption": "AES256"}],
    )


class PollingSection(Section):
    first_seconds: Seconds = Field(
        2,
        description="How long after the upload to ask first, until earlier recordings give an estimate.",
    )
    max_seconds: Seconds = Field(60, description="The longest time between two questions for one recording.")
    deadline_seconds: Seconds = Field(
        86400, description="A recording without an answer after this time is filed in failed/."
    )

    unknown_seconds: Seconds = Field(
        30,
        description="How long the API may say that it has nothing under a request id until that is believed: "
        "it may learn of an upload a while after its storage.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> PollingSection:
        ordered(self, "first_seconds", "max_seconds")
        ordered(self, "max_seconds", "deadline_seconds")
        return self


class RetrySection(Section):
    max_attempts: int = Field(
        8,
        ge=1,
        description="How often one step of a recording is tried before it is filed in failed/. "
        "Attempts during an outage of the API don't count.",
    )
    base_seconds: Seconds = Field(1, description="The delay before the second attempt; it doubles with each.")
    max_seconds: Seconds = Field(300, description="The longest delay between two attempts.")

    @model_validator(mode="after")
    def _in_order(self) -> RetrySection:
        ordered(self, "base_seconds", "max_seconds")
        return self


class OutputsSection(Section):
    formats: Annotated[tuple[OutputFormat, ...], Field(strict=False), SomeUnique] = Field(
        ("json", "srt"),
        json_schema_extra={"minItems": 1},
        description="The files to write for each recording.",
    )
    speaker_names: Names = Field(
        {},
        description="Names for the speakers, shown in srt, vtt and txt; json keeps the API's labels.",
        examples=[{"Speaker_00": "Doctor", "Speaker_01": "Patient"}],
    )


class WebhookSection(Section):
    enabled: bool = Field(
        False, description="Whether the API is asked to send results here as soon as they are ready."
    )
    public_url: CallbackUrl | None = Field(
        None,
        description="The address under which the API reaches this daemon: that of a web server with TLS that "
        "passes requests on to /webhook at http.listen. Needed if enabled.",
        examples=["https://dictation.example.com/webhook"],
    )
    confirm: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether a result that was sent here is fetched from the API once more. The signature of "
        "a webhook says who made it, but does not cover its text. auto: ask the API, and believe the webhook "
        "only if the API does not answer for such jobs. always: never take text from a webhook. never: don't "
        "ask; see docs/webhooks.md for what that can't protect against.",
    )

    @model_validator(mode="after")
    def _reachable(self) -> WebhookSection:
        if self.enabled and self.public_url is None:
            message = "is needed when webhook.enabled is true"
            raise PydanticCustomError("incomplete", "{message}", {"message": message, "key": "public_url"})
        return self


class HttpSection(Section):
    listen: str | None = Field(
        "127.0.0.1:8787",
        description="Address of /webhook, /healthz, /readyz and /metrics; null for none. IPv6 as "
        "'[::1]:8787'.",
    )

    @field_validator("listen")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        match = _LISTEN.fullmatch(value) if value is not None else None
        if value is not None and (match is None or int(match[2]) > 65535):
            raise ValueError('must be host:port, for example 127.0.0.1:8787 or "[::1]:8787"')
        return value

    @property
    def address(self) -> tuple[str, int] | None:
        """Host (IPv6 without brackets) and port; None if the server is off."""
        if self.listen is None:
            return None
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class StateSection(Section):
    directory: AbsolutePath = Field(
        Path("/var/lib/invox-watcher"),
        description="Where the journal is kept. On a local disk; a network share is refused.",
    )


class LoggingSection(Section):
    format: Literal["json", "console"] = Field(
        "json", description="json: one object per line. console: for people."
    )
    level: Level = Field("info", description="The least important events to log.")
    filenames: Literal["hashed", "plain"] = Field(
        "hashed",
        description="Whether logs show recordings' names, which may name patients, or hashes of them.",
    )
    file: AbsolutePath | None = Field(
        None,
        description="A file to log to instead of standard error. It is opened anew upon SIGHUP, for log "
        "rotation. `start` without one logs to invox-watcher.log in the state directory.",
        examples=["/var/log/invox-watcher/daemon.log"],
    )


class RetentionSection(Section):
    done_days: Days | None = Field(
        None, description="Delete recordings from done/ after so many days; null keeps them."
    )
    failed_days: Days | None = Field(
        None, description="Delete recordings from failed/, with their error files, after so many days."
    )
    transcripts_days: Days | None = Field(
        None,
        description="Delete transcripts from the outbox, and what the journal holds of their words, after so "
        "many days. A file that was changed since it was delivered stays.",
    )
    journal_days: Days | None = Field(
        None,
        description="Forget finished recordings in the journal after so many days. A copy of one that is "
        "forgotten is sent again.",
    )

    @model_validator(mode="after")
    def _remembered_until_deleted(self) -> RetentionSection:
        for key in ("done_days", "failed_days", "transcripts_days"):
            if self.journal_days is not None and (getattr(self, key) or 0) > self.journal_days:
                ordered(self, key, "journal_days")
        return self


class HooksSection(Section):
    on_done: Command | None = Field(
        None,
        description="A command to run after each recording that is done: a program and its arguments, "
        "without a shell. It finds the job in environment variables and as JSON on its standard input.",
        examples=[["/usr/local/bin/notify-ward", "--quiet"]],
    )
    on_failed: Command | None = Field(
        None, description="A command to run after each recording that failed or vanished."
    )
    timeout_seconds: Seconds = Field(60, description="How long a command may run before it is killed.")


class Config(Section):
    """The whole configuration; one attribute per section of the file."""

    model_config = ConfigDict(json_schema_extra=_not_required("credentials"))

    api: ApiSection = Field(description="The vendor's API.")
    credentials: CredentialsSection = Field(
        description="Each credential is given in one of three ways: as a value, which should be ${VARIABLE}; "
        "in a file of its own (the _file keys); or as a systemd credential of that name "
        "(LoadCredential=app_id:/path), with no key here."
    )
    folders: FoldersSection = Field(
        description="Where recordings and transcripts are. All paths are absolute."
    )
    watch: WatchSection = Field(default_factory=WatchSection, description="How the inbox is watched.")
    intake: IntakeSection = Field(default_factory=IntakeSection, description="Which recordings are taken.")
    upload: UploadSection = Field(default_factory=UploadSection, description="How much is done at once.")
    polling: PollingSection = Field(
        default_factory=PollingSection, description="When the API is asked for a result."
    )
    retry: RetrySection = Field(
        default_factory=RetrySection, description="What happens after faults that may pass."
    )
    outputs: OutputsSection = Field(
        default_factory=OutputsSection, description="What is put into the outbox."
    )
    webhook: WebhookSection = Field(
        default_factory=WebhookSection,
        description="Results that the API sends: sooner there than by asking.",
    )
    http: HttpSection = Field(default_factory=HttpSection, description="The daemon's own small web server.")
    state: StateSection = Field(default_factory=StateSection, description="What survives a restart.")
    retention: RetentionSection = Field(
        default_factory=RetentionSection, description="How long what is finished is kept. Off by default."
    )
    hooks: HooksSection = Field(
        default_factory=HooksSection, description="Your own commands, run after a recording."
    )
    logging: LoggingSection = Field(default_factory=LoggingSection, description="Logs go to standard error.")
