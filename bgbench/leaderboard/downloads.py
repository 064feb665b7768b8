"""Tables as CSV and JSON files beside the pages."""

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

from bgbench.leaderboard.rules import RANKED, SHOWN
from bgbench.leaderboard.tables import Table, TableRow

DANGEROUS = ("=", "+", "-", "@", "\t", "\r")
"""First characters of text that spreadsheets take for formulas."""


def as_csv(table: Table) -> str:
    """A row an entry: values, interval ends, rank ranges, tier, leakage, costs."""
    lines = [flat(row, table) for row in table.rows]
    stream = io.StringIO()
    names = list(dict.fromkeys(name for line in lines for name in line))
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _safe(value) for name, value in line.items()} for line in lines)
    return stream.getvalue()


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(DANGEROUS) else value


def flat(row: TableRow, table: Table) -> dict[str, Any]:
    """One entry of a table as flat values."""
    files, costs = row.files, row.costs
    back = row.back
    systems = back[1].systems if back else None
    values: dict[str, Any] = {
        "entry": row.name,
        "sampler": row.label,
        "estimator": files.plan.estimator,
        "suite": table.key.suite,
        "protocol": table.key.protocol,
        "budget": table.key.budget,
        "version": files.entry.version,
        "tier": files.tier,
        "basis": table.key.basis,
        "suspect": files.suspect,
        "control": files.entry.control,
        "leakage": row.leakage,
        "cells_planned": len(files.plan.cells),
        "cells_missing": len(row.missing),
    }
    for name in SHOWN:
        interval = row.intervals.get(name)
        values |= {name: None, f"{name}_low": None, f"{name}_high": None}
        if interval is not None:
            values |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
            if interval.these is not None:
                values |= {f"{name}_these_low": interval.these[0], f"{name}_these_high": interval.these[1]}
        if name in RANKED:
            rank = row.ranks.get(name)
            values |= {
                f"{name}_rank_low": rank and rank.first,
                f"{name}_rank_high": rank and rank.last,
                f"{name}_floor": row.floors.get(name),
            }
    return values | {
        "cells_with_heavy_tail": row.trust.heavy,
        "effective_points": row.trust.points,
        "forward_ess": row.trust.forward,
        "evaluations": costs.evaluations,
        "seconds": costs.seconds,
        "effective_points_per_second": costs.per_second,
        "training_hours": costs.training_hours,
        "training_evaluations": costs.training_evaluations,
        "parameters": costs.parameters,
        "break_even_systems": systems if systems is None or math.isfinite(systems) else None,
        "break_even_against": back[0] if back else None,
        "break_even_error": back[1].error if back else None,
        "licence": files.entry.licence,
        "pin": files.entry.pin,
    }


def as_dict(table: Table) -> dict[str, Any]:
    """A table as JSON values, with missing cells and curves."""
    return {
        "suite": table.key.suite,
        "protocol": table.key.protocol,
        "budget": table.key.budget,
        "density_verified": table.key.exact,
        "references_superseded": list(table.key.terms.superseded),
        "floors": table.floors,
        "entries": [
            {
                **flat(row, table),
                "missing": [{"cell": cell, "why": why} for cell, why in row.missing],
                "curve": [vars(point) for point in row.points],
                "cells": _cells(row),
            }
            for row in table.rows
        ],
    }


def _cells(row: TableRow) -> list[dict[str, Any]]:
    return [
        {
            "system": record.cell.system,
            "seed": record.cell.seed,
            "status": record.status,
            "metrics": record.metrics,
            "floors": record.floors,
            "sha256": record.arrays.sha256 if record.arrays else None,
        }
        for record in row.files.records
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
                "entries": [row.name for row in table.rows],
                "json": f"data/{table.key.slug}.json",
                "csv": f"data/{table.key.slug}.csv",
            }
            for table in tables
        ],
    }
