"""What the pages show, as plain values: numbers become text here and nowhere else."""

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from bgbench.core.plugins import plugins
from bgbench.leaderboard.charts import COLOURS, ChartPoint, Line, dot_chart, interval_bar, line_chart, marker
from bgbench.leaderboard.costs import PaidBack
from bgbench.leaderboard.entries import EntryFiles
from bgbench.leaderboard.rules import ORDER, RANKED, SHOWN
from bgbench.leaderboard.scales import Scale, scale
from bgbench.leaderboard.tables import Table, TableRow
from bgbench.metrics.names import CURVES
from bgbench.reports.curves import Point
from bgbench.reports.headings import ARROWS, effective_points, forward_ess, means_something, value_of
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


def percent(value: float | None) -> str:
    """A fraction in per cent; a dash for nothing."""
    return "–" if value is None else f"{value:.0%}"


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
    rows = table.rows[:limit]
    scales = {name: _column(table, name) for name in RANKED}
    styles = styles_of(table)
    return {
        "slug": table.key.slug,
        "title": table.key.title,
        "key": table.key,
        "rows": [_row(row, table, scales, styles) for row in rows],
        "floors": {name: number(value) for name, value in table.floors.items()},
        "entries": len(table.rows),
        "ranked": sum(row.ranked for row in table.rows),
        "left_out": len(table.rows) - len(rows),
    }


def styles_of(table: Table) -> dict[str, int]:
    """Colours of the first entries of a table, by entry."""
    return {row.name: k for k, row in enumerate(table.rows[:COLOURS])}


def _column(table: Table, metric: str) -> Scale | None:
    intervals = [row.intervals[metric] for row in table.rows if metric in row.intervals]
    values = [value for item in intervals for value in (item.low, item.mean, item.high) if value is not None]
    return scale([*values, table.floors.get(metric, 0.0)], 4, 80, 1.1)


def _row(
    row: TableRow, table: Table, scales: dict[str, Scale | None], styles: dict[str, int]
) -> dict[str, Any]:
    files, costs = row.files, row.costs
    planned = len(files.plan.cells)
    best = min(row.ranks.values(), default=None)
    return {
        "name": row.name,
        "label": row.label,
        "title": row.files.entry.title,
        "estimator": files.plan.estimator,
        "control": files.entry.control,
        "run_here": files.run_here,
        "suspect": files.suspect,
        "tier": files.tier,
        "style": styles.get(row.name),
        "marker": marker(styles.get(row.name, 0)),
        "ranked": row.ranked,
        "best": best,
        "cells": [_cell(row, name, scales.get(name), table) for name in SHOWN],
        "leakage": row.leakage,
        "heavy": _sortable(row.trust.heavy, percent(row.trust.heavy)),
        "points": _sortable(row.trust.points, count(row.trust.points)),
        "forward": _sortable(row.trust.forward, number(row.trust.forward)),
        "evaluations": _sortable(costs.evaluations, count(costs.evaluations)),
        "seconds": _sortable(costs.seconds, number(costs.seconds)),
        "per_second": _sortable(costs.per_second, number(costs.per_second)),
        "hours": _sortable(
            costs.training_hours, number(costs.training_hours) if costs.training_hours else "0"
        ),
        "parameters": _sortable(costs.parameters, count(costs.parameters)),
        "back": _back(row.back),
        "finished": f"{planned - len(row.missing)} of {planned}",
        "missing": [{"cell": name, "why": why} for name, why in row.missing],
    }


def _cell(row: TableRow, name: str, across: Scale | None, table: Table) -> dict[str, Any]:
    interval = row.intervals.get(name)
    if interval is None:
        weighted = means_something(name, row.files.plan.estimator)
        why = "not every cell has it" if weighted else "no weights"
        return {"value": "–", "sort": "", "interval": "", "rank": "", "bar": "", "first": False, "why": why}
    rank = row.ranks.get(name)
    bar = interval_bar(interval, table.floors.get(name), across) if across else Markup("")
    return {
        "value": number(interval.mean),
        "sort": repr(interval.mean),
        "interval": interval.ends(number),
        "rank": rank_text(rank),
        "bar": bar,
        "first": rank is not None and rank.first == 1,
        "why": "",
    }


