"""What the command line prints: tables, lists, verdicts."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from bgbench.core.errors import BgbenchError
from bgbench.core.options import describe_known
from bgbench.core.resources import data_path

if TYPE_CHECKING:
    import torch

    from bgbench.evaluation.audit import Check
    from bgbench.reports.compare import Comparison
    from bgbench.reports.curves import Point
    from bgbench.runs.records import Record
    from bgbench.runs.runfolder import RunFolder


def print_run(path: Path, records: "Sequence[Record]", console: Console) -> None:
    """Print a row for each record: its metrics with units, arrows and noise floors, and its evaluations.

    On a terminal that is too narrow, rows and columns change places.
    """
    if not records:
        console.print(f"{path}: no cell is finished yet")
        return
    first = records[0].cell
    console.print(
        f"{first.sampler} · {first.estimator} · {first.protocol} · {first.suite} · budget {first.budget:,} "
        f"energy evaluations",
        soft_wrap=True,
    )
    heads, rows = table_of(records)
    needed = sum(max(len(row[k]) for row in [heads, *rows]) + 2 for k in range(len(heads)))
    if console.is_terminal and needed > console.width:
        columns = list(zip(heads, *rows, strict=True))
        heads, rows = list(columns[0]), [list(column) for column in columns[1:]]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(file=console.file, width=max(console.width, needed), highlight=False, markup=False).print(table)
    console.print(
        "each distance is followed by its noise floor in brackets; ↑ higher is better, ↓ lower",
        soft_wrap=True,
    )
    from bgbench.reports.verdict import sentences_on

    own = own_references(path, records)
    remarks = [*sentences_on(records, path), *not_run_here(records), *failures(records), *doubts(records)]
    remarks += [*reweighted(records), *own]
    for line in remarks:
        console.print(line, soft_wrap=True)
    console.print(f"records, arrays and figures: {path}", soft_wrap=True)


def failures(records: "Iterable[Record]") -> list[str]:
    """A line for each cell that failed, with its cause."""
    return [
        f"{record.cell.name}: {record.status}: {record.error}" for record in records if record.status != "ok"
    ]


def doubts(records: "Iterable[Record]") -> list[str]:
    """A line for each reason for which densities did not pass their audit, and for each warning and failed
    diagnostic."""
    from bgbench.reports.verdict import list_some

    unverified: dict[tuple[str, str], list[str]] = {}
    lines = []
    for record in records:
        name, diagnostics = record.cell.name, record.diagnostics
        density = diagnostics.get("density", {})
        if not density.get("verified", True):
            sampler = record.cell.sampler if record.card.get("run_here", True) else ""
            unverified.setdefault((sampler, reason_of(density)), []).append(name)
        lines += [f"{name}: {text}" for text in diagnostics.get("warnings", [])]
        failed = diagnostics.get("failed_diagnostics", {})
        lines += [f"{name}: the diagnostic '{part}' failed: {text}" for part, text in failed.items()]
    return [
        *(
            f"{list_some(names)}: density not verified ({reason}): do not trust the weights"
            + (f"; see `bgbench audit {sampler}`" if sampler else "")
            for (sampler, reason), names in unverified.items()
        ),
        *lines,
    ]


def reason_of(density: Mapping[str, Any]) -> str:
    """Why an audit did not pass, in a few words: what it raised, or the first check that failed.

    >>> check = {"name": "round trip, gaussian", "value": 0.2, "limit": 0.001, "note": "of 32 draws"}
    >>> reason_of({"verified": False, "checks": {"round trip, gaussian": check}})
    'round trip, gaussian: 0.2, the limit is 0.001'
    """
    if "error" in density:
        return str(density["error"])
    for name, check in density.get("checks", {}).items():
        value, limit = check.get("value"), check.get("limit")
        if value is None or limit is None or not value <= limit:
            shown = "no number" if value is None else f"{value:.2g}"
            return f"{name}: {shown}, the limit is {limit or 0:g}"
    return "no check passed"


def print_score(path: Path, record: "Record", console: Console) -> None:
    """Print one line of a cell's metrics, each distance beside its noise floor, then remarks and figures."""
    from bgbench.reports.headings import heading, headline

    cell = record.cell
    if record.status != "ok":
        console.print(f"{cell.system}: {record.status}: {record.error}", soft_wrap=True)
        return
    texts = [f"{heading(name)} {_cell_text(record, name)}" for name in headline([record])]
    frames = record.diagnostics.get("frames_compared")
    console.print(f"{cell.system} · {cell.protocol} · {frames} frames · {' · '.join(texts)}", soft_wrap=True)
    for line in doubts([record]):
        console.print(line, soft_wrap=True)
    for figure in sorted((path / "figures").glob(f"{cell.name}-*.png")):
        console.print(f"figure: {figure}", soft_wrap=True)


