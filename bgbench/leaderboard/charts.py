"""Pictures as SVG in the page: no script, no file, colours from the page's theme."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup, escape

from bgbench.leaderboard.scales import Scale, scale, short
from bgbench.reports.statistics import Interval

COLOURS = 8
"""Series that have a colour and a marker of their own; the others stay grey."""

WIDTH, HEIGHT = 420, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 42
MARKERS = (
    "M-3.6,0a3.6,3.6 0 1,0 7.2,0a3.6,3.6 0 1,0 -7.2,0",
    "M-3.3,-3.3h6.6v6.6h-6.6z",
    "M0,-4.4L4,3.2H-4z",
    "M0,-4.6L4.6,0L0,4.6L-4.6,0z",
)


class ChartPoint(NamedTuple):
    """A point of a chart in the units of its axes, both above zero."""

    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """A named series of points; `style` is its number, None for grey."""

    name: str
    points: Sequence[ChartPoint]
    style: int | None
    control: bool = False


def marker(style: int) -> str:
    """The path of a series' marker, around the origin."""
    return MARKERS[style % len(MARKERS)]


def line_chart(
    lines: Sequence[Line], floor: Sequence[ChartPoint], x_label: str, y_label: str, description: str
) -> Markup:
    """Series on logarithmic axes, the noise floor dotted; empty without points.

    Args:
        lines: the series.
        floor: the points of the noise floor.
        x_label: below the axis.
        y_label: beside the axis.
        description: for those who cannot see the picture.
    """
    points = [point for line in lines for point in line.points]
    x = scale((p.x for p in points), LEFT, WIDTH - RIGHT)
    y = scale((p.y for p in [*points, *floor]), HEIGHT - BOTTOM, TOP)
    if x is None or y is None:
        return Markup("")
    parts = [_axes(x, y, x_label, y_label)]
    if floor:
        parts.append(f'<path class="floor" d="{_path([p for p in floor if p.x <= x.high], x, y)}"/>')
    ordered = sorted(lines, key=lambda line: line.style is not None)
    parts += [_series(line, x, y) for line in ordered if line.points]
    return Markup(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )


def _axes(x: Scale, y: Scale, x_label: str, y_label: str) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in x.ticks():
        at = x(value)
        parts.append(f'<path class="grid" d="M{at},{TOP}V{bottom}"/>')
        parts.append(f'<text x="{at}" y="{bottom + 15}" text-anchor="middle">{short(value)}</text>')
    for value in y.ticks():
        at = y(value)
        parts.append(f'<path class="grid" d="M{LEFT},{at}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 3.5}" text-anchor="end">{short(value)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(
        f'<text class="axis" x="{(LEFT + right) / 2}" y="{HEIGHT - 7}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    parts.append(
        f'<text class="axis" x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)


def _path(points: Sequence[ChartPoint], x: Scale, y: Scale) -> str:
    return "M" + "L".join(f"{x(p.x)},{y(p.y)}" for p in points)


def _series(line: Line, x: Scale, y: Scale) -> str:
    kind = "grey" if line.style is None else f"s{line.style % COLOURS}"
    dash = " control" if line.control else ""
    shape = marker(line.style or 0)
    marks = "".join(
        f'<path class="mark" transform="translate({x(p.x)},{y(p.y)})" d="{shape}"><title>{escape(line.name)}'
        f": {p.y:.3g} at {p.x:,.3g}</title></path>"
        for p in line.points
    )
    return f'<g class="{kind}{dash}"><path class="line" d="{_path(line.points, x, y)}"/>{marks}</g>'


def interval_bar(interval: Interval, floor: float | None, across: Scale) -> Markup:
    """A mean with its interval on the scale of its column, the noise floor as a tick; decoration only."""
    reach = ""
    if interval.low is not None and interval.high is not None:
        reach = f'<path class="reach" d="M{across(interval.low)},5H{across(interval.high)}"/>'
    tick = f'<path class="tick" d="M{across(floor)},1V9"/>' if floor else ""
    return Markup(
        f'<svg class="bar" viewBox="0 0 84 10" aria-hidden="true">{tick}'
        f'{reach}<circle cx="{across(interval.mean)}" cy="5" r="2.6"/></svg>'
    )


def dot_chart(
    rows: Mapping[str, Sequence[float]], floors: Mapping[str, float], title: str, description: str
) -> Markup:
    """One metric: a row a system, a dot a seed, the floor as a tick, on a logarithmic axis."""
    width, left, row_height = 300, 46, 24
    height = 30 + row_height * len(rows) + 26
    x = scale([*(v for values in rows.values() for v in values), *floors.values()], left + 8, width - 12, 1.3)
    if x is None:
        return Markup("")
    bottom = 26 + row_height * len(rows)
    parts = [f'<text class="axis" x="{left}" y="14">{escape(title)}</text>']
    for value in x.ticks():
        parts.append(f'<path class="grid" d="M{x(value)},24V{bottom}"/>')
        parts.append(f'<text x="{x(value)}" y="{bottom + 15}" text-anchor="middle">{short(value)}</text>')
    for k, (name, values) in enumerate(rows.items()):
        at = 26 + row_height * (k + 0.5)
        parts.append(f'<text x="{left - 4}" y="{at + 4}" text-anchor="end">{escape(name[:7])}</text>')
        if name in floors:
            parts.append(f'<path class="tick" d="M{x(floors[name])},{at - 8}V{at + 8}"/>')
        parts += [
            f'<circle class="dot" cx="{x(v)}" cy="{at}" r="3.6"><title>{v:.3g}</title></circle>'
            for v in values
            if v > 0
        ]
    return Markup(
        f'<svg class="dots" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
        f"{''.join(parts)}</svg>"
    )
