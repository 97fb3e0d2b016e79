"""When to poll for a result: as late as its processing takes, for all that is known, and no later.

Known are the latest recordings, each with the time at which its result was still pending and at which it was
found. Until there are some, polls back off from `polling.first_seconds`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from invox_watcher.journal import ProcessingTime

# The first poll is when this share of results is expected to be there, each further one that of the rest.
_FIRST_SHARE, _NEXT_SHARE = 0.5, 0.6
# So few of them are outliers, which are not waited for.
_OUTLIERS = 1 / 8
# The latest first poll: this part of the quickest, of which a tenth count as outliers.
_QUICK_SHARE, _MOST_OF_QUICK = 0.1, 1.4
# Between two polls are these parts of the time waited: with the larger a result is at most that late.
_LEAST_PART, _MOST_PART = 0.1, 0.25
# A result that the first poll finds was ready before, by this part of the time if all of them were so.
_READY_BEFORE = 0.3
# Processing is taken to be proportional to the length until so much shows that it is not.
_PROPORTIONAL = 2.0
_MOST_STRETCHED = 2.0  # times the length: what one beyond that takes, no recording proves
_LEAST_SECONDS = 0.1
# One limit for all polls together: beyond so many jobs, all of them are polled so often in a second.
_UNCROWDED_JOBS = 500
_POLLS_PER_SECOND = 25.0


def first_poll_delay(
    length_seconds: float | None,
    times: Sequence[ProcessingTime] = (),
    *,
    first_seconds: float,
    max_seconds: float,
) -> float:
    """In how many seconds after the upload to poll first; `first_seconds` if nothing is known.

    Later than `max_seconds` only if about half of the latest recordings were certainly pending for that much
    longer: a poll in vain costs one small request, and a wrong estimate as long as it is.
    """
    if not length_seconds or not times:
        return min(first_seconds, max_seconds)
    scales = _scales(length_seconds, times)
    expected = _expected(scales, times)
    pending = sorted(
        time.pending_seconds * min(scale, _MOST_STRETCHED) for time, scale in zip(times, scales, strict=True)
    )
    delay = min(_at(expected, _FIRST_SHARE), _at(expected, _QUICK_SHARE) * _MOST_OF_QUICK)
    return min(max(delay, _LEAST_SECONDS), max_seconds + _at(pending, _FIRST_SHARE))


def next_poll_delay(
    waited_seconds: float,
    length_seconds: float | None = None,
    times: Sequence[ProcessingTime] = (),
    *,
    first_seconds: float,
    max_seconds: float,
    jobs: int = 1,
) -> float:
    """How long until the next poll for a result that has been pending for `waited_seconds`.

    `jobs`: for how many results, this one among them, is waited. With very many it is longer than
    `max_seconds`.
    """
    crowded = (jobs - _UNCROWDED_JOBS) / _POLLS_PER_SECOND
    least, most = min(first_seconds, max_seconds), waited_seconds * _MOST_PART
    if length_seconds and times:
        least = max(_LEAST_SECONDS, waited_seconds * _LEAST_PART)
        most = min(most, _remaining(waited_seconds, length_seconds, times))
    return max(min(max(most, least), max_seconds), crowded)


def _remaining(waited_seconds: float, length_seconds: float, times: Sequence[ProcessingTime]) -> float:
    """How much longer most of those took that took longer; without any, the more the longer that is so."""
    expected = _expected(_scales(length_seconds, times), times)
    later = [seconds for seconds in expected if seconds > waited_seconds * (1 + _LEAST_PART / 2)]
    if len(later) < max(1, int(len(expected) * _OUTLIERS)):
        return (waited_seconds - expected[-1 - len(later)]) / 2
    return _at(later, _NEXT_SHARE) - waited_seconds


def _scales(length_seconds: float, times: Sequence[ProcessingTime]) -> list[float]:
    """What each time is to be multiplied by for a recording of another length.

    The power of the length by which the API's time grows, by least squares: one if it is proportional to the
    length, zero if it is always the same.
    """
    lengths = [math.log(time.length_seconds) for time in times]
    found = [math.log(time.found_seconds) for time in times]
    mean, mean_found = sum(lengths) / len(times), sum(found) / len(times)
    both = sum((one - mean) * (other - mean_found) for one, other in zip(lengths, found, strict=True))
    power = (both + _PROPORTIONAL) / (sum((one - mean) ** 2 for one in lengths) + _PROPORTIONAL)
    length, power = math.log(length_seconds), min(max(power, 0.0), 1.0)
    return [math.exp(power * (length - one)) for one in lengths]


def _expected(scales: Sequence[float], times: Sequence[ProcessingTime]) -> list[float]:
    """When the results were probably ready, scaled, in order.

    Between two polls: in the middle. Before the first: the earlier, the more of them were. So if most are
    found by the first poll, the first poll comes earlier, until about half of them are.
    """
    at_first = sum(time.pending_seconds == 0 for time in times) / len(times)
    ready = (
        (time.pending_seconds + time.found_seconds) / 2
        if time.pending_seconds
        else time.found_seconds * (1 - _READY_BEFORE * at_first)
        for time in times
    )
    return sorted(seconds * scale for seconds, scale in zip(ready, scales, strict=True))


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[int(len(ordered) * share)]
