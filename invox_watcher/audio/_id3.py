"""Tags around the audio: ID3v2 before it (id3.org, "ID3 tag version 2.4.0"), ID3v1 and APEv2 after it."""

from __future__ import annotations

from invox_watcher.audio._reader import Reader, big, little

_MAX_TAGS = 8
_HAS_FOOTER = 0x10
_APE_HAS_HEADER = 1 << 31


def audio_start(reader: Reader, head: bytes) -> int:
    """The position of the audio after any ID3v2 tags; may be beyond the end of the file."""
    offset = 0
    if not head.startswith(b"ID3"):
        return offset
    for _ in range(_MAX_TAGS):
        tag = reader.at(offset, 10)
        if tag[:3] != b"ID3":
            break
        size = 0
        for byte in tag[6:10]:  # 7 bits each, so that no size looks like an audio frame
            size = size << 7 | byte & 0x7F
        offset += 10 + size + (10 if big(tag, 5, 1) & _HAS_FOOTER else 0)
    return offset


def audio_end(reader: Reader) -> int:
    """The position where the audio ends, before any ID3v1 and APEv2 tags."""
    end = reader.size
    if reader.at(end - 128, 3) == b"TAG":
        end -= 128
    footer = reader.at(end - 32, 32)
    if footer[:8] == b"APETAGEX":
        size = little(footer, 12, 4) + (32 if little(footer, 20, 4) & _APE_HAS_HEADER else 0)
        end = max(0, end - size)
    return end
