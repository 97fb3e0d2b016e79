"""SRT and VTT: a transcript as captions, at most two lines to a cue.

Not by a library, because those available change the words: pysubs2 1.8 takes `{unclear}` for an ASS tag and
drops it, and does not escape `<` and `&` in VTT; srt has had no release since 2023. None of them decides
where lines and cues break, which is the hard part.

Lines break only between grapheme clusters (https://www.unicode.org/reports/tr29/), which is also what their
length is counted in: an accent, a vowel sign of Thai or Devanagari, a joined emoji is never cut off.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from invox_watcher.transcript import Segment

LINE_LENGTH = 42  # clusters; with two lines to a cue the limits of common captioning guidelines
LINES_PER_CUE = 2
_MOST_WORDS = LINES_PER_CUE * (LINE_LENGTH // 2 + 1)  # words of one letter
_LONGEST_LABEL = 24  # leaves room for words beside the speaker
_READABLE_MS = (
    833  # 5/6 of a second, the minimum in captioning guidelines, unless the next cue begins earlier
)
_SHORTEST_MS = 40  # one video frame, the minimum in any case
_SRT_MARKS = str.maketrans("<>{}", "‹›()")
_CLAUSE_END = re.compile(r"[.,;:!?…–—。、,;:!?]['\"’”»)\]]*$")


def srt(segments: Sequence[Segment]) -> str:
    """SubRip: number, times, at most two lines, a blank line. Each cue names its speaker: players may seek.

    The format has no escapes, and players drop text between < and > or { and }: "BP <120 and >80" becomes
    "BP 80". So those are replaced by similar characters, and `-->`, which marks a line of times, by an arrow.
    """
    cues = _timed([cue for segment in segments for cue in _cues(segment, prefix(segment.speaker))])
    return "".join(
        f"{number}\n{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}\n{_plain(cue.lines)}\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT (https://www.w3.org/TR/webvtt1/); the speaker is a voice span around the cue's text."""
    cues = _timed([cue for segment in segments for cue in _cues(segment, "")])
    blocks = [f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}\n{_voiced(cue)}\n" for cue in cues]
    return "\n".join(["WEBVTT\n", *blocks])


@dataclass(frozen=True)
class _Cue:
    start_ms: int
    end_ms: int
    lines: tuple[str, ...]
    speaker: str | None


def _cues(segment: Segment, prefix: str) -> list[_Cue]:
    """Split the segment into cues that fit; each gets time in proportion to its share of the words."""
    words = [piece for word in _words(clean(segment.text)) for piece in _pieces(word)]
    if _length(prefix) > _LONGEST_LABEL:
        prefix = f"{''.join(_clusters(prefix)[: _LONGEST_LABEL - 3]).rstrip()}…: "
    start_ms, end_ms = round(segment.start * 1000), round(segment.end * 1000)
    cues, done = [], 0
    for part in _parts(words, prefix):
        begin, done = done, done + len(part)
        cues.append(
            _Cue(
                start_ms + (end_ms - start_ms) * begin // len(words),
                start_ms + (end_ms - start_ms) * done // len(words),
                tuple(_wrapped(part, prefix)),
                segment.speaker,
            )
        )
    return cues


def _parts(words: list[str], prefix: str) -> Iterator[list[str]]:
    """The words of each cue: up to the last clause end in the second half of what fits, else equal parts."""
    while words:
        fits = min(len(words), _MOST_WORDS)
        while len(_wrapped(words[:fits], prefix)) > LINES_PER_CUE:
            fits -= 1
        cut = fits
        if fits < len(words):
            clause_ends = [n for n in range(fits, fits // 2, -1) if _CLAUSE_END.search(words[n - 1])]
            even = math.ceil(len(words) / math.ceil(len(words) / fits))
            cut = clause_ends[0] if clause_ends else even
        yield words[:cut]
        words = words[cut:]


def _wrapped(words: Sequence[str], prefix: str) -> list[str]:
    """Lines of at most LINE_LENGTH clusters; the first begins with the prefix."""
    lines = [prefix.rstrip()] if prefix else []
    for word in words:
        if lines and _length(lines[-1]) + 1 + _length(word) <= LINE_LENGTH:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _words(text: str) -> list[str]:
    """The words of a text; a space with a combining accent is part of a word."""
    if text.isascii():
        return text.split(" ")
    parts = groupby(_clusters(text), key=lambda cluster: cluster == " ")
    return ["".join(clusters) for is_space, clusters in parts if not is_space]


def _pieces(word: str) -> list[str]:
    clusters = _clusters(word)
    return ["".join(clusters[at : at + LINE_LENGTH]) for at in range(0, len(clusters), LINE_LENGTH)]


def _clusters(text: str) -> list[str]:
    """The grapheme clusters of a text: what a reader takes for single characters."""
    if text.isascii():
        return list(text)
    import regex  # noqa: PLC0415 - not for every command

    clusters: list[str] = regex.findall(r"\X", text)
    return clusters


@functools.lru_cache(maxsize=256)
def _length(text: str) -> int:
    return len(_clusters(text))


def _timed(cues: list[_Cue]) -> list[_Cue]:
    """The cues sorted by time, without overlaps, each long enough to read if the next one allows it."""
    ordered = sorted(cues, key=lambda cue: cue.start_ms)
    result: list[_Cue] = []
    free_from = 0
    for index, cue in enumerate(ordered):
        start = max(cue.start_ms, free_from)
        end = max(cue.end_ms, start + _READABLE_MS)
        if index + 1 < len(ordered):
            end = max(min(end, ordered[index + 1].start_ms), start + _SHORTEST_MS)
        result.append(_Cue(start, end, cue.lines, cue.speaker))
        free_from = end
    return result


def _clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{mark}{rest:03}"


def _plain(lines: Sequence[str]) -> str:
    return "\n".join(lines).replace("-->", "→").translate(_SRT_MARKS)


def _voiced(cue: _Cue) -> str:
    text = _escaped("\n".join(cue.lines))
    return f"<v {_escaped(cue.speaker)}>{text}</v>" if cue.speaker else text


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def prefix(speaker: str | None) -> str:
    return f"{speaker}: " if speaker else ""


def clean(text: str) -> str:
    """The text on one line: single spaces, no control characters, no invisible words."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    kinds = {c: unicodedata.category(c) for c in set(text)}
    shown = (
        "\N{REPLACEMENT CHARACTER}" if kinds[c] == "Cs" else " " if kinds[c] == "Cc" else c for c in text
    )
    return " ".join(word for word in "".join(shown).split() if any(kinds.get(c) != "Cf" for c in word))