def not_run_here(records: "Iterable[Record]") -> list[str]:
    """A line where samples were made elsewhere and only read here."""
    if all(record.card.get("run_here", True) for record in records):
        return []
    return [
        "the sampler was not run here: its samples were read from files, evaluations are those of their "
        "energies, and what the samples cost is not known"
    ]


def reweighted(records: "Iterable[Record]") -> list[str]:
    """A line for each system whose reference was reweighted from another temperature."""
    return [
        f"{record.cell.system}: reference reweighted from {source['from']:g} to "
        f"{record.cell.temperature:g} K, ESS {source['ess']:.2g}"
        for record in {record.cell.system: record for record in records}.values()
        if (source := record.reference.get("reweighted"))
    ]


def own_references(path: Path, records: "Sequence[Record]") -> list[str]:
    """A line for each system that was judged against another reference than the packaged one."""
    from bgbench.evaluation.suites import load_suite
    from bgbench.references.certificates import reference_sha256
    from bgbench.references.providers import reference_path

    lines = []
    suite = load_suite(records[0].cell.suite, path)
    for record in {record.cell.system: record for record in records}.values():
        system, sha256 = record.cell.system, str(record.reference.get("sha256", ""))
        place = reference_path(system, record.cell.temperature, suite.forcefield_of(system))
        packaged = data_path("references") / place
        if sha256 and packaged.is_file() and reference_sha256(packaged) != sha256:
            lines.append(
                f"{system}: judged against a reference of your own ({sha256[:12]}), not the packaged one; "
                f"`bgbench data compare {system}` measures the distances between them"
            )
    return lines


def table_of(records: "Sequence[Record]") -> tuple[list[str], list[list[str]]]:
    """The column heads, and a row of text for each record."""
    from bgbench.reports.headings import heading, headline
    from bgbench.reports.verdict import mean_skill, skill_of

    names = headline(records)
    has_skill = mean_skill(records) is not None
    heads = [
        "system", "seed", "status", *(["skill ↑"] if has_skill else []), *(heading(name) for name in names),
        "evaluations", "reference grade",
    ]  # fmt: skip
    rows = [
        [record.cell.system, str(record.cell.seed), status_of(record)]
        + ([_number(skill_of(record))] if has_skill else [])
        + [_cell_text(record, name) for name in names]
        + [f"{record.budget.used:,}", str(record.reference.get("grade", "–"))]
        for record in records
    ]
    return heads, rows


def status_of(record: "Record") -> str:
    """The status, with a mark where the density is not verified: a line below the table says why."""
    verified = record.diagnostics.get("density", {}).get("verified", True)
    return record.status if verified else f"{record.status}, not verified"


