"""Tables as CSV and JSON files beside the pages."""

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from bgbench.leaderboard.rules import RANKED, SHOWN
from bgbench.leaderboard.tables import Standing, Table

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
"""First characters of text that spreadsheets take for formulas."""


def as_csv(table: Table) -> str:
    """A row an entry: values, interval ends, rank ranges, tier, leakage, costs."""
    rows = [flat(standing, table) for standing in table.standings]
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in row.items()} for row in rows)
    return stream.getvalue()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(DANGEROUS) else value


def flat(standing: Standing, table: Table) -> dict[str, Any]:
    """One entry of a table as flat values."""
    opened, costs = standing.opened, standing.costs
    back = standing.back
    systems = back[1].systems if back else None
    row: dict[str, Any] = {
        "entry": standing.name,
        "sampler": standing.label,
        "estimator": opened.plan.estimator,
        "suite": table.key.suite,
        "protocol": table.key.protocol,
        "budget": table.key.budget,
        "version": opened.entry.version,
        "tier": opened.tier,
        "control": opened.entry.control,
        "leakage": standing.leakage,
        "cells_planned": len(opened.plan.cells),
        "cells_missing": len(standing.missing),
    }
    for name in SHOWN:
        found = standing.intervals.get(name)
        row |= {name: None, f"{name}_low": None, f"{name}_high": None}
        if found is not None:
            row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        if name in RANKED:
            low, high = standing.ranks.get(name, (None, None))
            row |= {
                f"{name}_rank_low": low,
                f"{name}_rank_high": high,
                f"{name}_floor": standing.floors.get(name),
            }
    return row | {
        "evaluations": costs.evaluations,
        "seconds": costs.seconds,
        "effective_points_per_second": costs.per_second,
        "training_hours": costs.training_hours,
        "training_evaluations": costs.training_evaluations,
        "parameters": costs.parameters,
        "break_even_systems": systems if systems is None or math.isfinite(systems) else None,
        "break_even_against": back[0] if back else None,
        "break_even_error": back[1].error if back else None,
        "licence": opened.entry.licence,
        "pin": opened.entry.pin,
    }


def as_dict(table: Table) -> dict[str, Any]:
    """A table as JSON values, with missing cells and curves."""
    return {
        "suite": table.key.suite,
        "protocol": table.key.protocol,
        "budget": table.key.budget,
        "density_verified": table.key.exact,
        "floors": table.floors,
        "entries": [
            {
                **flat(standing, table),
                "missing": [{"cell": cell, "why": why} for cell, why in standing.missing],
                "curve": [vars(point) for point in standing.points],
                "cells": _cells(standing),
            }
            for standing in table.standings
        ],
    }


def _cells(standing: Standing) -> list[dict[str, Any]]:
    return [
        {
            "system": record.cell.system,
            "seed": record.cell.seed,
            "status": record.status,
            "metrics": record.metrics,
            "floors": record.floors,
            "sha256": record.arrays.sha256 if record.arrays else None,
        }
        for record in standing.opened.records
    ]


def to_json(value: Any) -> str:
    """Indented JSON; what is not finite is an error."""
    return json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def board_dict(tables: Sequence[Table]) -> dict[str, Any]:
    """What tables there are, and where."""
    return {
        "schema_version": 1,
        "tables": [
            {
                "suite": table.key.suite,
                "protocol": table.key.protocol,
                "budget": table.key.budget,
                "entries": [standing.name for standing in table.standings],
                "json": f"data/{table.key.slug}.json",
                "csv": f"data/{table.key.slug}.csv",
            }
            for table in tables
        ],
    }
