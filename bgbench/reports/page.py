"""One self-contained HTML page of runs: tables, figures, diagnostics, ledgers, provenance. No network."""

import base64
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bgbench.core.devices import format_device
from bgbench.core.errors import BgbenchError
from bgbench.core.files import atomic_file
from bgbench.core.resources import site_path
from bgbench.evaluation.protocols import get_protocol
from bgbench.metrics.names import CURVES
from bgbench.reports.breakeven import break_even
from bgbench.reports.comparability import caveats, refuse_unlike
from bgbench.reports.compare import compare, labels
from bgbench.reports.curves import draw_curves, silent
from bgbench.reports.figures import CAPTIONS
from bgbench.reports.headings import heading, headline, means_something, value_of
from bgbench.reports.verdict import mean_skill, sentences_on, skill_of
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder


def write_report(folders: Sequence[RunFolder], path: Path, progress: Callable[[str], None] = silent) -> Path:
    """Write the page of these runs to `path`.

    Args:
        folders: of the runs.
        path: of the page.
        progress: called with the name of the cell being scored for the curves, where they are not stored yet.

    Raises:
        BgbenchError: if a record is damaged, a folder named twice, or `path` cannot be written.
    """
    names = labels(folders)
    runs = [
        _run(number, name, folder) for number, (name, folder) in enumerate(zip(names, folders, strict=True))
    ]
    title = "bgbench report: " + ", ".join(dict.fromkeys(folder.plan.sampler for folder in folders))
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(title=title, runs=runs, **_together(folders, progress))
    )
    with atomic_file(path) as stream:
        stream.write(page.encode())
    return path


def _together(folders: Sequence[RunFolder], progress: Callable[[str], None] = silent) -> dict[str, Any]:
    """What runs of the same suite, protocol and budget are shown in together: curves, ranks, break-even."""
    finished = [folder for folder in folders if any(record.status == "ok" for record in folder.records())]
    apart = ""
    if len(finished) > 1:
        try:
            refuse_unlike(finished)
        except BgbenchError as error:
            finished, apart = [], str(error)
    several = finished if len(finished) > 1 else []
    return {
        "apart": apart,
        "curves": _curves(finished, progress) if finished else "",
        "comparisons": [_comparison(several, name) for name in _common(several)] if several else [],
        "caveats": caveats(dict(zip(labels(several), several, strict=True))),
        "break_even": [item.sentence for item in (break_even(several, CURVES[0]) if several else [])],
    }


def _common(folders: Sequence[RunFolder]) -> list[str]:
    """Metrics of the protocol's headline that every run has."""
    names = [set(headline(folder.records())) for folder in folders]
    plan = folders[0].plan
    leading = get_protocol(plan.protocol, folders[0].path).headline
    return [name for name in leading if all(name in own for own in names)]


def _comparison(folders: Sequence[RunFolder], metric: str) -> dict[str, Any]:
    comparison = compare(folders, metric)
    intervals = {name: comparison.intervals.get(name) for name in comparison.best_first()}
    rows = [
        {
            "sampler": name,
            "mean": _text(interval.mean if interval else None),
            "interval": (interval.ends("{:.3g}".format) if interval else "") or "–",
            "rank": comparison.rank(name),
        }
        for name, interval in intervals.items()
    ]
    return {
        "metric": heading(metric),
        "floor": "" if comparison.floor is None else _text(comparison.floor),
        "systems": len(comparison.systems),
        "rows": rows,
        "notes": comparison.notes,
    }


def _curves(folders: Sequence[RunFolder], progress: Callable[[str], None]) -> str:
    """Error against cost as PNG, base64; empty for analytic systems, which have no such metric."""
    names = [name for name in CURVES if all(name in headline(folder.records()) for folder in folders)]
    if not names:
        return ""
    with tempfile.TemporaryDirectory() as folder:
        path = draw_curves(folders, names, Path(folder) / "curves.png", progress)
        return base64.b64encode(path.read_bytes()).decode()


def _environment() -> Environment:
    loader = FileSystemLoader(site_path())
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def _run(number: int, name: str, folder: RunFolder) -> dict[str, Any]:
    plan, records = folder.plan, folder.records()
    named = headline(records)
    leading = (*get_protocol(plan.protocol, folder.path).headline, "validity")
    columns = [name for name in leading if name in named] or named
    missing = [cell.name for cell in folder.missing()]
    summary = f"{len(records)} of {len(plan.cells)} cells done, planned {plan.created}. "
    if missing:
        summary += f"Missing: {', '.join(missing)}."
    return {
        "heading": " · ".join(
            [
                name.removesuffix(f" · {plan.estimator}"),
                plan.estimator,
                plan.protocol,
                plan.suite,
                f"budget {plan.budget:,}",
            ]
        ),
        "summary": summary,
        "verdict": sentences_on(records, folder.path),
        "columns": [heading(name) for name in columns],
        "rows": [_row(number, folder, record, columns) for record in records],
        "means": _means([record for record in records if record.status == "ok"], columns),
    }