def print_comparison(comparison: "Comparison", console: Console) -> None:
    """Print one metric: a row for each sampler, then a line for each pair."""
    from bgbench.reports.headings import heading

    floor = "" if comparison.floor is None else f", noise floor {comparison.floor:.3g}"
    console.print(
        f"{heading(comparison.metric)} over {len(comparison.systems)} systems, 95 % intervals{floor}",
        soft_wrap=True,
    )
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("sampler", "mean", "interval", "median", "rank"):
        table.add_column(column, justify="left" if column == "sampler" else "right")
    for name in comparison.best_first():
        interval, rank = comparison.intervals.get(name), comparison.rank(name)
        if interval is None:
            table.add_row(name, "–", "–", "–", rank)
            continue
        ends = interval.ends("{:.3g}".format, " … ") or "–"
        table.add_row(name, f"{interval.mean:.3g}", ends, f"{interval.median:.3g}", rank)
    console.print(table)
    for sentence in comparison.notes:
        console.print(f"  {sentence}", soft_wrap=True)
    unit = f" {comparison.unit}" if comparison.unit else ""
    for pair in comparison.pairs:
        ends = pair.difference.ends("{:+.3g}".format, " … ")
        console.print(
            f"  {pair.first} − {pair.second}: {pair.difference.mean:+.3g}{unit}{f' ({ends})' if ends else ''}"
            + ("" if pair.p is None else f", Wilcoxon p {pair.p:.2g} after Holm"),
            soft_wrap=True,
        )


def print_curve(label: str, points: "Sequence[Point]", metrics: Sequence[str], console: Console) -> None:
    """Print a row for each checkpoint: evaluations, seconds, and each metric with its noise floor."""
    from bgbench.reports.headings import heading

    table = Table(title=f"{label}, mean over cells", box=None, title_justify="left")
    for name in ("evaluations", "seconds", *(heading(metric) for metric in metrics)):
        table.add_column(name, justify="right")
    for point in points:
        cells = [_with_floor(point.metrics.get(name), point.floors.get(name)) for name in metrics]
        table.add_row(f"{point.evaluations:,}", f"{point.seconds:.3g}", *cells)
    console.print(table)


def _with_floor(value: float | None, floor: float | None) -> str:
    if value is None:
        return "–"
    return _number(value) if floor is None else f"{_number(value)} [{floor:.2g}]"


def print_audit(checks: "Sequence[Check]", console: Console) -> None:
    """Print a line for each check: passed or not, the value, its limit, what was measured."""
    table = Table(box=None, pad_edge=False)
    for name in ("check", "result", "value", "limit", "measured"):
        table.add_column(name)
    for check in checks:
        verdict = "ok" if check.passed else "FAILED"
        table.add_row(check.name, verdict, f"{check.value:.2g}", f"{check.limit:g}", check.note)
    console.print(table)


def run_as_dict(folder: "RunFolder") -> dict[str, Any]:
    """A run as plain JSON values."""
    return {
        "run": folder.plan.model_dump(exclude={"cells"}),
        "cells": [
            {
                "system": record.cell.system,
                "seed": record.cell.seed,
                "status": record.status,
                "error": record.error,
                "phase": record.phase,
                "metrics": record.metrics,
                "floors": record.floors,
                "skills": record.skills,
                "budget": {"limit": record.budget.limit, "used": record.budget.used},
                "reference": record.reference,
                "leakage": record.leakage,
                "seconds": record.seconds,
                "diagnostics": record.diagnostics,
            }
            for record in folder.readable()[0]
        ],
        "missing": [cell.name for cell in folder.missing()],
    }


def print_listing(kind: str, console: Console) -> None:
    """Print a line for each entry: name, summary, distribution, version.

    Raises:
        BgbenchError: for an unknown kind.
    """
    from bgbench.core.plugins import plugins

    installed = plugins()
    registries = installed.registries
    table = Table(box=None, header_style="bold", pad_edge=False)
    if kind == "plugins":
        for column in ("plugin", "distribution", "version"):
            table.add_column(column)
        for origin in installed.origins.values():
            table.add_row(origin.plugin, origin.distribution, origin.version)
    elif kind in registries:
        for column in ("name", "summary", "distribution", "version"):
            table.add_column(column)
        registry = registries[kind]
        summary = {"suites": summary_of_suite, "protocols": summary_of_protocol}.get(kind, summary_of)
        for name in registry:
            origin = registry.origin(name)
            table.add_row(name, summary(registry[name]), origin.distribution, origin.version)
    else:
        raise BgbenchError(f"cannot list '{kind}'{describe_known(kind, [*registries, 'plugins'])}")
    console.print(table)


