"""How loud a recording is over its length: enough for a picture as wide as a page, and quick for hours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from invox_watcher.coverage import Pcm

PARTS = 400
_PEAKS_PER_PART, _SAMPLES_PER_PEAK = 8, 1024
_FULL_SCALE = 32768
# What is quieter than this throughout is drawn as silence, not as noise as high as speech.
_QUIET = 0.01


def curve_of(pcm: Pcm) -> tuple[float, ...]:
    """From 0 to 1, 1 being the loudest part; of a long recording some samples of each part are looked at."""
    count = min(PARTS, pcm.length)
    edges = [pcm.length * number // count for number in range(count + 1)] if count else [0]
    levels = [_level(pcm, begin, end) for begin, end in pairwise(edges)]
    loudest = max([_QUIET, *levels])
    return tuple(round(level / loudest, 3) for level in levels)


def _level(pcm: Pcm, begin: int, end: int) -> float:
    """The peaks of the part, as root of their mean square: a click is not louder than speech."""
    step = max((end - begin) // _PEAKS_PER_PART, 1)
    peaks = []
    for position in range(begin, end, step):
        samples = pcm.read(position, min(step, _SAMPLES_PER_PEAK, end - position))
        peaks.append(_height(samples))
    return math.sqrt(sum(peak * peak for peak in peaks) / len(peaks)) if peaks else 0.0


def _height(samples: Sequence[int]) -> float:
    return max(abs(max(samples)), abs(min(samples))) / _FULL_SCALE if samples else 0.0