def _means(records: Sequence[Record], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows below the cells: means over them, over their floors, and over what the Gaussian scores."""
    rows = (
        ("mean of finished cells", mean_skill(records), lambda record, name: value_of(record, name)),
        ("exact draws (noise floor)", 1.0, lambda record, name: record.floors.get(name)),
        (
            "Gaussian around the start",
            0.0,
            lambda record, name: record.diagnostics.get("controls", {}).get(name),
        ),
    )
    means = [
        (title, skill, [_mean([look_up(record, name) for record in records]) for name in columns])
        for title, skill, look_up in rows
    ]
    return [
        {"name": title, "skill": _text(skill), "values": [_text(value) for value in values]}
        for title, skill, values in means
        if any(value is not None for value in values)
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    """None where one is missing: there are no means over some cells."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _row(number: int, folder: RunFolder, record: Record, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "anchor": f"r{number}-{record.cell.name}",
        "system": record.cell.system,
        "seed": record.cell.seed,
        "status": record.status,
        "failed": record.status != "ok",
        "error": record.error,
        "skill": _text(skill_of(record)),
        "values": [_value(record, name) for name in columns],
        "metrics": _metrics(record),
        "budget": f"{record.budget.used:,} / {record.budget.limit:,}",
        "grade": record.reference.get("grade", "–"),
        "leakage": record.leakage,
        "figures": _figures(folder, record),
        "ledger": _ledger(record),
        "facts": _facts(record),
        "details": json.dumps(
            record.model_dump(include={"diagnostics", "budget", "energy", "card", "seconds", "provenance"}),
            indent=1,
        ),
    }


def _ledger(record: Record) -> list[tuple[str, str, str, str]]:
    """The budget's ledger as rows: phase, kind of evaluation, calls, seconds."""
    return [
        (phase, kind.replace("_", " "), f"{row['calls']:,.0f}", f"{row['seconds']:.2f}")
        for phase, kinds in record.budget.ledger.items()
        for kind, row in kinds.items()
    ]


def _facts(record: Record) -> list[tuple[str, str]]:
    """Where a record comes from, as names and values."""
    origin, card = record.provenance, record.card
    libraries = {"bgbench": origin.get("bgbench", ""), **origin.get("libraries", {})}
    git, host, device = (origin.get(part, {}) for part in ("git", "host", "device"))
    facts = {
        "record": record.id,
        "commit": f"{git.get('commit') or 'unknown'}{', edited' if git.get('dirty') else ''}",
        "versions": ", ".join(f"{name} {value}" for name, value in libraries.items()),
        "host": ", ".join(str(host[name]) for name in ("cpu", "gpu", "system") if host.get(name)),
        "device": format_device(device),
        "weights": card.get("weights_sha256", ""),
        "reference": f"{record.reference.get('sha256', '')}, {record.reference.get('grade', 'analytic')}",
        "largest |Δu| to OpenMM (kT)": f"{record.energy.get('openmm_difference', 0.0):.2g}",
        "seconds": ", ".join(f"{name} {value:.1f}" for name, value in record.seconds.items()),
        "peak memory (MB)": f"{origin.get('peak_memory_mb', 0.0):.0f}",
    }
    return [(name, value) for name, value in facts.items() if value]


def _value(record: Record, name: str) -> dict[str, str]:
    floor = record.floors.get(name)
    if record.status != "ok":
        return {"text": record.status, "floor": ""}
    return {"text": _text(value_of(record, name)), "floor": "" if floor is None else f"{floor:.2g}"}


def _metrics(record: Record) -> list[tuple[str, ...]]:
    """Every metric of a cell: its name, value, noise floor, what the Gaussian scores, and skill."""
    controls = record.diagnostics.get("controls", {})
    return [
        (
            heading(name),
            *(_text(scores.get(name)) for scores in (record.metrics, record.floors, controls, record.skills)),
        )
        for name in record.metrics
        if means_something(name, record.cell.estimator)
    ]


def _figures(folder: RunFolder, record: Record) -> list[dict[str, str]]:
    paths = sorted((folder.path / "figures").glob(f"{record.cell.name}-*.png"))
    kinds = {path.stem.removeprefix(f"{record.cell.name}-"): path for path in paths}
    return [
        {
            "data": base64.b64encode(path.read_bytes()).decode(),
            "alt": f"{kind} of {record.cell.system}, sampler beside reference",
            "caption": CAPTIONS.get(kind, ""),
        }
        for kind, path in kinds.items()
    ]
