"""How often passwords may be tried, so that no one guesses one, and no one is locked out for good.

Each attempt takes a token from three buckets, which fill again: of the name from that address, of the
address, of the name from anywhere. The last one does not count for addresses from which that name has signed
in, so that guessing elsewhere does not keep a user out.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from ipaddress import IPv6Address, ip_address

_MAX_KEYS = 20_000  # per table; the oldest are forgotten


class _Buckets:
    """A bucket of tokens for each key; one that is not known is full."""

    def __init__(self, size: int, refill_seconds: float) -> None:
        self._size, self._refill_seconds = size, refill_seconds
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, key: Hashable, now: float) -> float:
        return max(0.0, (1 - self._level(key, now)) * self._refill_seconds)

    def take(self, key: Hashable, now: float, tokens: float = 1) -> None:
        """Take tokens, or with a negative number return them."""
        self._buckets[key] = (min(self._level(key, now) - tokens, self._size), now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > _MAX_KEYS:
            self._buckets.popitem(last=False)

    def _level(self, key: Hashable, now: float) -> float:
        level, at = self._buckets.get(key, (float(self._size), now))
        return min(level + (now - at) / self._refill_seconds, self._size)


class Attempts:
    """The attempts to sign in. For one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of_name_and_address = _Buckets(5, 60)
        self._of_address = _Buckets(30, 20)
        self._of_name = _Buckets(50, 60)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def begin(self, name: str, address: str) -> float:
        """0 if a password may be tried now, which then counts; else in how many seconds it may be."""
        now, network = self._clock(), network_of(address)
        pairs = self._pairs(name, network)
        wait = max(buckets.wait_seconds(key, now) for buckets, key in pairs)
        if wait == 0:
            for buckets, key in pairs:
                buckets.take(key, now)
        return wait

    def succeeded(self, name: str, address: str) -> None:
        """The attempt that was begun has succeeded: it counts no longer."""
        self.withdraw(name, address)
        network = network_of(address)
        self._known[name, network] = None
        self._known.move_to_end((name, network))
        if len(self._known) > _MAX_KEYS:
            self._known.popitem(last=False)

    def withdraw(self, name: str, address: str) -> None:
        """The attempt that was begun counts no longer: the password could not be compared."""
        now, network = self._clock(), network_of(address)
        for buckets, key in self._pairs(name, network):
            buckets.take(key, now, -1)

    def _pairs(self, name: str, network: str) -> list[tuple[_Buckets, Hashable]]:
        pairs: list[tuple[_Buckets, Hashable]] = [
            (self._of_name_and_address, (name, network)),
            (self._of_address, network),
        ]
        if (name, network) not in self._known:
            pairs.append((self._of_name, name))
        return pairs


def network_of(address: str) -> str:
    """The address, or of an IPv6 address its /64: who has one of those has all of it."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)
