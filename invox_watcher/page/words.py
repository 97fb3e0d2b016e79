"""The page's own texts in the language of the browser; a text's key is its English wording.

`words/de.json` and `words/es.json` hold the translations. Messages, hints and receipts come from the daemon:
they are English in every language, and the templates mark them so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from markupsafe import Markup, escape

from invox_watcher.job import State
from invox_watcher.page.model import Done

LANGUAGES = ("en", "de", "es")  # the first is the one for those who prefer none of them

STATES: Mapping[State, str] = {
    State.CLAIMED: "Received",
    State.IDENTIFIED: "Waiting to be sent",
    State.UPLOADING: "Being sent",
    State.WAITING: "Being transcribed",
    State.TRANSCRIBED: "Writing the transcript",
    State.DELIVERED: "Being filed",
    State.DONE: "Done",
    State.FAILING: "Failing",
    State.FAILED: "Failed",
    State.VANISHED: "Removed",
}
# What happened when a recording came into that state.
EVENTS: Mapping[State, str] = {
    State.CLAIMED: "Received",
    State.IDENTIFIED: "Checked",
    State.UPLOADING: "Sending started",
    State.WAITING: "Sent",
    State.TRANSCRIBED: "Transcribed",
    State.DELIVERED: "Transcript written",
    State.DONE: "Filed",
    State.FAILING: "Given up",
    State.FAILED: "Filed as failed",
    State.VANISHED: "Its file was removed",
}
NEXT_STEPS: Mapping[State, str] = {
    State.CLAIMED: "Check the recording",
    State.IDENTIFIED: "Send it to Invox Medical",
    State.UPLOADING: "Ask whether it arrived",
    State.WAITING: "Ask for the transcript",
    State.TRANSCRIBED: "Write the transcript",
    State.DELIVERED: "File the recording as done",
    State.FAILING: "File the recording as failed",
}
INBOX_STAGES: Mapping[str, str] = {
    "error": "Can't be read",
    "unfinished": "Not complete",
    "settling": "Arriving",
    "held": "On hold",
    "ready": "Taken next",
    "ignored": "Ignored",
}
DELIVERY_STATES: Mapping[str, str] = {
    "due": "Not sent yet",
    "uncertain": "Unconfirmed",
    "sent": "Delivered",
    "failed": "Refused",
    "cancelled": "Cancelled",
}
DOUBTS: Mapping[str, str] = {
    "untranscribed_speech": "Speech without text",
    "too_few_words": "Too few words for the speech",
    "too_many_words": "More words than can be said in that time",
    "beyond_end": "Text after the end of the recording",
}
# What came of what a viewer did.
NOTICES: Mapping[str, str] = {
    Done.RETRIED: "The recording was moved to the inbox. It is processed again from the start.",
    Done.RETRIED_BEFORE: "This was done before: the recording is no longer among the failed ones.",
    Done.SENT_AGAIN: "It is sent again. The result appears here.",
    Done.OWED_ALREADY: "It is already waiting to be sent. The result appears here.",
}
# What static/page.js shows.
SCRIPT: Mapping[str, str] = {
    "lost": "Connection lost. What you see may be out of date. Trying again …",
    "unavailable": "This can't be updated right now. What you see may be out of date. Trying again …",
    "unplayable": "This browser can't play the recording.",
    "now": "just now",
}
TABLES: tuple[Mapping[State, str] | Mapping[str, str], ...] = (
    STATES, EVENTS, NEXT_STEPS, INBOX_STAGES, DELIVERY_STATES, DOUBTS, NOTICES, SCRIPT,
)  # fmt: skip


@dataclass(frozen=True)
class Words:
    """The texts in one language."""

    language: str
    texts: Mapping[str, str] = field(default_factory=dict)

    def text(self, english: str) -> str:
        """The text as it is, with any `{place}` in it."""
        return self.texts.get(english, english)

    def __call__(self, english: str, /, **values: object) -> Markup:
        """The text with its places filled, as HTML."""
        text = escape(self.text(english))
        return text.format(**values) if values else text

    def count(self, one: str, many: str, number: int, **values: object) -> Markup:
        """The text for one or for another number of things, which is its place `{n}`."""
        return self(one if number == 1 else many, n=f"{number:,}".replace(",", "\u202f"), **values)


@cache
def words_in(language: str) -> Words:
    """The texts in one of `LANGUAGES`."""
    if language == LANGUAGES[0]:
        return Words(language)
    content = resources.files(__package__).joinpath("words", f"{language}.json").read_text("utf-8")
    return Words(language, json.loads(content))


def preferred(accept_language: str) -> str:
    """The one of `LANGUAGES` that an Accept-Language header (RFC 9110, 12.5.4) likes best."""
    weights: dict[str, float] = {}
    for entry in accept_language[:1000].lower().split(","):
        tag, _, parameter = entry.partition(";")
        language = tag.strip().partition("-")[0]
        weights[language] = max(weights.get(language, 0.0), _weight(parameter))
    others = weights.get("*", 0.0)
    order = [one for one in weights if one in LANGUAGES] + list(LANGUAGES)
    best = max(order, key=lambda one: weights.get(one, others))  # the first of equal ones
    return best if weights.get(best, others) > 0 else LANGUAGES[0]


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0