def _sortable(value: float | None, text: str) -> dict[str, str]:
    return {"sort": "" if value is None else repr(value), "text": text}


def _back(soonest: PaidBack | None) -> dict[str, str]:
    if soonest is None:
        return {"sort": "", "text": "–", "against": ""}
    back = soonest.payback
    place = f"{number(back.error)} {plugins().metrics[ORDER].unit}".strip()
    against = f"against {soonest.other.split('-')[0]} at {place}"
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
    first = table.rows[:COLOURS] if only else table.rows
    rows = [*first, *(row for row in table.rows[COLOURS:] if row.name == only and only)]
    measured: Sequence[Point] = next((row.points for row in rows if row.points), ())
    shown = []
    for metric in CURVES:
        floors = [ChartPoint(float(p.evaluations), p.floors[metric]) for p in measured if metric in p.floors]
        for axis, x_label in AXES:
            lines = [_line(row, metric, axis, styles) for row in rows]
            unit = plugins().metrics[metric].unit
            y_label = f"{NAMES[metric]} ({unit})" if unit else NAMES[metric]
            entries = sum(bool(line.points) for line in lines)
            description = f"{NAMES[metric]} against {x_label}, {entries} entries"
            chart = line_chart(lines, floors if axis == "evaluations" else [], x_label, y_label, description)
            if chart:
                shown.append({"chart": chart, "metric": metric, "axis": axis})
    return shown


def _line(row: TableRow, metric: str, axis: str, styles: dict[str, int]) -> Line:
    points = [
        ChartPoint(float(getattr(point, axis)), point.metrics[metric])
        for point in row.points
        if point.metrics.get(metric, 0.0) > 0 and getattr(point, axis) > 0
    ]
    name = f"{row.label} · {row.files.plan.estimator}"
    return Line(name, points, styles.get(row.name), row.files.entry.control)


def curve_rows(table: Table) -> list[dict[str, str]]:
    """The numbers behind the curves."""
    return [
        {
            "label": row.label,
            "evaluations": count(point.evaluations),
            "seconds": number(point.seconds),
            **{metric: number(point.metrics.get(metric)) for metric in CURVES},
        }
        for row in table.rows[:COLOURS]
        for point in row.points
    ]


def systems_of(files: EntryFiles) -> list[str]:
    """Systems of an entry, in the plan's order."""
    return list(dict.fromkeys(cell.system for cell in files.plan.cells))


def per_system(files: EntryFiles) -> list[dict[str, Any]]:
    """A row a cell: every shown metric with its floor, cost and status."""
    records = {record.cell.name: record for record in files.records}
    rows = []
    for cell in files.plan.cells:
        record = records.get(cell.name)
        rows.append(
            {
                "system": cell.system,
                "seed": cell.seed,
                "status": record.status if record else "missing",
                "why": "" if record and record.status == "ok" else (record.error if record else "no record"),
                "values": [_with_floor(record, name) for name in SHOWN],
                "tail": number(value_of(record, "pareto_k")) if record else "–",
                "points": count(effective_points(record)) if record else "–",
                "forward": number(forward_ess(record)) if record else "–",
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
    return {"text": number(value_of(record, name)), "floor": "" if floor is None else number(floor)}


def dots_view(files: EntryFiles) -> list[Markup]:
    """Each ranked metric by system: seeds as dots, floors as ticks."""
    charts = []
    for metric in RANKED:
        rows: dict[str, list[float]] = {system: [] for system in systems_of(files)[:40]}
        floors: dict[str, float] = {}
        for record in files.records:
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
