"""What the pages show, as plain values: numbers become text here and nowhere else."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from bgbench.core.plugins import plugins
from bgbench.leaderboard.charts import COLOURS, Line, dot_chart, interval_bar, line_chart, marker
from bgbench.leaderboard.checks import UNWEIGHTED
from bgbench.leaderboard.entries import Opened
from bgbench.leaderboard.rules import ORDER, RANKED, SHOWN
from bgbench.leaderboard.scales import Scale, scale
from bgbench.leaderboard.tables import Standing, Table
from bgbench.metrics.names import CURVES
from bgbench.reports.breakeven import Payback
from bgbench.reports.curves import Point
from bgbench.reports.headings import ARROWS
from bgbench.reports.statistics import rank_text
from bgbench.runs.records import Record

AXES = (("evaluations", "energy evaluations"), ("seconds", "seconds of sampling"))
NAMES = {
    "ess": "ESS", "energy_w2": "energy W2", "torus_w2": "torus W2", "tica_w2": "TICA W2",
    "mode_weights": "mode weights", "validity": "validity",
}  # fmt: skip


def number(value: float | None) -> str:
    """Three digits, no exponent for large ones; a dash for nothing."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.3g}"


def count(value: float | None) -> str:
    """A whole number with separators; a dash for nothing."""
    return "–" if value is None else f"{value:,.0f}"


def heads() -> list[dict[str, str]]:
    """Columns of metrics: name, unit, arrow, what it is."""
    known = plugins().metrics
    return [
        {
            "key": name,
            "name": NAMES[name],
            "unit": known[name].unit,
            "arrow": ARROWS[known[name].better],
            "better": known[name].better,
            "summary": known[name].summary,
        }
        for name in SHOWN
    ]


def table_view(table: Table, limit: int | None = None) -> dict[str, Any]:
    """A table's rows, floors and scales; with `limit` only its first rows."""
    standings = table.standings[:limit]
    scales = {name: _column(table, name) for name in RANKED}
    styles = styles_of(table)
    return {
        "slug": table.key.slug,
        "title": table.key.title,
        "key": table.key,
        "rows": [_row(standing, table, scales, styles) for standing in standings],
        "floors": {name: number(value) for name, value in table.floors.items()},
        "entries": len(table.standings),
        "ranked": sum(standing.ranked for standing in table.standings),
        "left_out": len(table.standings) - len(standings),
    }


def styles_of(table: Table) -> dict[str, int]:
    """Colours of the first entries of a table, by entry."""
    return {standing.name: k for k, standing in enumerate(table.standings[:COLOURS])}


def _column(table: Table, metric: str) -> Scale | None:
    found = [s.intervals[metric] for s in table.standings if metric in s.intervals]
    values = [v for item in found for v in (item.low, item.high)] + [table.floors.get(metric, 0.0)]
    return scale(values, 4, 80, 1.1)


def _row(
    standing: Standing, table: Table, scales: dict[str, Scale | None], styles: dict[str, int]
) -> dict[str, Any]:
    opened, costs = standing.opened, standing.costs
    weighted = opened.plan.estimator not in UNWEIGHTED
    planned = len(opened.plan.cells)
    best = min(standing.ranks.values(), default=None)
    return {
        "name": standing.name,
        "label": standing.label,
        "estimator": opened.plan.estimator,
        "control": opened.entry.control,
        "tier": opened.tier,
        "style": styles.get(standing.name),
        "marker": marker(styles.get(standing.name, 0)),
        "ranked": standing.ranked,
        "best": best,
        "cells": [_cell(standing, name, scales.get(name), weighted, table) for name in SHOWN],
        "leakage": standing.leakage,
        "evaluations": _sortable(costs.evaluations, count(costs.evaluations)),
        "seconds": _sortable(costs.seconds, number(costs.seconds)),
        "per_second": _sortable(costs.per_second, number(costs.per_second)),
        "hours": _sortable(
            costs.training_hours, number(costs.training_hours) if costs.training_hours else "0"
        ),
        "parameters": _sortable(costs.parameters, count(costs.parameters)),
        "back": _back(standing.back),
        "done": f"{planned - len(standing.missing)} of {planned}",
        "missing": [{"cell": name, "why": why} for name, why in standing.missing],
    }


def _cell(
    standing: Standing, name: str, across: Scale | None, weighted: bool, table: Table
) -> dict[str, Any]:
    found = standing.intervals.get(name)
    if found is None or (name == "ess" and not weighted):
        why = "no weights" if name == "ess" and found is not None else "not every cell has it"
        return {"value": "–", "sort": "", "interval": "", "rank": "", "bar": "", "first": False, "why": why}
    rank = standing.ranks.get(name)
    bar = (
        interval_bar(found.low, found.mean, found.high, table.floors.get(name), across)
        if across
        else Markup("")
    )
    return {
        "value": number(found.mean),
        "sort": repr(found.mean),
        "interval": f"{number(found.low)} to {number(found.high)}",
        "rank": rank_text(rank),
        "bar": bar,
        "first": rank is not None and rank[0] == 1,
        "why": "",
    }