def print_options(name: str, console: Console) -> None:
    """Print a line for each option of a sampler, an estimator, an engine or a cluster.

    Raises:
        BgbenchError: for an unknown name, or a plugin that does not register its options.
    """
    from bgbench.core.options import describe_options
    from bgbench.core.plugins import plugins
    from bgbench.core.simulation import SimulationSettings
    from bgbench.runs.clusters import Slurm

    installed = plugins()
    samplers, estimators, engines = installed.samplers, installed.estimators, installed.engines
    kinds: dict[str, tuple[str, type | None, object]] = {
        **{known: ("", samplers[known].options, None) for known in samplers},
        **{known: ("estimator.", estimators[known].options, None) for known in estimators},
        **{known: ("", SimulationSettings, engines[known].engine.reference_settings()) for known in engines},
        "slurm": ("cluster.", Slurm, None),
    }
    if name not in kinds:
        raise BgbenchError(
            f"'{name}' is no sampler, estimator, engine or cluster{describe_known(name, kinds)}"
        )
    prefix, kind, defaults = kinds[name]
    if kind is None:
        raise BgbenchError(f"the plugin of '{name}' does not register its options; see its documentation")
    described = describe_options(kind, defaults)
    if not described:
        console.print(f"{name} has no options")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("--set", "value", "default", "meaning"):
        table.add_column(column)
    for option in described:
        table.add_row(f"{prefix}{option.name}", option.values, option.default, option.meaning)
    console.print(table)


def summary_of(entry: Any) -> str:
    """One line on a registered entry, with what to cite in brackets."""
    citation = getattr(entry, "citation", "")
    return f"{entry.summary} [{citation}]" if citation else str(entry.summary)


def broken_plugins() -> list[str]:
    """A line for each plugin that was not loaded."""
    from bgbench.core.plugins import plugins

    return [f"not loaded: {reason}" for reason in plugins().broken.values()]


def summary_of_protocol(path: Path) -> str:
    """What a protocol says of itself, and what it computes; of a damaged file, what is wrong with it."""
    from bgbench.evaluation.protocols import read_protocol

    try:
        protocol = read_protocol(path)
    except BgbenchError as error:
        return str(error)
    return f"{protocol.summary}; {', '.join(protocol.metrics)}"


def summary_of_suite(path: Path) -> str:
    """How many systems a suite has, how long they are, and the budget and seeds of each.

    Of a damaged file, what is wrong with it.
    """
    from bgbench.evaluation.suites import read_suite
    from bgbench.systems.residues import parse_chain

    try:
        suite = read_suite(path)
    except BgbenchError as error:
        return str(error)
    lengths = sorted({len(parse_chain(name).sequence) for name in suite.systems if ":" not in name})
    span = (
        ""
        if not lengths
        else f" of {lengths[0]}" + (f" to {lengths[-1]}" if lengths[1:] else "") + " residues"
    )
    seeds = "1 seed" if suite.seeds == 1 else f"{suite.seeds} seeds"
    systems = "1 system" if len(suite.systems) == 1 else f"{len(suite.systems)} systems"
    kelvins = sorted({suite.temperature_of(name) for name in suite.systems})
    temperatures = " or ".join(f"{kelvin:g}" for kelvin in kelvins)
    return f"{systems}{span}, {suite.budget:,} evaluations, {seeds}, {temperatures} K"


OPTIONAL = {"dask_jobqueue": "bgbench run --cluster slurm", "playwright": "the browser tests"}
"""Modules that may be missing, and what needs them."""


