"""The schema of `profiles`."""

from __future__ import annotations

from typing import Annotated, Literal

import regex
from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from invox_watcher.config._types import (
    AbsolutePath,
    Installed,
    JsonObject,
    Minutes,
    Names,
    Section,
    SomeUnique,
    Text,
    Unique,
)
from invox_watcher.outputs import OutputFormat
from invox_watcher.plan import DEFAULT


def _folder(text: str) -> str:
    parts = text.strip("/").split("/")
    if text.startswith("/") or not all(parts) or {".", ".."} & set(parts):
        raise ValueError("must be a folder below the inbox, for example ward3 or ward3/urgent")
    return "/".join(parts)


def _pattern(text: str) -> str:
    try:
        regex.compile(text)
    except regex.error as error:
        raise ValueError(f"must be a regular expression: {error}") from None
    return text


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _named(profiles: tuple[ProfileSection, ...]) -> tuple[ProfileSection, ...]:
    names = [profile.name for profile in profiles]
    if len(set(names)) < len(names):
        raise ValueError("must not contain two profiles of the same name")
    return profiles


_Texts = Annotated[
    tuple[Text, ...], BeforeValidator(_as_list, json_schema_input_type=Text | list[Text]), Field(strict=False)
]


class MatchSection(Section):
    folder: Annotated[Text, AfterValidator(_folder)] | None = Field(
        None, description="It is in this folder of the inbox, or in one below.", examples=["ward3"]
    )
    name: Annotated[Text, AfterValidator(_pattern)] | None = Field(
        None,
        description="The whole of its name, without the folder, matches this regular expression; what named "
        "groups match becomes attributes.",
        examples=["(?P<author>[^_]+)_(?P<work_type>[0-9]+)_.*"],
    )
    author: _Texts = Field(
        (),
        description="The author in the recording's own header is this one, or one of these; capitals don't "
        "matter.",
        examples=[["SMITH", "JONES"]],
    )
    device: _Texts = Field((), description="The same for the device.", examples=["DS-9500"])


class SettingsSection(Section):
    attributes: Names = Field(
        {},
        description="Further attributes of the recording, kept with it in the journal.",
        examples=[{"department": "cardiology"}],
    )
    priority: Literal["stat", "urgent", "routine"] = Field(
        "routine",
        description="What goes first. Of five recordings at most four overtake one that waits longer.",
    )
    speaker_names: Names | None = Field(
        None, description="Instead of outputs.speaker_names.", examples=[{"Speaker_00": "Doctor"}]
    )
    formats: Annotated[tuple[OutputFormat, ...], Field(strict=False), Installed, SomeUnique] | None = Field(
        None, description="Instead of outputs.formats.", examples=[["json", "txt"]]
    )
    template: AbsolutePath | None = Field(
        None,
        description="The template of its docx files instead of outputs.docx_template. The path is kept with "
        "it in the journal, the template is read when a document is made.",
        examples=["/etc/invox-watcher/letter.docx"],
    )
    targets: Annotated[tuple[Text, ...], Field(strict=False), Unique] = Field(
        (), description="Where its transcript goes besides the outbox, kept with it.", examples=[["ehr"]]
    )
    daily_minutes: Minutes | None = Field(
        None,
        description="How many minutes of audio with this profile are uploaded per day; see "
        "intake.daily_minutes.",
        examples=[120],
    )
    presign_fields: JsonObject = Field(
        {},
        description="Added to api.presign_fields; of two with the same name, this one counts.",
        examples=[{"language": "es-ES"}],
    )


class ProfileSection(Section):
    name: Text = Field(description="Required. Its name.", examples=["cardiology"])
    match: MatchSection = Field(
        default_factory=MatchSection,
        description="What a recording must be, all of it. Without any condition every recording matches.",
    )
    settings: SettingsSection = Field(
        default_factory=SettingsSection, alias="set", description="What applies to it then."
    )

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == DEFAULT:
            raise ValueError(f"must not be {DEFAULT}: that is what recordings have that match no profile")
        return name

    @field_validator("match", "settings", mode="before")
    @classmethod
    def _all_commented_out(cls, value: object) -> object:
        return {} if value is None else value


ProfileList = Annotated[tuple[ProfileSection, ...], Field(strict=False), AfterValidator(_named)]