def _sortable(value: float | None, text: str) -> dict[str, str]:
    return {"sort": "" if value is None else repr(value), "text": text}


def _back(found: tuple[str, Payback] | None) -> dict[str, str]:
    if found is None:
        return {"sort": "", "text": "–", "against": ""}
    name, back = found
    place = f"{number(back.error)} {plugins().metrics[ORDER].unit}".strip()
    against = f"against {name.split('-')[0]} at {place}"
    if back.systems is None:
        return {"sort": "", "text": "not known", "against": against}
    if math.isinf(back.systems):
        return {"sort": "1e300", "text": "never", "against": against}
    text = f"{'≤ ' if back.at_most else ''}{back.systems:,.0f}"
    return {"sort": repr(back.systems), "text": text, "against": against}


def curves_view(table: Table, only: str = "") -> list[dict[str, Any]]:
    """Error against evaluations and seconds of each metric of CURVES; `only` one entry in colour, beside the
    first of its table."""
    styles = {only: 0} if only else styles_of(table)
    first = table.standings[:COLOURS] if only else table.standings
    drawn = [*first, *(s for s in table.standings[COLOURS:] if s.name == only and only)]
    measured: Sequence[Point] = next((standing.points for standing in drawn if standing.points), ())
    shown = []
    for metric in CURVES:
        floors = [(float(p.evaluations), p.floors[metric]) for p in measured if metric in p.floors]
        for axis, x_label in AXES:
            lines = [_line(standing, metric, axis, styles) for standing in drawn]
            unit = plugins().metrics[metric].unit
            y_label = f"{NAMES[metric]} ({unit})" if unit else NAMES[metric]
            told = f"{NAMES[metric]} against {x_label}, {sum(bool(line.points) for line in lines)} entries"
            chart = line_chart(lines, floors if axis == "evaluations" else [], x_label, y_label, told)
            if chart:
                shown.append({"chart": chart, "metric": metric, "axis": axis})
    return shown


def _line(standing: Standing, metric: str, axis: str, styles: dict[str, int]) -> Line:
    found = [
        (float(getattr(point, axis)), point.metrics[metric])
        for point in standing.points
        if point.metrics.get(metric, 0.0) > 0 and getattr(point, axis) > 0
    ]
    name = f"{standing.label} · {standing.opened.plan.estimator}"
    return Line(name, found, styles.get(standing.name), standing.opened.entry.control)


def curve_rows(table: Table) -> list[dict[str, str]]:
    """The numbers behind the curves."""
    return [
        {
            "label": standing.label,
            "evaluations": count(point.evaluations),
            "seconds": number(point.seconds),
            **{metric: number(point.metrics.get(metric)) for metric in CURVES},
        }
        for standing in table.standings[:COLOURS]
        for point in standing.points
    ]


def systems_of(opened: Opened) -> list[str]:
    """Systems of an entry, in the plan's order."""
    return list(dict.fromkeys(cell.system for cell in opened.plan.cells))


def per_system(opened: Opened) -> list[dict[str, Any]]:
    """A row a cell: every shown metric with its floor, cost and status."""
    done = {record.cell.name: record for record in opened.records}
    rows = []
    for cell in opened.plan.cells:
        record = done.get(cell.name)
        rows.append(
            {
                "system": cell.system,
                "seed": cell.seed,
                "status": record.status if record else "missing",
                "why": "" if record and record.status == "ok" else (record.error if record else "no record"),
                "values": [_with_floor(record, name) for name in SHOWN],
                "used": count(record.budget.used) if record else "–",
                "seconds": number(record.seconds.get("sampling")) if record else "–",
                "grade": str(record.reference.get("grade", "–")) if record else "–",
                "leakage": record.leakage if record else "–",
            }
        )
    return rows


def _with_floor(record: Record | None, name: str) -> dict[str, str]:
    if record is None or record.status != "ok":
        return {"text": "–", "floor": ""}
    floor = record.floors.get(name)
    return {"text": number(record.metrics.get(name)), "floor": "" if floor is None else number(floor)}


def dots_view(opened: Opened) -> list[Markup]:
    """Each ranked metric by system: seeds as dots, floors as ticks."""
    charts = []
    for metric in RANKED:
        rows: dict[str, list[float]] = {system: [] for system in systems_of(opened)[:40]}
        floors: dict[str, float] = {}
        for record in opened.records:
            value, floor = record.metrics.get(metric), record.floors.get(metric)
            if record.status == "ok" and value is not None and record.cell.system in rows:
                rows[record.cell.system].append(value)
                if floor:
                    floors[record.cell.system] = floor
        unit = plugins().metrics[metric].unit
        title = f"{NAMES[metric]} ({unit})" if unit else NAMES[metric]
        if any(rows.values()):
            charts.append(
                dot_chart(rows, floors, title, f"{title} of each system, a dot a seed, floor as a tick")
            )
    return charts
