"""Shipments for tests of targets, with names and words that must appear nowhere but at the receiver."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from invox_watcher.delivery import Document, Shipment

PATIENT = "Müller-Ångström"
WORDS = "Patient Zoë Qvist reports pain.\nNo fever; 38,5 °C | yesterday ~ & ^ \\ end."
SECRETS = (PATIENT, "Zoë", "Qvist", "smith")  # what no error, receipt or repr may contain


def shipment(number: int = 1, **changes: Any) -> Shipment:
    """One recording's; the same number gives an equal one."""
    plain = Shipment(
        key=f"20261128t090000-{number:012x}.ward",
        job_id=f"20261128t090000-{number:012x}",
        name="smith",
        folder="ward3",
        recorded_at=datetime(2026, 11, 28, 9, 0, tzinfo=UTC),
        received_at=datetime(2026, 11, 28, 9, 5, tzinfo=UTC),
        completed_at=datetime(2026, 11, 28, 9, 6, tzinfo=UTC),
        attributes={"patient_id": "4711", "patient": PATIENT, "author": "Dr. Weiß"},
        text=WORDS,
        documents=(Document("smith.txt", "text/plain", WORDS.encode()),),
    )
    return replace(plain, **changes)


def assert_discreet(*texts: str) -> None:
    """None of these contains a name or a word of the shipment."""
    for text in texts:
        found = [secret for secret in SECRETS if secret in text]
        assert not found, f"{found} in {text!r}"
