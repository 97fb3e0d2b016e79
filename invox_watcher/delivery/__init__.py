"""Where transcripts go besides the outbox: one module for each kind of target, and what sends to them."""

from __future__ import annotations

from invox_watcher.delivery.command import Command, CommandResult, facts_of, run_command
from invox_watcher.delivery.dispatcher import Dispatcher, Pace, Send, TargetHealth
from invox_watcher.delivery.fhir import Fhir, FhirOptions
from invox_watcher.delivery.hl7 import Hl7, Hl7Options
from invox_watcher.delivery.http import Webhook, WebhookOptions
from invox_watcher.delivery.mail import Mail, MailOptions
from invox_watcher.delivery.orders import GIVE_UP, SEND_AGAIN, Orders
from invox_watcher.delivery.posting import HttpOptions
from invox_watcher.delivery.sftp import Sftp, SftpOptions
from invox_watcher.delivery.target import GIVEN_FIELDS, Document, Shipment, Target

__all__ = [
    "GIVEN_FIELDS",
    "GIVE_UP",
    "SEND_AGAIN",
    "Command",
    "CommandResult",
    "Dispatcher",
    "Document",
    "Fhir",
    "FhirOptions",
    "Hl7",
    "Hl7Options",
    "HttpOptions",
    "Mail",
    "MailOptions",
    "Orders",
    "Pace",
    "Send",
    "Sftp",
    "SftpOptions",
    "Shipment",
    "Target",
    "TargetHealth",
    "Webhook",
    "WebhookOptions",
    "facts_of",
    "run_command",
]
