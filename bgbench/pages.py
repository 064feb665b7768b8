"""One self-contained HTML page of runs: tables, figures, diagnostics, ledgers, provenance. No network."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bgbench.plugins import plugins
from bgbench.records import Record, atomic_file
from bgbench.resources import site_path
from bgbench.runfolder import RunFolder

ARROWS = {"lower": "↓", "higher": "↑", "": ""}


def write_report(folders: Sequence[RunFolder], path: Path) -> Path:
    """Write the page of these runs to `path`.

    Raises:
        BgbenchError: if a record is damaged or `path` cannot be written.
    """
    runs = [_run(number, folder) for number, folder in enumerate(folders)]
    title = "bgbench report: " + ", ".join(dict.fromkeys(folder.plan.sampler for folder in folders))
    page = _environment().get_template("report.html.j2").render(title=title, runs=runs)
    with atomic_file(path) as stream:
        stream.write(page.encode())
    return path


def heading(name: str) -> str:
    """A metric's name with its unit and the arrow for better."""
    found = plugins().metrics
    if name not in found:
        return name
    unit = f" ({found[name].unit})" if found[name].unit else ""
    return f"{name}{unit} {ARROWS[found[name].better]}".strip()


def headline(records: Sequence[Record]) -> list[str]:
    """The metrics to print: those that carry a registered metric's own name, in the records' order."""
    seen: dict[str, None] = {}
    for record in records:
        seen.update(dict.fromkeys(record.metrics))
    known = plugins().metrics
    return [name for name in seen if name in known] or list(seen)[:8]


def _environment() -> Environment:
    loader = FileSystemLoader(site_path())
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def _run(number: int, folder: RunFolder) -> dict[str, Any]:
    plan, records = folder.plan, folder.records()
    columns = headline(records)
    missing = [cell.name for cell in folder.missing()]
    summary = f"{len(records)} of {len(plan.cells)} cells done, planned {plan.created}. "
    if missing:
        summary += f"Missing: {', '.join(missing)}."
    return {
        "heading": " · ".join(
            [plan.sampler, plan.estimator, plan.protocol, plan.suite, f"budget {plan.budget:,}"]
        ),
        "summary": summary,
        "columns": [heading(name) for name in columns],
        "rows": [_row(number, folder, record, columns) for record in records],
    }


def _row(number: int, folder: RunFolder, record: Record, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "anchor": f"r{number}-{record.cell.name}",
        "system": record.cell.system,
        "seed": record.cell.seed,
        "status": record.status,
        "failed": record.status != "ok",
        "error": record.error,
        "values": [_value(record, name) for name in columns],
        "budget": f"{record.budget.used:,} / {record.budget.limit:,}",
        "grade": record.reference.get("grade", "–"),
        "leakage": record.leakage,
        "figures": _figures(folder, record),
        "details": json.dumps(
            record.model_dump(include={"diagnostics", "budget", "energy", "card", "seconds", "provenance"}),
            indent=1,
        ),
    }


def _value(record: Record, name: str) -> dict[str, str]:
    value, floor = record.metrics.get(name), record.floors.get(name)
    if record.status != "ok":
        return {"text": record.status, "floor": ""}
    return {
        "text": "–" if value is None else f"{value:.3g}",
        "floor": "" if floor is None else f"{floor:.2g}",
    }


def _figures(folder: RunFolder, record: Record) -> list[dict[str, str]]:
    found = sorted((folder.path / "figures").glob(f"{record.cell.name}-*.png"))
    return [
        {
            "data": base64.b64encode(path.read_bytes()).decode(),
            "alt": f"{path.stem.rpartition('-')[2]} of {record.cell.system}, sampler beside reference",
        }
        for path in found
    ]
