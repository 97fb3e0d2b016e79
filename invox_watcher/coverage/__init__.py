"""Does a transcript cover its recording? `rule` decides, on numbers; `Listener` hears where people speak."""

from __future__ import annotations

from invox_watcher.coverage.listener import Decode, Listener, ListenerBusyError, UnheardError
from invox_watcher.coverage.rule import Question, Stretch, judge, questions
from invox_watcher.coverage.wav import Pcm, read_pcm

__all__ = [
    "Decode",
    "Listener",
    "ListenerBusyError",
    "Pcm",
    "Question",
    "Stretch",
    "UnheardError",
    "judge",
    "questions",
    "read_pcm",
]
