"""The templates of documents: is each there, and do recordings have what it asks for?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from invox_watcher.config import Config
from invox_watcher.diagnostics.check._finding import Finding, warning
from invox_watcher.diagnostics.check._profiles import always_known
from invox_watcher.errors import ExitStatus, TemplateError
from invox_watcher.outputs import (
    FIELDS,
    HEADER_ATTRIBUTES,
    Delivery,
    Prepared,
    Source,
    fields_of_template,
)
from invox_watcher.suspicion import Doubt, Suspicion
from invox_watcher.times import rfc3339
from invox_watcher.transcript import Segment, Transcript

_HAS_NO_EFFECT = "Add docx to the formats, or remove the template."
_ALLOW_FOR_ABSENCE = (
    "Write {{ NAME | default('') }}, or put it between {% if NAME is defined %} and {% endif %}."
)


@dataclass(frozen=True)
class _Use:
    """A template and the recordings that it is for."""

    key: str  # of the configuration
    template: str | None  # None: the one in the package
    formats: frozenset[str]  # in which their transcripts leave
    always: frozenset[str]  # attributes that they have
    sometimes: bool  # whether those of their own header are known


def templates(config: Config) -> Iterator[Finding]:
    """One finding for each template in use, or for each problem of it; nothing without documents."""
    for use in _uses(config):
        if "docx" in use.formats:
            yield from _tried(use)
        elif use.template is not None:
            yield warning("templates", f"{use.key} has no effect: there is no docx", _HAS_NO_EFFECT)


def _tried(use: _Use) -> Iterator[Finding]:
    try:
        used = fields_of_template(use.template, _example())
    except TemplateError as error:
        yield Finding("templates", "failed", f"{use.key}: {error.message}", error.hint, error.exit_status)
        return
    lacking = used.required - {*FIELDS} - use.always
    in_header = lacking & {*HEADER_ATTRIBUTES} if use.sometimes else frozenset()
    if unknown := sorted(lacking - in_header):
        problem = f"{use.key} uses what recordings do not have: {', '.join(unknown)}"
        hint = "Correct the name, or set the attribute in the profile. docs/docx.md lists the fields."
        yield Finding("templates", "failed", problem, hint, ExitStatus.CONFIGURATION)
    if in_header:
        problem = f"{use.key} uses what not every recording says: {', '.join(sorted(in_header))}"
        yield warning("templates", problem, _ALLOW_FOR_ABSENCE)
    if not lacking:
        yield Finding("templates", seen=f"{use.key}: {use.template or 'the one in the package'}")


def _uses(config: Config) -> Iterator[_Use]:
    outputs, targets = config.outputs, config.targets
    for number, profile in enumerate(config.profiles):
        sets = profile.settings
        yield _Use(
            "outputs.docx_template" if sets.template is None else f"profiles[{number}].set.template",
            outputs.template if sets.template is None else str(sets.template),
            _leaves(config, sets.formats or outputs.formats, sets.targets),
            always_known(profile),
            sometimes=True,
        )
    # What matches no profile goes to no target.
    names = () if config.profiles else tuple(targets)
    yield _Use(
        "outputs.docx_template",
        outputs.template,
        _leaves(config, outputs.formats, names),
        frozenset(),
        sometimes=bool(config.profiles),
    )


def _leaves(config: Config, formats: tuple[str, ...], targets: tuple[str, ...]) -> frozenset[str]:
    """The formats in which a transcript leaves: in the outbox, and at each target."""
    return frozenset(formats).union(
        *(config.targets[name].formats for name in targets if name in config.targets)
    )


def _example() -> Delivery:
    now = datetime.now(UTC)
    return Delivery(
        job_id="20261123t185056-9f2c41d07ab3",
        request_id="example",
        source=Source("ward3/smith.wav", 1, "0" * 64, "audio/wav", 60.0),
        received_at=now,
        uploaded_at=now,
        completed_at=now,
        delivered_by="polling",
        transcript=Transcript((Segment("An example.", 0.0, 1.0, "Speaker_00"),)),
        api_reply={},
        suspect=(Suspicion(Doubt.TOO_FEW_WORDS, 0.0, 1.0),),
        prepared=Prepared("audio/flac", 1, "0" * 64, truncated=True),
        attributes={"recorded_at": rfc3339(now)},
    )
