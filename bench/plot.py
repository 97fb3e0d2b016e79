"""A line plot as SVG: few points, named positions, from zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bench.figures import Series, number

WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 60, 190, 40, 50
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by the colour-blind, too
STYLE = (
    "text{font:13px sans-serif;fill:#444}.grid{stroke:#ddd}.line{fill:none;stroke-width:2}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}.grid{stroke:#555}}"
)


def plot(title: str, across: str, series: Sequence[Series], *, evenly: bool = False) -> str:
    """The curves of `series`; with `evenly`, one step apart, as for 0, 1,000, 1,000,000."""
    positions = sorted({x for one in series for x in one.x})
    top = nice(max(y for one in series for y in one.y))
    first, last = (0, len(positions) - 1) if evenly else (0, positions[-1])

    def at_x(x: float) -> float:
        place = positions.index(x) if evenly else x
        return LEFT + (place - first) / (last - first or 1) * (WIDTH - LEFT - RIGHT)

    def at_y(y: float) -> float:
        return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    ticks = positions if evenly else [last * part / 7 for part in range(8)]
    parts = [text(LEFT, 20, title)]
    for step in range(5):
        y = at_y(top * step / 4)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 8, y + 4, number(top * step / 4), "end"))
    parts += [text(at_x(x), HEIGHT - BOTTOM + 20, number(x), "middle") for x in ticks]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, across, "middle"))
    for one, colour in zip(series, COLOURS, strict=False):
        points = [(at_x(x), at_y(y)) for x, y in zip(one.x, one.y, strict=True)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        parts.append(f'<path class="line" stroke="{colour}" d="M{path}"/>')
        if evenly:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]
        parts.append(text(points[-1][0] + 10, points[-1][1] + 4, one.name))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' role="img"><title>{escape(title)}</title><style>{STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def nice(most: float) -> float:
    """A round number that is a bit more than that."""
    power = 10.0 ** math.floor(math.log10(most or 1))
    return next(
        step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10, 12) if step * power >= most * 1.05
    )
