"""Does a transcript cover its recording? The rule, on numbers alone.

First `questions` names the stretches of the recording that the transcript leaves open; a whole transcript
leaves none, so nothing has to be listened to. Then `judge` compares what was heard there with the transcript.
All times are seconds from the recording's beginning.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from invox_watcher.suspicion import Doubt, Suspicion
from invox_watcher.transcript import Segment

# Pauses for breath and thought are shorter; so is what the recognizers' inexact times leave open.
_LONG_SECONDS = 4.0
# A lost segment of a few words leaves less than that. Many of them show in their sum: in a whole transcript,
# such gaps are less than a tenth of the recording, unless its speaker hesitates a lot. Where all times are a
# second off, shorter gaps than these could be full of speech that has its words.
_SHORT_SECONDS = 1.75
_SHORT_GAPS_SECONDS = 3.0
_SHORT_GAPS_SHARE = 0.1
# That much of a short gap is speech if a segment was lost; between two segments, inexact times leave less.
_SHORT_GAP_SPEECH = 2 / 3
# Recognizers end a segment before the last sound of its last word has died away.
_MARGIN_SECONDS = 0.3
# Some three or four words on end. Recognizers rightly leave out what is shorter: "um", a cough, a laugh; and
# music has half a second now and then that the detector takes for speech.
_LEAST_SPEECH_SECONDS = 1.5
_LONGEST_PAUSE_SECONDS = 2.0
# Dictation has two words and more to the second of speech; spelt letters, and the longest compounds, one.
_SLOWEST_SECONDS_PER_WORD = 1.5
# Auctioneers, and readers of the small print in commercials, come to some six words in a second.
_FASTEST_WORDS_PER_SECOND = 8.0
# In a few seconds, half a second of inexact length counts for too much.
_FEWEST_FAST_WORDS = 30
# The length of an MP3 whose header does not count its frames is inferred from its beginning. Other lengths
# are rounded, and recognizers pad what they hear: to 30 seconds, Whisper.
_LONGEST_FACTOR = 1.5
_START_SLACK_SECONDS = 5.0
_END_SLACK_SECONDS = 30.0
# Scripts that write no spaces: Thai to Khmer, kana, ideographs. Two characters are about one word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_CHARACTERS_PER_WORD = 2
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Stretch:
    """From `start` to `end`, which is infinite for the end of a recording of unknown length."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


@dataclass(frozen=True)
class Question:
    """A stretch to be listened to. `words` are those that it has at most; None if no segment covers it."""

    stretch: Stretch
    words: int | None = None


def questions(segments: Sequence[Segment], length_seconds: float | None) -> list[Question]:
    """What has to be listened to before a transcript can be judged, in order; nothing for a whole one."""
    length = length_seconds or math.inf
    covered = _covered(segments, length)
    sparse = [
        Question(stretch, words)
        for segment, stretch in zip(segments, covered, strict=True)
        if stretch.seconds >= _LONG_SECONDS
        and stretch.seconds > (words := _most_words(segment.text)) * _SLOWEST_SECONDS_PER_WORD
    ]
    return sorted([*map(Question, _gaps(covered, length)), *sparse], key=lambda one: one.stretch.start)


def judge(
    segments: Sequence[Segment],
    length_seconds: float | None,
    asked: Iterable[Question] = (),
    speech: Sequence[Stretch] = (),
) -> tuple[Suspicion, ...]:
    """What is suspicious about a transcript; `speech` is what was heard where it was `asked`."""
    found = [*_untranscribed(asked, speech), *_too_few(asked, speech)]
    if length_seconds:
        found += [*_beyond(segments, length_seconds), *_too_many(segments, length_seconds)]
    return tuple(sorted(found, key=lambda one: (one.start, one.end)))


def _covered(segments: Sequence[Segment], length: float) -> list[Stretch]:
    """The stretch of each segment. Without an end of its own it lasts as long as its words may take."""
    starts = sorted(segment.start for segment in segments)
    stretches = []
    for segment in segments:
        end = segment.end
        if end <= segment.start:
            later = bisect_right(starts, segment.start)
            most = segment.start + _most_words(segment.text) * _SLOWEST_SECONDS_PER_WORD
            end = min([most, *starts[later : later + 1]])
        stretches.append(Stretch(min(segment.start, length), min(max(end, segment.start), length)))
    return stretches


def _gaps(covered: Iterable[Stretch], length: float) -> list[Stretch]:
    """The stretches that nothing covers, if they are long enough to matter."""
    gaps, reached = [], 0.0
    for stretch in sorted(covered, key=lambda one: one.start):
        gaps.append(Stretch(reached, stretch.start))
        reached = max(reached, stretch.end)
    gaps.append(Stretch(reached, length))
    short_seconds = sum(gap.seconds for gap in gaps if _SHORT_SECONDS <= gap.seconds < _LONG_SECONDS)
    many_short = short_seconds >= max(_SHORT_GAPS_SECONDS, _SHORT_GAPS_SHARE * reached)
    shortest = _SHORT_SECONDS if many_short else _LONG_SECONDS
    return [gap for gap in gaps if gap.seconds >= shortest]


