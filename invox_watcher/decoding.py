"""Into what a recording is decoded that the API does not take, and what to say if nothing can decode it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from invox_watcher.audio import mime_type
from invox_watcher.errors import Reason
from invox_watcher.formats.decoder import INSTALL

_CONTAINERS: tuple[Literal["flac", "wav"], ...] = ("flac", "wav")  # the smaller one first


def target_for(mime_types: Sequence[str]) -> tuple[Literal["flac", "wav"], str] | None:
    """The format to decode into, and its type in the API's words; None if the account takes neither."""
    types = ((container, mime_type(container, mime_types)) for container in _CONTAINERS)
    return next(((container, mime) for container, mime in types if mime is not None), None)


def with_advice(reason: Reason) -> Reason:
    """Why a recording is refused that the decoder could help, were it installed."""
    hint = f"{reason.hint} Or install the decoder and retry it: {INSTALL}."
    return dataclasses.replace(reason, hint=hint)
