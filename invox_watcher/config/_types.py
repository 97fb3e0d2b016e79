"""The types of the schema's values, each with the message for an invalid value."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from invox_watcher.host import is_loopback
from invox_watcher.outputs import INSTALL_DOCX, docx_is_installed

_LISTEN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")
_DATABASE_SCHEMES = ("postgresql://", "postgres://")
_DATABASE_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^\s@/?#:,\[\]]*)(?::\d*)?"
# Stricter than libpq, which finds the end of a password elsewhere than others do if that has such characters.
_DATABASE_URL = re.compile(
    r"postgres(?:ql)?://(?:[^\s@/?#\[\]]*@)?"
    rf"{_DATABASE_HOST}(?:,{_DATABASE_HOST})*(?:/[^\s@/?#\[\]]*)?(?:\?[^\s@#]*)?"
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path, starting with /")
    if not str(path).isprintable():
        raise ValueError("must not contain control characters")
    return path


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from None
    return path


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("must not contain line breaks or control characters, nor begin or end with a space")
    return text


def _installed(formats: tuple[str, ...]) -> tuple[str, ...]:
    if "docx" in formats and not docx_is_installed():
        raise ValueError(f"names docx, which is an extra and not installed: {INSTALL_DOCX}")
    return formats


def _unique(items: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(items)) < len(items):
        raise ValueError("must not contain duplicates")
    return items


def _some_and_unique(items: tuple[str, ...]) -> tuple[str, ...]:
    if not items:
        raise ValueError("must not be empty")
    return _unique(items)


def _url(text: str) -> SplitResult:
    try:
        parts = urlsplit(_printable(text))
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or " " in text:
        raise ValueError("must be a URL with http or https and a host, for example https://api.example.com")
    return parts


def _api_url(text: str) -> str:
    parts = _url(text)
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise ValueError(
            "must be https: with plain http anyone on the network could read tokens and patients' words "
            "(plain http is accepted for this machine only, for example http://127.0.0.1:8080)"
        )
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not contain a user name or password: those belong under credentials")
    if "?" in text or "#" in text:
        raise ValueError("must not contain a query (?) or a fragment (#)")
    return text.rstrip("/")


def is_database_url(text: str) -> bool:
    """Whether that is meant to be the address of a database."""
    return text.startswith(_DATABASE_SCHEMES)


def database_url(text: str) -> str:
    """The same text. Raises ValueError, which does not show it, if it is not the address of a database."""
    if not is_database_url(text):
        raise ValueError("must be the address of a PostgreSQL database: postgresql://USER@HOST/DATABASE")
    if not _DATABASE_URL.fullmatch(text) or _BAD_ESCAPE.search(text):
        raise ValueError(
            "must be an address like postgresql://USER@HOST/DATABASE?sslmode=verify-full. In a user name or "
            "a password, write / ? # @ % [ ] and spaces as %2F %3F %23 %40 %25 %5B %5D %20, or keep the "
            "password in state.password_file"
        )
    return text


def _host_name(text: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,64}", text):
        raise ValueError(
            "must be a name of at most 64 letters, digits, dots, hyphens and underscores, for example "
            "dictation1"
        )
    return text


def _token_url(text: str) -> str:
    return _url_path(text) if text.startswith("/") else _api_url(text)


def _json_object(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        json.dumps(fields, allow_nan=False)
    except (TypeError, ValueError):  # a date, .inf
        raise ValueError("holds a value that JSON does not have: put it in quotes") from None
    return MappingProxyType(dict(fields))


def _url_path(text: str) -> str:
    if not re.fullmatch(r"/[!-~]*", text) or "#" in text:
        raise ValueError("must be the path of a URL, starting with /")
    return text


def host_and_port(value: object, wanted: str) -> str | None:
    """An address to listen on; a port alone is one of 127.0.0.1. ValueError says what is `wanted`."""
    if value is None:
        return None
    text = f"127.0.0.1:{value}" if re.fullmatch(r"[0-9]+", str(value)) else value
    match = _LISTEN.fullmatch(text) if isinstance(text, str) else None
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"must be {wanted}")
    return match[0]


def _mime_type(text: str) -> str:
    if not re.fullmatch(r" ?[a-z0-9.+-]+/[a-z0-9.+-]+", text):  # the vendor has an example with a blank
        raise ValueError("must be a MIME type such as audio/wav")
    return text


def _proxy_url(text: str) -> str:
    _url(text)
    return text


def _callback_url(text: str) -> str:
    parts = _url(text)
    if parts.username is not None or parts.password is not None or "#" in text:
        raise ValueError("must not contain a user name, a password or a fragment (#)")
    return text


def _command(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not words[0].startswith("/"):
        raise ValueError(
            "must begin with the absolute path of a program, for example [/usr/local/bin/notify-ward]"
        )
    return words


def ordered(model: BaseModel, low: str, high: str) -> None:
    """Raise an error about key `low` if its value is greater than that of `high`."""
    first, second = getattr(model, low), getattr(model, high)
    if first > second:
        message = f"must not be greater than {high} ({second:g}), but is {first:g}"
        raise PydanticCustomError("out_of_order", "{message}", {"message": message, "key": low})


Seconds = Annotated[float, Field(gt=0, le=31_536_000)]
Minutes = Annotated[float, Field(gt=0, le=1_000_000)]
Delay = Annotated[float, Field(ge=0, le=31_536_000)]  # seconds, or none
Days = Annotated[int, Field(ge=1, le=36_500)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_printable)]
AbsolutePath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
UrlPath = Annotated[str, AfterValidator(_url_path)]
MimeType = Annotated[str, AfterValidator(_mime_type)]
ReadableFile = Annotated[AbsolutePath, AfterValidator(_readable)]
ApiUrl = Annotated[str, AfterValidator(_api_url)]
DatabaseUrl = Annotated[str, AfterValidator(database_url)]
HostName = Annotated[str, AfterValidator(_host_name)]
TokenUrl = Annotated[str, AfterValidator(_token_url)]
ProxyUrl = Annotated[str, AfterValidator(_proxy_url)]
CallbackUrl = Annotated[str, AfterValidator(_callback_url)]
SomeUnique = AfterValidator(_some_and_unique)
Unique = AfterValidator(_unique)
Installed = AfterValidator(_installed)
Command = Annotated[tuple[Text, ...], Field(strict=False), AfterValidator(_command)]
JsonObject = Annotated[Mapping[Text, Any], AfterValidator(_json_object)]
Names = Annotated[Mapping[Text, Text], AfterValidator(lambda names: MappingProxyType(dict(names)))]


class Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True, defer_build=True
    )
