"""How a WebM ends that declares no size (RFC 9559): with a whole block, or in the middle of one."""

from __future__ import annotations

from dataclasses import dataclass

from invox_watcher.audio._elements import Element, parse_element
from invox_watcher.audio._reader import Reader, big

_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK = 0x1F43B675, 0xE7, 0xA3, 0xA0, 0xA1
_CLUSTER_ID = _CLUSTER.to_bytes(4, "big")
# What may follow a block: another, what else is in a cluster, the next cluster, what is behind the last.
_FOLLOWING = frozenset(
    {
        *(_CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK, _BLOCK_GROUP, 0xA7, 0xAB, 0x5854, 0xEC, 0xBF),
        *(0x1C53BB6B, 0x1254C367, 0x114D9B74, 0x1549A966, 0x1043A770, 0x1941A469),
    }
)
_MAX_ELEMENT_BYTES = 1 << 24
_HEAD_BYTES = 64
_TAIL_BYTES = 384 << 10
_TO_BE_SURE = 6  # blocks in a row, where the tail holds no beginning of a cluster


@dataclass(frozen=True)
class Ending:
    """`whole`: the last block ends with the file; False: the file ends before it; None: can't be told.

    `length`: from the first cluster to the last block, in the segment's units of time.
    """

    whole: bool | None
    length: int | None


@dataclass(frozen=True)
class _Walk:
    whole: bool | None
    blocks: int
    cluster_time: int | None
    last_time: int | None


def clusters_ending(reader: Reader, first_cluster: int) -> Ending:
    """How the clusters end, of which the first has its content at `first_cluster`."""
    begin = _walk(reader.at(first_cluster, _HEAD_BYTES), 0).cluster_time
    tail_start = max(first_cluster, reader.size - min(_TAIL_BYTES, reader.bytes_left // 2))
    tail = reader.at(tail_start, reader.size - tail_start)
    start = 0 if tail_start == first_cluster else tail.find(_CLUSTER_ID)
    while start >= 0:
        walk = _walk(tail, start)
        if walk.whole is not None:
            return Ending(walk.whole, _between(begin, walk.last_time))
        start = tail.find(_CLUSTER_ID, start + 1)
    return Ending(_from_any_block(tail), None)


def _between(first: int | None, last: int | None) -> int | None:
    return None if first is None or last is None or last < first else last - first


def _from_any_block(tail: bytes) -> bool | None:
    start = tail.find(_SIMPLE_BLOCK)
    while 0 <= start < len(tail) // 2:
        walk = _walk(tail, start)
        if walk.whole is not None and walk.blocks >= _TO_BE_SURE:
            return walk.whole
        start = tail.find(_SIMPLE_BLOCK, start + 1)
    return None


def _walk(data: bytes, offset: int) -> _Walk:
    """Follow the elements up to the end of the data, or to something that is none."""
    blocks, cluster_time, last_time = 0, None, None
    while offset < len(data):
        found = parse_element(data, offset)
        if found is None or found.id not in _FOLLOWING:
            begun = found is None and len(data) - offset < 12 and any(data[offset:])
            return _Walk(False if begun else None, blocks, cluster_time, last_time)
        start = offset + found.start
        if found.id == _CLUSTER:
            offset, cluster_time = start, None
            continue
        size = found.size
        if size is None or size > _MAX_ELEMENT_BYTES:
            return _Walk(None, blocks, cluster_time, last_time)
        if start + size > len(data):
            return _Walk(False, blocks, cluster_time, last_time)
        if found.id == _TIMESTAMP:
            cluster_time = big(data, start, min(size, 8))
        elif found.id in (_SIMPLE_BLOCK, _BLOCK_GROUP):
            blocks += 1
            time = _block_time(data, start, found)
            last_time = last_time if time is None or cluster_time is None else cluster_time + time
        offset = start + size
    return _Walk(True, blocks, cluster_time, last_time)


def _block_time(data: bytes, start: int, found: Element) -> int | None:
    """The time of a block of the first 127 tracks, against its cluster's."""
    if found.id == _BLOCK_GROUP:
        inner = parse_element(data, start)
        if inner is None or inner.id != _BLOCK:
            return None
        start += inner.start
    return int.from_bytes(data[start + 1 : start + 3], "big", signed=True)
