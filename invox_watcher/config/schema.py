"""The configuration's schema: types, defaults and descriptions; also of the example and the JSON schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from invox_watcher.config._page import PageSection
from invox_watcher.config._profiles import ProfileList
from invox_watcher.config._types import (
    AbsolutePath,
    ApiUrl,
    CallbackUrl,
    Command,
    DatabaseUrl,
    Days,
    Delay,
    HostName,
    Installed,
    JsonObject,
    MimeType,
    Minutes,
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
    host_and_port,
    ordered,
)
from invox_watcher.config.targets import Targets
from invox_watcher.events import Level
from invox_watcher.outputs import OutputFormat

REQUIRED_CREDENTIALS = ("app_id", "api_key")


def _not_required(*names: str) -> Callable[[dict[str, Any]], None]:
    """Keys that `load` can fill from another source may be omitted from the file."""

    def edit(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in names]

    return edit


class TokenSection(Section):
    url: TokenUrl = Field("/oauth/token", description="A path below api.base_url, or a whole https address.")
    method: Literal["POST", "GET"] = Field("POST", description="The request's method.")
    headers: Names = Field({"Authorization": "Basic {base64}"}, description="Its headers.")
    form: Names | None = Field(
        {"grant_type": "client_credentials"},
        description="Its body, as a form; null for none. A GET has no body.",
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
        description="Required. The base URL of the API, without the paths below. The vendor provides it with "
        "the credentials. It must be https, except on this machine.",
        examples=["https://api.example.com"],
    )
    version: Text | None = Field(
        "2025-11-01",
        description="Sent as X-Invox-Medical-Api-Version; null sends no such header. Keep the quotes.",
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
        description="The MIME types that the API accepts, as the vendor spells them. A recording of another "
        "type is moved to failed/ without an upload.",
    )
    connect_timeout_seconds: Seconds = Field(
        10,
        description="Timeout for connecting to the API and to the storage that recordings are uploaded to.",
    )
    read_timeout_seconds: Seconds = Field(
        60,
        description="Timeout for one request as a whole; for an upload, the longest time without progress. "
        "As long as its bytes move, an upload continues: an hour, and a second for every 1,000 bytes.",
    )
    ca_bundle: ReadableFile | None = Field(
        None,
        description="PEM file of the certificate authorities to trust instead of the public ones, for "
        "networks that inspect TLS. Environment variables such as REQUESTS_CA_BUNDLE are ignored.",
        examples=["/etc/ssl/certs/hospital-ca.pem"],
    )
    proxy: ProxyUrl | None = Field(
        None,
        repr=False,  # may hold a password
        description="Proxy for all requests. Environment variables such as HTTPS_PROXY are ignored.",
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
        description="Instead of app_id: a file that contains it, on one line.",
        examples=["/etc/invox-watcher/app_id"],
    )
    api_key: SecretStr = Field(description="The API Key.", examples=["${INVOX_API_KEY}"])
    api_key_file: AbsolutePath | None = Field(
        None,
        description="Instead of api_key: a file that contains it, on one line.",
        examples=["/etc/invox-watcher/api_key"],
    )
    app_secret: SecretStr | None = Field(
        None, description="The APP Secret, needed only for webhooks.", examples=["${INVOX_APP_SECRET}"]
    )
    app_secret_file: AbsolutePath | None = Field(
        None,
        description="Instead of app_secret: a file that contains it, on one line.",
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
        description="Required. The parent of the five folders below. Within one file system a recording is "
        "moved by a rename; to another one it is copied, verified and then removed. The outbox may be on any "
        "file system.",
        examples=["/srv/dictation"],
    )
    inbox: AbsolutePath = _folder("inbox", "New recordings.")
    processing: AbsolutePath = _folder("processing", "Recordings in progress.")
    outbox: AbsolutePath = _folder("outbox", "Transcripts.")
    done: AbsolutePath = _folder("done", "Recordings whose transcript has been written to the outbox.")
    failed: AbsolutePath = _folder(
        "failed", "Recordings that could not be transcribed, each with an error file."
    )
    mode: str = Field(
        "0700",
        description="Permissions of folders that the daemon creates, octal, in quotes; files get the same "
        "without the x bits. With '2770' a group can read and write on a share.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _octal(cls, value: object) -> object:
        if not isinstance(value, str):
            message = 'must be in quotes, for example "0700": unquoted, YAML may read it as another number'
            raise ValueError(message)  # noqa: TRY004 - the kind of error that pydantic collects
        if not re.fullmatch(r"[0-7]?7[0-7]{2}", value):
            raise ValueError(
                'must be three or four octal digits with full access for the owner, for example "0700"'
            )
        return value

    @property
    def directory_mode(self) -> int:
        """The permission bits of a folder."""
        return int(self.mode, 8)


class WatchSection(Section):
    mode: Literal["auto", "native", "polling"] = Field(
        "auto",
        description="How new files are detected. native: by the kernel's events (inotify). auto: native on "
        "local file systems, polling on network and FUSE mounts.",
    )
    recursive: bool = Field(True, description="Whether subfolders of the inbox are watched as well.")
    grace_seconds: Delay = Field(
        1,
        description="How long a file must be unchanged before it is processed if two things show that it "
        "is complete: no process has it open for writing, and its content is whole. Senders rename, chmod "
        "and set times after they close a file, and must not find it gone. 0 if yours do none of that.",
    )
    settle_seconds: Seconds = Field(
        5,
        description="The same, if only one of the two shows it, as on a network share. At least "
        "grace_seconds.",
    )
    unproven_seconds: Seconds = Field(
        30,
        description="The same, if neither shows it: for example an MP3 on a network share. At least "
        "settle_seconds. docs/shares.md says which files of which senders get which.",
    )
    rescan_seconds: Seconds = Field(
        60, description="How often the whole inbox is scanned, in case an event was lost."
    )
    polling_seconds: Seconds = Field(5, description="How often the inbox is scanned when polling.")
    patience_seconds: Seconds = Field(
        300,
        description="How long a file that is empty, or incomplete according to its header, may remain "
        "unchanged before it is moved to failed/.",
    )
    ignore: Annotated[tuple[Text, ...], Field(strict=False), Unique] = Field(
        (),
        description="File name patterns to ignore, in addition to the built-in ones (.DS_Store, *.part, …).",
        examples=[["draft-*", "test-*"]],
    )

    @model_validator(mode="after")
    def _settles_in_time(self) -> WatchSection:
        ordered(self, "settle_seconds", "patience_seconds")
        return self


class IntakeSection(Section):
    max_in_flight: int = Field(
        256,
        ge=1,
        description="How many recordings may be in progress at once; the others wait in the inbox.",
    )
    max_size_mib: int = Field(
        4096,
        ge=1,
        description="Recordings larger than this many MiB are moved to failed/ without being read.",
    )
    on_duplicate: Literal["reuse", "process", "fail", "skip"] = Field(
        "reuse",
        description="What to do with a recording whose content was transcribed before. reuse: deliver the "
        "earlier transcript under the new name, without an upload. process: transcribe it again. fail: move "
        "it to failed/. skip: the same name with the same content is deleted, if that recording is unchanged "
        "in done/; otherwise as reuse. For a source that is mirrored into the inbox again and again.",
    )
    on_truncated: Literal["fail", "send"] = Field(
        "fail",
        description="What to do with a recording that was cut off, if the extra `formats` can decode what is "
        "there. fail: move it to failed/. send: send that, and say so in the log and in the JSON file.",
    )
    daily_minutes: Minutes | None = Field(
        None,
        description="How many minutes of audio are uploaded per day of local time; null for no limit. "
        "Recordings beyond that are held until the next day, and not failed. See docs/profiles.md.",
        examples=[600],
    )
    ds2_passwords_file: ReadableFile | None = Field(
        None,
        description="A file with the passwords of encrypted DS2 recordings, one per line; each is tried.",
        examples=["/etc/invox-watcher/ds2_passwords"],
    )


class UploadSection(Section):
    workers: int = Field(
        4, ge=1, le=64, description="How many recordings are read and uploaded at the same time."
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
        description="How long after the upload to poll first, until earlier recordings show how long it "
        "takes; after that, when about half of the results should be there.",
    )
    max_seconds: Seconds = Field(
        60,
        description="The longest time between two polls for one recording, and before the first, unless the "
        "latest recordings, for their length, were pending for longer: then the first comes up to this much "
        "later than they were. With more than 500 that wait, the time between two polls may be longer: "
        "all together are polled 25 times a second.",
    )
    deadline_seconds: Seconds = Field(
        86400, description="A recording without a result after this time is moved to failed/."
    )

    unknown_seconds: Seconds = Field(
        30,
        description="How long the API may answer that it does not know a request id before the upload is "
        "treated as lost: the API may learn of an upload later than its storage.",
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
        description="How often one step of a recording is attempted before it is moved to failed/. "
        "Attempts during an outage of the API don't count.",
    )
    base_seconds: Seconds = Field(1, description="The delay before the second attempt; it doubles with each.")
    max_seconds: Seconds = Field(300, description="The longest delay between two attempts.")

    @model_validator(mode="after")
    def _in_order(self) -> RetrySection:
        ordered(self, "base_seconds", "max_seconds")
        return self


class OutputsSection(Section):
    formats: Annotated[tuple[OutputFormat, ...], Field(strict=False), Installed, SomeUnique] = Field(
        ("json", "srt"),
        json_schema_extra={"minItems": 1},
        description="The files to write for each recording.",
    )
    speaker_names: Names = Field(
        {},
        description="Names for the speakers, shown in srt, vtt, txt and docx; json keeps the API's labels.",
        examples=[{"Speaker_00": "Doctor", "Speaker_01": "Patient"}],
    )
    docx_template: AbsolutePath | None = Field(
        None,
        description="The template of docx files; null for the one in the package. See docs/docx.md.",
        examples=["/etc/invox-watcher/letter.docx"],
    )

    @property
    def template(self) -> str | None:
        """The path of the template of docx files; None for the one in the package."""
        return None if self.docx_template is None else str(self.docx_template)


class WebhookSection(Section):
    enabled: bool = Field(
        False, description="Whether to have the API send results as soon as they are ready."
    )
    public_url: CallbackUrl | None = Field(
        None,
        description="The URL at which the API reaches this daemon: a web server with TLS that forwards "
        "requests to /webhook at http.listen. Required if enabled.",
        examples=["https://dictation.example.com/webhook"],
    )
    confirm: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Whether a result received by webhook is fetched from the API again. A webhook's "
        "signature proves who sent it, but does not cover its text. auto: fetch it, and use the webhook's "
        "text only if the API does not return results for such jobs. always: never use a webhook's text. "
        "never: don't fetch it; see docs/webhooks.md for the risks.",
    )

    @model_validator(mode="after")
    def _reachable(self) -> WebhookSection:
        if self.enabled and self.public_url is None:
            message = "is required if webhook.enabled is true"
            raise PydanticCustomError("incomplete", "{message}", {"message": message, "key": "public_url"})
        return self


class HttpSection(Section):
    listen: str | None = Field(
        "127.0.0.1:8787",
        description="Address of /webhook, /healthz, /readyz and /metrics; null turns the server off. IPv6 as "
        "'[::1]:8787'; a port alone means 127.0.0.1.",
        json_schema_extra={"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
    )

    @field_validator("listen", mode="before")
    @classmethod
    def _host_and_port(cls, value: object) -> str | None:
        return host_and_port(value, 'host:port, for example 127.0.0.1:8787 or "[::1]:8787"')

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
        description="The folder of the journal. It must be on a local disk; a network share is refused.",
    )
    url: DatabaseUrl | None = Field(
        None,
        repr=False,  # may hold a password
        description="The PostgreSQL database in which several hosts keep their common journal; see "
        "docs/fleet.md. Without it, the journal is a file in the directory above, and this host is alone.",
        examples=["postgresql://invox@db1.clinic.example,db2.clinic.example/invox?sslmode=verify-full"],
    )
    password_file: ReadableFile | None = Field(
        None,
        description="A file with the password of the user in `url`, which may change at any time.",
        examples=["/etc/invox-watcher/database_password"],
    )
    host: HostName | None = Field(
        None,
        description="With `url`: the name of this host, which no other one has. By default the machine's.",
        examples=["dictation1"],
    )
    takeover_seconds: float = Field(
        30.0,
        ge=5,
        le=3600,
        description="With `url`: for how long a host may be silent before the others take over what it has. "
        "The same on every host: one with another value is refused while others run.",
    )

    @model_validator(mode="after")
    def _not_without_url(self) -> StateSection:
        """A host of several whose `url` was lost would work alone, with a journal that knows nothing."""
        for key in ("password_file", "host"):
            if self.url is None and getattr(self, key) is not None:
                message = "needs url as well: without it, this host is alone. Add url, or remove this"
                raise PydanticCustomError("incomplete", "{message}", {"message": message, "key": key})
        return self


class LoggingSection(Section):
    format: Literal["auto", "json", "console"] = Field(
        "auto",
        description="json: one object per line. console: for people. auto: console on a terminal, else json.",
    )
    level: Level = Field("info", description="The least important events to log.")
    filenames: Literal["hashed", "plain"] = Field(
        "hashed",
        description="How logs show the names of recordings, which may contain patients' names: hashed or as "
        "they are.",
    )
    file: AbsolutePath | None = Field(
        None,
        description="A file to log to instead of standard error. SIGHUP reopens it, for log rotation. "
        "Without one, `start` logs to invox-watcher.log in the state directory.",
        examples=["/var/log/invox-watcher/daemon.log"],
    )


class RetentionSection(Section):
    done_days: Days | None = Field(
        None, description="Delete recordings from done/ after this many days; null keeps them."
    )
    failed_days: Days | None = Field(
        None, description="Delete recordings from failed/, with their error files, after this many days."
    )
    transcripts_days: Days | None = Field(
        None,
        description="Delete transcripts from the outbox, and their text from the journal, after this many "
        "days. A file that was changed after its delivery is kept.",
    )
    journal_days: Days | None = Field(
        400,
        description="Delete finished recordings from the journal, with their text, this many days after the "
        "last copy of them came; null keeps them. A copy that comes later is uploaded again. If it is not "
        "set, it is at least as much as each of the others.",
    )

    @model_validator(mode="after")
    def _remembered_until_deleted(self) -> RetentionSection:
        for key in ("done_days", "failed_days", "transcripts_days"):
            is_set = "journal_days" in self.model_fields_set
            if is_set and self.journal_days is not None and (getattr(self, key) or 0) > self.journal_days:
                ordered(self, key, "journal_days")
        return self

    @property
    def ages(self) -> dict[str, int | None]:
        """After how many days each is deleted; None for never."""
        ages: dict[str, int | None] = self.model_dump()
        if self.journal_days is not None:
            ages["journal_days"] = max(days for days in ages.values() if days is not None)
        return ages


class HooksSection(Section):
    on_done: Command | None = Field(
        None,
        description="A command to run after each recording that is done: a program and its arguments, "
        "without a shell. The job is passed in environment variables and as JSON on standard input.",
        examples=[["/usr/local/bin/notify-ward", "--quiet"]],
    )
    on_failed: Command | None = Field(
        None, description="A command to run after each recording that has failed or vanished."
    )
    timeout_seconds: Seconds = Field(60, description="How long a command may run before it is killed.")


class Config(Section):
    """The whole configuration; one attribute per section of the file."""

    model_config = ConfigDict(json_schema_extra=_not_required("credentials"))
    _source: Path = PrivateAttr(default=Path())

    api: ApiSection = Field(description="The vendor's API.")
    credentials: CredentialsSection = Field(
        description="Each credential is set in one of three ways: as a value, which should be ${VARIABLE}; "
        "in a separate file (the _file keys); or as a systemd credential of that name "
        "(LoadCredential=app_id:/path), with no key here."
    )
    folders: FoldersSection = Field(
        description="The folders of recordings and transcripts. All paths are absolute."
    )
    watch: WatchSection = Field(default_factory=WatchSection, description="How the inbox is watched.")
    intake: IntakeSection = Field(
        default_factory=IntakeSection, description="Which recordings are processed."
    )
    upload: UploadSection = Field(default_factory=UploadSection, description="Concurrent uploads.")
    polling: PollingSection = Field(
        default_factory=PollingSection, description="When the API is polled for a result."
    )
    retry: RetrySection = Field(
        default_factory=RetrySection, description="How temporary failures are retried."
    )
    outputs: OutputsSection = Field(
        default_factory=OutputsSection, description="What is written to the outbox."
    )
    profiles: ProfileList = Field(
        (),
        description="What differs for some recordings: the first profile that matches counts, and is fixed "
        "when the recording is taken from the inbox. See docs/profiles.md.",
        examples=[
            [
                {
                    "name": "cardiology",
                    "match": {"folder": "ward3", "author": ["SMITH", "JONES"]},
                    "set": {"priority": "urgent", "formats": ["json", "txt"]},
                }
            ]
        ],
    )
    webhook: WebhookSection = Field(
        default_factory=WebhookSection,
        description="Results sent by the API; they arrive earlier than by polling.",
    )
    http: HttpSection = Field(default_factory=HttpSection, description="The daemon's built-in web server.")
    page: PageSection = Field(
        default_factory=PageSection,
        description="A page for people who wait for their transcripts: what happens to recordings, the "
        "transcripts, and what needs someone. Off unless `listen` is set.",
    )
    state: StateSection = Field(default_factory=StateSection, description="Data that survives a restart.")
    retention: RetentionSection = Field(
        default_factory=RetentionSection,
        description="When finished recordings and transcripts are deleted: by default never, but for their "
        "entries in the journal.",
    )
    hooks: HooksSection = Field(
        default_factory=HooksSection, description="Your own commands, run after a recording."
    )
    targets: Targets = Field(
        {},
        description="Where transcripts go besides the outbox, each target under a name of its own. {job_id}, "
        "{name}, {folder}, {date} and attributes of a recording are filled in where an example shows braces, "
        "and in subject, body and to. See docs/delivery.md.",
    )
    logging: LoggingSection = Field(default_factory=LoggingSection, description="Logs go to standard error.")

    @property
    def source(self) -> Path:
        """The file that it was read from."""
        return self._source

    def read_from(self, source: Path) -> None:
        """Note the file that it was read from."""
        self._source = source
