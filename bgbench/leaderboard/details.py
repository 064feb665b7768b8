"""What the pages of one entry and of one system show."""

from collections.abc import Mapping, Sequence
from typing import Any

from bgbench.core.devices import format_device
from bgbench.core.plugins import plugins
from bgbench.leaderboard.entries import EntryFiles
from bgbench.leaderboard.ledger import Event
from bgbench.leaderboard.normalisation import LogZ, mean_of
from bgbench.leaderboard.pins import Pin
from bgbench.leaderboard.rules import LOG_Z_ERRORS, SHOWN
from bgbench.leaderboard.tables import Table, TableRow
from bgbench.leaderboard.views import count, curves_view, dots_view, number, per_system
from bgbench.reports.headings import value_of
from bgbench.reports.statistics import rank_text
from bgbench.runs.records import Record


def entry_view(
    row: TableRow, table: Table, events: Sequence[Event], pictures: Sequence[str]
) -> dict[str, Any]:
    """Provenance, tables, pictures and commands of an entry."""
    files = row.files
    return {
        "name": row.name,
        "label": row.label,
        "files": files,
        "facts": facts(row, table),
        "summary": summary(row),
        "ranks": {name: rank_text(rank) for name, rank in row.ranks.items()},
        "rows": per_system(files),
        "dots": dots_view(files),
        "curves": curves_view(table, only=row.name),
        "pictures": [_picture(name) for name in pictures],
        "events": [event for event in reversed(events) if event.entry == row.name],
        "commands": commands(files),
        "missing": row.missing,
        "table": table.key,
    }


def summary(row: TableRow) -> list[dict[str, str]]:
    """The headline numbers."""
    known = plugins().metrics
    return [
        {
            "name": name,
            "unit": known[name].unit,
            "value": number(interval.mean),
            "interval": interval.ends(number),
            "rank": rank_text(row.ranks.get(name)),
            "floor": number(row.floors.get(name)),
        }
        for name in SHOWN
        if (interval := row.intervals.get(name)) is not None
    ]


def _picture(path: str) -> dict[str, str]:
    cell, _, kind = path.rpartition("/")[2].removesuffix(".png").partition("~")
    return {"path": path, "alt": f"{kind} of {cell}, sampler beside reference", "cell": cell, "kind": kind}


def facts(row: TableRow, table: Table) -> list[tuple[str, str]]:
    """Who, what, with which versions, on which machine."""
    files, costs = row.files, row.costs
    plan, entry = files.plan, files.entry
    provenance = files.records[0].provenance if files.records else {}
    card = next((record.card for record in files.records if record.status == "ok"), {})
    sequences = len(card.get("training_sequences", ()))
    training = f"{costs.training_hours:.3g} hours, {count(costs.training_evaluations)} evaluations"
    return [
        ("authors", ", ".join(entry.authors)),
        ("licence", entry.licence),
        ("version", f"{entry.version}, run planned {plan.created}"),
        ("plugin", entry.pin),
        ("source", entry.source or "in the plugin's distribution"),
        ("weights, sha256", plan.inputs.weights_sha256 or "none"),
        ("card", str(card.get("name", "–"))),
        ("training", f"{training}, {sequences} sequences"),
        ("parameters", count(costs.parameters)),
        ("leakage", row.leakage),
        ("suite, sha256", plan.suite_sha256),
        ("run", plan.id),
        *_software(provenance),
        *machine(files.records),
        ("note", entry.note or "–"),
        ("checked", _checked(files)),
        ("log Z", _log_z(row, table)),
        ("laws", laws_of(files)),
    ]


