"""How long an Ogg file is: its streams may be cut out of longer ones, and may follow one another."""

from __future__ import annotations

from invox_watcher.audio._info import seconds
from invox_watcher.audio._ogg_pages import (
    FIRST,
    NO_GRANULE,
    Codec,
    Page,
    codec_of,
    first_packet,
    pages,
    parse_page,
)
from invox_watcher.audio._reader import Reader

_RESERVED_READS = 300
_PROBES = 12  # into a file that is too long to be walked
_PROBE_BYTES = 16 << 10
_LONGEST_PACKET_SECONDS = 0.12  # of Opus
_EARLY_SECONDS = 0.5  # positions are counted by whole pages, so a start before that is taken for zero


class _Link:
    """One stream of sound, up to where the next one begins."""

    def __init__(self, codec: Codec, serial: int) -> None:
        self.codec, self.serial = codec, serial
        self._first: list[Page] = []  # the first two pages with sound
        self.last = 0

    def add(self, page: Page) -> None:
        if page.granule in (NO_GRANULE, 0):
            return
        if len(self._first) < 2:
            self._first.append(page)
        self.last = page.granule

    def seconds(self) -> float | None:
        start = self._start()
        if start is None or not start < self.last:
            return None
        return seconds(max(0, self.last - start - self.codec.skipped_samples), self.codec.sample_rate)

    def _start(self) -> int | None:
        """Where its positions start; None if its pages don't tell."""
        rate = self.codec.sample_rate
        if not self._first:
            return 0
        first = self._first[0]
        if len(self._first) == 1:
            return 0 if first.granule <= first.packets * rate * _LONGEST_PACKET_SECONDS else None
        second = self._first[1]
        per_packet = (second.granule - first.granule) / max(1, second.packets)
        start = int(first.granule - per_packet * first.packets)
        return start if start > rate * _EARLY_SECONDS else 0


def ogg_seconds(reader: Reader, last_page: Page | None) -> float | None:
    """The length of all streams of sound together; None if that can't be told within the budget.

    `last_page`: the last one of the file that has a position.
    """
    links: list[_Link] = []
    end = 0
    for page in pages(reader, reads_left=_RESERVED_READS):
        end = page.end
        if page.flags & FIRST and (not links or links[-1].last):
            codec = codec_of(first_packet(reader, page))
            if codec is not None:
                links.append(_Link(codec, page.serial))
        elif links and page.serial == links[-1].serial:
            links[-1].add(page)
    if not links or last_page is None:
        return None
    if last_page.start >= end:  # too many pages to walk, or something between them
        if len(links) > 1 or not _is_one_stream(reader, links[0], end, last_page):
            return None
        links[0].add(last_page)
    lengths = [link.seconds() for link in links]
    return None if None in lengths else sum(length for length in lengths if length is not None)


def _is_one_stream(reader: Reader, link: _Link, start: int, last_page: Page) -> bool:
    """Whether looks into the rest find only later and later positions of this stream."""
    position = link.last
    for number in range(_PROBES):
        offset = start + (last_page.start - start) * number // _PROBES
        data = reader.at(offset, _PROBE_BYTES)
        found = (parse_page(data, match) for match in _captures(data))
        for page in found:
            if page is None or page.granule == NO_GRANULE:
                continue
            if page.serial != link.serial or page.granule < position:
                return False
            position = page.granule
    return last_page.serial == link.serial and last_page.granule >= position


def _captures(data: bytes) -> list[int]:
    offsets, offset = [], data.find(b"OggS")
    while offset >= 0:
        offsets.append(offset)
        offset = data.find(b"OggS", offset + 1)
    return offsets
