"""`python -m invox_watcher.coverage.heard START:END …`, started by `listener`: prints where people speak.

The recording, uncompressed WAV, is on descriptor 0. What is printed is a list of pairs, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from collections.abc import Sequence

from invox_watcher.coverage.listener import MOST_SECONDS
from invox_watcher.coverage.voice import Voice
from invox_watcher.coverage.wav import read_pcm

_NICENESS = 10  # transcripts are to be delivered, not to be judged, at once


def main(arguments: Sequence[str]) -> None:
    """Listen to each stretch, and print."""
    with contextlib.suppress(OSError):  # our unit forbids it
        os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))  # even if the daemon was killed
    sound, voice = read_pcm(0), Voice()
    assert sound is not None  # noqa: S101 - the listener has looked
    found = []
    for argument in arguments:
        start, end = map(float, argument.split(":"))
        found += [(one.start, one.end) for one in voice.speech_in(sound.samples(start, end), start)]
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