def _software(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    git = provenance.get("git", {})
    commit = f", commit {git['commit'][:12]}" if git.get("commit") else ""
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    libraries = provenance.get("libraries", {})
    return [
        ("bgbench", f"{provenance.get('bgbench', '–')}{commit}{dirty}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items())),
    ]


def machine(records: Sequence[Record]) -> list[tuple[str, str]]:
    """The machine of the first record, and each device that computed, in the order of the records.

    Records that name no device say at least which GPU the machine has.
    """
    host = records[0].provenance.get("host", {}) if records else {}
    threads = f"{host.get('torch_threads', '–')} threads"
    found = [text for r in records if (text := format_device(r.provenance.get("device", {})))]
    devices = dict.fromkeys(found)
    if not devices:
        return [("machine", f"{host.get('cpu', '–')}, GPU {host.get('gpu') or 'none'}, {threads}")]
    return [("machine", f"{host.get('cpu', '–')}, {threads}"), ("device", "; ".join(devices))]


def _checked(files: EntryFiles) -> str:
    verdict = files.verdict
    if verdict is None or files.tier == "reported":
        return "records only; the arrays were not at hand"
    recomputed = sum(cell == "recomputed" for cell in verdict.cells.values())
    text = (
        f"every metric of {recomputed} cells recomputed with bgbench {verdict.bgbench}; {verdict.energies:,} "
        f"energies evaluated again, off by {verdict.energy_difference:.2g} kT at most"
    )
    if verdict.copies:
        most = max(verdict.copies.values())
        text += f"; {most:.2%} of a cell's conformers, at most, are copies of others"
    if verdict.reproduction:
        gaps = ", ".join(f"{name} {value:+.1f}" for name, value in verdict.reproduction.items())
        text += f"; run again on fresh seeds, standard errors from what was submitted: {gaps}"
    return text


def _log_z(row: TableRow, table: Table) -> str:
    """log Z by system, and whose is another: weights of one of the two are wrong, or miss a mode."""
    mine = _log_z_by_system(row.files)
    if not mine:
        return "–"
    values = [f"{system} {z.value:.2f} ± {z.error:.2g}" for system, z in mine.items()]
    text = ", ".join(values)
    far = []
    for other in table.rows:
        theirs = _log_z_by_system(other.files) if other.name != row.name else {}
        gaps = {system: z.errors_apart(theirs[system]) for system, z in mine.items() if system in theirs}
        system = max(gaps, key=lambda name: gaps[name], default="")
        if system and gaps[system] > LOG_Z_ERRORS:
            far.append(f"{other.name} ({system}, {gaps[system]:.1f} standard errors apart)")
    return f"{text}; differs from {', '.join(far)}" if far else text


def _log_z_by_system(files: EntryFiles) -> dict[str, LogZ]:
    """The mean over seeds whose error can be trusted."""
    known = files.verdict.log_z if files.verdict is not None and files.tier != "reported" else {}
    values: dict[str, list[LogZ]] = {}
    for cell in files.plan.cells:
        if cell.name in known:
            values.setdefault(cell.system, []).append(LogZ(*known[cell.name]))
    return {system: mean_of(found) for system, found in values.items()}


def laws_of(files: EntryFiles) -> str:
    """What `bgbench check` found before the run was submitted, as the authors report it."""
    report = files.check
    if report is None:
        return "not reported"
    verdicts = [finding.verdict for finding in report.findings]
    run = len(verdicts) - verdicts.count("skipped")
    failed = [f"{finding.topic}: {finding.message}" for finding in report.failed]
    return "; ".join([f"{run - len(failed)} of {run} hold, {verdicts.count('skipped')} skipped", *failed])


def commands(files: EntryFiles) -> list[str]:
    """What makes the entry again, and what checks it."""
    folder = f"leaderboard/records/{files.name}"
    return [
        Pin.parse(files.entry.pin).command,
        f"{files.command} --out runs/{files.name}",
        f"bgbench leaderboard validate {folder}",
    ]


def system_view(suite: str, system: str, tables: Sequence[Table]) -> dict[str, Any]:
    """Every entry on one system, a block a table."""
    blocks: list[dict[str, Any]] = []
    reference: dict[str, Any] = {}
    for table in tables:
        rows = []
        for row in table.rows:
            records = [record for record in row.files.records if record.cell.system == system]
            finished = [record for record in records if record.status == "ok"]
            reference = reference or next((record.reference for record in finished), {})
            cells = []
            for name in SHOWN:
                values = [value for r in finished if (value := value_of(r, name)) is not None]
                whole = len(values) == len({c.seed for c in row.files.plan.cells})
                mean = sum(values) / len(values) if values and whole else None
                seeds = f"{number(min(values))} to {number(max(values))}" if mean is not None else ""
                cells.append(
                    {"value": number(mean), "sort": "" if mean is None else repr(mean), "interval": seeds}
                )
            rows.append({"entry": row, "cells": cells, "finished": f"{len(finished)} of {len(records)}"})
        floors = next(
            (r.floors for s in table.rows for r in s.files.records if r.cell.system == system and r.floors),
            {},
        )
        blocks.append({"key": table.key, "rows": rows, "floors": {k: number(v) for k, v in floors.items()}})
    return {"suite": suite, "system": system, "blocks": blocks, "reference": reference}