def print_doctor(console: Console) -> None:
    """Print versions, platforms, devices, threads, disk, and what is not installed."""
    import openmm

    from bgbench.runs.provenance import provenance

    report = provenance()
    host = report["host"]
    console.print(f"bgbench {report['bgbench']}, Python {report['python']}, {host['system']}")
    console.print(f"CPU {host['cpu']}, {host['cores']} cores, GPU {host['gpu'] or 'none'}", soft_wrap=True)
    omp = os.environ.get("OMP_NUM_THREADS", "unset")
    console.print(f"torch threads {host['torch_threads']}, OMP_NUM_THREADS {omp}")
    for line in describe_placement():
        console.print(line, soft_wrap=True)
    for name, number in report["libraries"].items():
        console.print(f"  {name} {number or 'MISSING'}")
    platforms = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    console.print(f"OpenMM platforms: {', '.join(platforms)}")
    console.print(f"free disk here: {shutil.disk_usage('.').free / 1e9:.1f} GB")
    for line in describe_plugins():
        console.print(line, soft_wrap=True)
    for line in broken_plugins():
        console.print(line, soft_wrap=True)
    missing = [
        f"{module} (for {purpose})"
        for module, purpose in OPTIONAL.items()
        if importlib.util.find_spec(module) is None
    ]
    console.print(f"optional, not installed: {', '.join(missing) or 'nothing'}")
    sys.stdout.flush()


def describe_plugins() -> list[str]:
    """What each plugin brings, by kind: `plugin tbg: sampler tbg`."""
    from bgbench.core.plugins import plugins

    lines = []
    for plugin in plugins().origins:
        entries = [
            f"{registry.kind if len(names) == 1 else registry.plural} {', '.join(names)}"
            for registry in plugins().registries.values()
            if (names := [name for name in registry if registry.origin(name).plugin == plugin])
        ]
        lines.append(f"plugin {plugin}: {'; '.join(entries) or 'nothing'}")
    return lines


def describe_placement() -> list[str]:
    """What `bgbench run` uses of this machine by default, and what else there is."""
    from bgbench.core.devices import describe_device, find_device
    from bgbench.runs.placement import place
    from bgbench.runs.provenance import visible_devices

    device, here = find_device(), place()
    facts = describe_device(device)
    named = ", ".join(facts[key] for key in ("name", "precision") if facts.get(key))
    driver = f", driver {facts['driver']}" if facts.get("driver") else ""
    workers = "1 worker" if here.workers == 1 else f"{here.workers} workers"
    threads = "1 thread" if here.threads == 1 else f"{here.threads} threads"
    lines = [f"runs use {device} ({named}{driver}): {workers} of {threads} each"]
    gpus = len(visible_devices())
    if gpus > 1:
        lines.append(f"{gpus} GPUs, one for each worker; --device cuda:K uses one of them, --device cpu none")
    return [*lines, describe_energies(device)]


def describe_energies(device: "torch.device") -> str:
    """Which engine computes energies in float32 on the device: on a GPU a peptide's is, to see which one."""
    from bgbench.energies.batched import BatchedEnergy
    from bgbench.energies.triton_engine import has_triton
    from bgbench.systems.peptides import peptide

    system = peptide("GG")
    energy = BatchedEnergy(system)
    if device.type == "cpu":
        there, numba = "is" if has_triton() else "is not", energy.describe()["numba"]
        return f"energies are computed by numba {numba}; Triton, for GPUs, {there} installed"
    try:
        energy.energy(system.positions[None].float().to(device))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"energies cannot be computed on {device}: {reason}"
    used = energy.describe()
    if "triton" in used:
        return f"energies on {device} are computed by Triton {used['triton']}"
    reason = used.get("without_triton", "Triton is for CUDA")
    return f"energies on {device} are computed by PyTorch, without Triton ({reason})"


def _cell_text(record: "Record", name: str) -> str:
    from bgbench.reports.headings import value_of

    value, floor = value_of(record, name), record.floors.get(name)
    return _number(value) if floor is None else f"{_number(value)} [{floor:.2g}]"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
