"""Builds the targets of each kind.

The kinds load libraries (mail, HTTP) that take their time, and most configurations have none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invox_watcher.delivery.target import Target

if TYPE_CHECKING:
    from invox_watcher.delivery.posting import HttpOptions


def target_of_kind(kind: str, options: dict[str, Any]) -> Target:
    """The target that these keys of its section in the configuration describe; nothing is connected yet."""
    build = {"mail": _mail, "sftp": _sftp, "hl7": _hl7, "fhir": _fhir, "http": _webhook}[kind]
    return build(options)


def _mail(options: dict[str, Any]) -> Target:
    from invox_watcher.delivery.mail import Mail, MailOptions  # noqa: PLC0415

    return Mail(MailOptions(**options))


def _sftp(options: dict[str, Any]) -> Target:
    from invox_watcher.delivery.sftp import Sftp, SftpOptions  # noqa: PLC0415

    del options["replace"]  # a rule for the files' name, which the schema checks
    return Sftp(SftpOptions(**options))


def _hl7(options: dict[str, Any]) -> Target:
    from invox_watcher.delivery.hl7 import Hl7, Hl7Options  # noqa: PLC0415

    return Hl7(Hl7Options(**options))


def _fhir(options: dict[str, Any]) -> Target:
    from invox_watcher.delivery.fhir import Fhir, FhirOptions  # noqa: PLC0415

    return Fhir(_http_options(options), FhirOptions(**options))


def _webhook(options: dict[str, Any]) -> Target:
    from invox_watcher.delivery.http import Webhook, WebhookOptions  # noqa: PLC0415

    return Webhook(_http_options(options), WebhookOptions(**options))


def _http_options(options: dict[str, Any]) -> HttpOptions:
    """Those of the connection, taken out of `options`."""
    from invox_watcher.delivery.posting import HttpOptions  # noqa: PLC0415

    return HttpOptions(**{key: options.pop(key) for key in ("url", "ca_bundle", "proxy", "timeout_seconds")})
