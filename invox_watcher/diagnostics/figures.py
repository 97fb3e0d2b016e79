"""Sizes and durations as people read them."""

from __future__ import annotations


def size(size_bytes: float) -> str:
    """`15 B`, `812 kB`, `1.2 MB`: powers of ten, as network rates are given."""
    if 0 < size_bytes < 1000:
        return f"{size_bytes:.0f} B"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 999_500 else f"{size_bytes / 1000:.0f} kB"


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 20 s`, `2 h 05 min`, `4 d 3 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def in_one_unit(seconds: float) -> str:
    """`42 s`, `3 min`, `2 h`, `4 d`: at most six columns."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds) // size} {unit}"
    return duration(seconds)
