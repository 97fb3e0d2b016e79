"""What happens to a recording and when: start reading at `pipeline`."""

from __future__ import annotations

from invox_watcher.processing.claiming import Claiming, JournalFirst
from invox_watcher.processing.context import ProcessingOptions
from invox_watcher.processing.documents import delivery_of_single, shipment_of, transcript_of
from invox_watcher.processing.engine import Engine
from invox_watcher.processing.fleet import RETENTION_DUTY, Member, Membership, Tasks, target_duty
from invox_watcher.processing.gates import Gate, JournalMonitor, reasons
from invox_watcher.processing.intake import Intake
from invox_watcher.processing.lanes import Clock, local_lanes
from invox_watcher.processing.lease import Lease
from invox_watcher.processing.pipeline import Pipeline
from invox_watcher.processing.polling import PollingPolicy
from invox_watcher.processing.rechecks import Rechecks
from invox_watcher.processing.recovery import recover, return_stranded
from invox_watcher.processing.single import Single, SingleResult, poll_single, transcribe_single

__all__ = [
    "RETENTION_DUTY",
    "Claiming",
    "Clock",
    "Engine",
    "Gate",
    "Intake",
    "JournalFirst",
    "JournalMonitor",
    "Lease",
    "Member",
    "Membership",
    "Pipeline",
    "PollingPolicy",
    "ProcessingOptions",
    "Rechecks",
    "Single",
    "SingleResult",
    "Tasks",
    "delivery_of_single",
    "local_lanes",
    "poll_single",
    "reasons",
    "recover",
    "return_stranded",
    "shipment_of",
    "target_duty",
    "transcribe_single",
    "transcript_of",
]