def _untranscribed(asked: Iterable[Question], speech: Sequence[Stretch]) -> list[Suspicion]:
    """Speech in gaps: in each long one by itself, in the short ones together."""
    gaps = [question.stretch for question in asked if question.words is None]
    in_long = [_utterances(_within(speech, _inner(gap))) for gap in gaps if gap.seconds >= _LONG_SECONDS]
    in_short = [_within(speech, _inner(gap)) for gap in gaps if _is_filled(gap, speech)]
    if sum(map(_total, in_short)) < _LEAST_SPEECH_SECONDS:
        in_short = []
    return [_suspicion(Doubt.UNTRANSCRIBED_SPEECH, heard) for heard in (*in_long, *in_short) if heard]


def _is_filled(gap: Stretch, speech: Iterable[Stretch]) -> bool:
    """Whether a short gap is mostly speech."""
    inner = _inner(gap)
    heard = _total(_within(speech, inner))
    return gap.seconds < _LONG_SECONDS and heard >= inner.seconds * _SHORT_GAP_SPEECH


def _too_few(asked: Iterable[Question], speech: Sequence[Stretch]) -> list[Suspicion]:
    """Segments whose words are too few for the speech in them, each and all of these together."""
    found, surplus = [], 0.0
    for question in asked:
        if question.words is not None:
            heard = _within(speech, question.stretch)
            beyond = _total(heard) - question.words * _SLOWEST_SECONDS_PER_WORD
            if beyond > 0:
                surplus += beyond
                found.append(_suspicion(Doubt.TOO_FEW_WORDS, heard))
    return found if surplus >= _LEAST_SPEECH_SECONDS else []


def _beyond(segments: Sequence[Segment], length: float) -> list[Suspicion]:
    longest = length * _LONGEST_FACTOR
    beyond = [
        segment
        for segment in segments
        if segment.start > longest + _START_SLACK_SECONDS or segment.end > longest + _END_SLACK_SECONDS
    ]
    if not beyond:
        return []
    begin, end = min(one.start for one in beyond), max(one.end for one in beyond)
    return [Suspicion(Doubt.BEYOND_END, round(begin, 3), round(end, 3))]


def _too_many(segments: Sequence[Segment], length: float) -> list[Suspicion]:
    words = sum(_least_words(segment.text) for segment in segments)
    if words < _FEWEST_FAST_WORDS or words <= length * _FASTEST_WORDS_PER_SECOND:
        return []
    return [Suspicion(Doubt.TOO_MANY_WORDS, 0.0, round(length, 3))]


def _inner(stretch: Stretch) -> Stretch:
    return Stretch(stretch.start + _MARGIN_SECONDS * (stretch.start > 0), stretch.end - _MARGIN_SECONDS)


def _within(speech: Iterable[Stretch], stretch: Stretch) -> list[Stretch]:
    parts = (Stretch(max(one.start, stretch.start), min(one.end, stretch.end)) for one in speech)
    return [part for part in parts if part.seconds > 0]


def _utterances(speech: Iterable[Stretch]) -> list[Stretch]:
    """Speech with short pauses only, as long as there is enough of it."""
    together: list[list[Stretch]] = []
    for one in speech:
        if together and one.start - together[-1][-1].end <= _LONGEST_PAUSE_SECONDS:
            together[-1].append(one)
        else:
            together.append([one])
    return [
        Stretch(parts[0].start, parts[-1].end) for parts in together if _total(parts) >= _LEAST_SPEECH_SECONDS
    ]


def _total(stretches: Iterable[Stretch]) -> float:
    return sum(stretch.seconds for stretch in stretches)


def _suspicion(reason: Doubt, heard: Sequence[Stretch]) -> Suspicion:
    return Suspicion(reason, round(heard[0].start, 3), round(heard[-1].end, 3))


def _least_words(text: str) -> int:
    """How many words were said at least, for a text of these."""
    unspaced = len(_UNSPACED.findall(text))
    spaced = sum(any(map(str.isalnum, word)) for word in _UNSPACED.sub(" ", text).split())
    return spaced + unspaced // _CHARACTERS_PER_WORD


def _most_words(text: str) -> int:
    """How many words may have been said: each digit of a number, each character without spaces."""
    return len(_UNSPACED.findall(text)) + len(_DIGIT.findall(text)) + len(_UNSPACED.sub(" ", text).split())
