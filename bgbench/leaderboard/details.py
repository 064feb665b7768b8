"""What the pages of one entry and of one system show."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from bgbench.core.plugins import plugins
from bgbench.leaderboard.checks import UNWEIGHTED
from bgbench.leaderboard.entries import Opened
from bgbench.leaderboard.ledger import Event
from bgbench.leaderboard.rules import SHOWN
from bgbench.leaderboard.tables import Standing, Table
from bgbench.leaderboard.views import count, curves_view, dots_view, number, per_system
from bgbench.reports.statistics import rank_text


def entry_view(
    standing: Standing, table: Table, events: Sequence[Event], files: Sequence[str]
) -> dict[str, Any]:
    """Provenance, tables, pictures and commands of an entry."""
    opened = standing.opened
    return {
        "name": standing.name,
        "label": standing.label,
        "opened": opened,
        "standing": standing,
        "facts": facts(standing),
        "summary": summary(standing),
        "ranks": {name: rank_text(rank) for name, rank in standing.ranks.items()},
        "rows": per_system(opened),
        "dots": dots_view(opened),
        "curves": curves_view(table, only=standing.name),
        "pictures": [_picture(name) for name in files],
        "events": [event for event in reversed(events) if event.entry == standing.name],
        "commands": commands(opened),
        "missing": standing.missing,
        "table": table.key,
    }


def summary(standing: Standing) -> list[dict[str, str]]:
    """The headline numbers."""
    known = plugins().metrics
    return [
        {
            "name": name,
            "unit": known[name].unit,
            "value": number(found.mean),
            "interval": f"{number(found.low)} to {number(found.high)}",
            "rank": rank_text(standing.ranks.get(name)),
            "floor": number(standing.floors.get(name)),
        }
        for name in SHOWN
        if (found := standing.intervals.get(name)) is not None
        and not (name == "ess" and standing.opened.plan.estimator in UNWEIGHTED)
    ]


def _picture(path: str) -> dict[str, str]:
    cell, _, kind = path.rpartition("/")[2].removesuffix(".png").partition("~")
    return {"path": path, "alt": f"{kind} of {cell}, sampler beside reference", "cell": cell, "kind": kind}


def facts(standing: Standing) -> list[tuple[str, str]]:
    """Who, what, with which versions, on which machine."""
    opened, costs = standing.opened, standing.costs
    plan, entry = opened.plan, opened.entry
    provenance = opened.records[0].provenance if opened.records else {}
    card = next((record.card for record in opened.records if record.status == "ok"), {})
    sequences = len(card.get("training_sequences", ()))
    spent = f"{costs.training_hours:.3g} hours, {count(costs.training_evaluations)} evaluations"
    return [
        ("authors", ", ".join(entry.authors)),
        ("licence", entry.licence),
        ("version", f"{entry.version}, run planned {plan.created}"),
        ("plugin", entry.pin),
        ("source", entry.source or "in the plugin's distribution"),
        ("weights, sha256", plan.inputs.weights_sha256 or "none"),
        ("card", str(card.get("name", "–"))),
        ("training", f"{spent}, {sequences} sequences"),
        ("parameters", count(costs.parameters)),
        ("leakage", standing.leakage),
        ("suite, sha256", plan.suite_sha256),
        ("run", plan.id),
        *_machine(provenance),
        ("note", entry.note or "–"),
        ("checked", _checked(opened)),
    ]


def _machine(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    host, git = provenance.get("host", {}), provenance.get("git", {})
    commit = f", commit {git['commit'][:12]}" if git.get("commit") else ""
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    libraries = provenance.get("libraries", {})
    threads = host.get("torch_threads", "–")
    return [
        ("bgbench", f"{provenance.get('bgbench', '–')}{commit}{dirty}"),
        ("libraries", ", ".join(f"{name} {version}" for name, version in libraries.items())),
        ("machine", f"{host.get('cpu', '–')}, GPU {host.get('gpu') or 'none'}, {threads} threads"),
    ]


def _checked(opened: Opened) -> str:
    verdict = opened.verdict
    if verdict is None or opened.tier == "reported":
        return "records only; the arrays were not at hand"
    done = sum(cell == "recomputed" for cell in verdict.cells.values())
    text = (
        f"every metric of {done} cells recomputed with bgbench {verdict.bgbench}; {verdict.energies:,} "
        f"energies evaluated again, off by {verdict.energy_difference:.2g} kT at most"
    )
    if verdict.reproduction:
        gaps = ", ".join(f"{name} {value:+.1f}" for name, value in verdict.reproduction.items())
        text += f"; run again on fresh seeds, standard errors from what was submitted: {gaps}"
    return text


def commands(opened: Opened) -> list[str]:
    """What makes the entry again, and what checks it."""
    folder = f"leaderboard/records/{opened.name}"
    package, _, commit = opened.entry.pin.partition(" @ ")
    return [
        f"pip install {shlex.quote(package)}" + (f"  # commit {commit}" if commit else ""),
        f"{opened.command} --out runs/{opened.name}",
        f"bgbench leaderboard validate {folder}",
    ]


def system_view(suite: str, system: str, tables: Sequence[Table]) -> dict[str, Any]:
    """Every entry on one system, a block a table."""
    blocks: list[dict[str, Any]] = []
    reference: dict[str, Any] = {}
    for table in tables:
        rows = []
        for standing in table.standings:
            records = [record for record in standing.opened.records if record.cell.system == system]
            finished = [record for record in records if record.status == "ok"]
            reference = reference or next((record.reference for record in finished), {})
            cells = []
            for name in SHOWN:
                values = [r.metrics[name] for r in finished if r.metrics.get(name) is not None]
                whole = len(values) == len({c.seed for c in standing.opened.plan.cells})
                mean = sum(v for v in values if v is not None) / len(values) if values and whole else None
                spread = [v for v in values if v is not None]
                seeds = f"{number(min(spread))} to {number(max(spread))}" if mean is not None else ""
                cells.append(
                    {"value": number(mean), "sort": "" if mean is None else repr(mean), "interval": seeds}
                )
            rows.append({"standing": standing, "cells": cells, "done": f"{len(finished)} of {len(records)}"})
        floors = next(
            (
                r.floors
                for s in table.standings
                for r in s.opened.records
                if r.cell.system == system and r.floors
            ),
            {},
        )
        blocks.append({"key": table.key, "rows": rows, "floors": {k: number(v) for k, v in floors.items()}})
    return {"suite": suite, "system": system, "blocks": blocks, "reference": reference}
