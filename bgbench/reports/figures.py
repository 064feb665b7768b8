"""Pictures of a cell: the sampler beside the reference, as PNG in the run folder, or as SVG or PDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from bgbench.core.types import Ensemble, Reference, System
from bgbench.estimators.weights import effective_points
from bgbench.evaluation.suites import load_suite
from bgbench.metrics.sides import equally_weighted
from bgbench.references.providers import find_reference
from bgbench.reports.axes import set_log
from bgbench.reports.headings import errors_known
from bgbench.reports.saving import Format, save_figure
from bgbench.runs.estimates import read_estimate, refuse_other_reference
from bgbench.runs.records import Record
from bgbench.runs.runfolder import RunFolder
from bgbench.systems.features import tica_features, torsion_atoms, torsions
from bgbench.systems.named import find_member

REFERENCE, SAMPLER = "#4c4c4c", "#c8441b"

HIGHEST = 8.0
"""kT above the reference's most populated bin up to which maps are coloured; bins beyond stay white."""

CAPTIONS = {
    "ramachandran": "Backbone angles. Every valley of the reference should be there, as deep; white is "
    "hardly ever visited. A few scattered bins mean that few points carry the weight.",
    "tica": "The slowest motions of the reference. A valley that is missing is a state never visited.",
    "energy": "The weighted sampler should lie on the reference. Unweighted draws far to the right are "
    "strained; those at the right end are clashes.",
    "free-energy": "Where the bars of sampler and reference do not meet, states have wrong populations.",
    "weights": "Level: weights are even, and more draws help. Falling along the dotted line: one weight is "
    "all, and more draws help little.",
    "smc": "ESS should stay well above zero, acceptance between .2 and .9, and ancestors many to the end.",
}
"""What to look for in each kind of figure."""


def draw_cell(
    folder: RunFolder, record: Record, target: Path | None = None, format: Format = "png"
) -> list[Path]:
    """Ramachandran, TICA, energy and free-energy figures of a finished cell, and how its annealing went.

    Args:
        folder: the run.
        record: of the cell.
        target: the folder that gets the figures; default: that of the run.
        format: `png`, or `svg` or `pdf` for papers.

    Returns:
        The files written.

    Raises:
        BgbenchError: if the arrays are missing or changed, or the folder cannot be written.
    """
    if record.arrays is None:
        return []
    figures = {"smc": annealing(record.diagnostics["smc"])} if "smc" in record.diagnostics else {}
    if "ess_against_n" in record.diagnostics:
        figures["weights"] = weight_diagnostics(record.diagnostics["ess_against_n"], record.metrics)
    figures |= chemical(folder, record)
    title = (
        f"{record.cell.sampler} · {record.cell.estimator} · {record.cell.system} · seed {record.cell.seed}"
    )
    paths = {kind: folder.figure_path(record.cell, kind).with_suffix(f".{format}") for kind in figures}
    if target is not None:
        paths = {kind: target / path.name for kind, path in paths.items()}
    return [_save(figure, title, paths[kind]) for kind, figure in figures.items()]


def chemical(folder: RunFolder, record: Record) -> dict[str, Figure]:
    """The figures of a molecule's cell, by kind; none of a system without atoms."""
    if record.arrays is None:
        return {}
    suite = load_suite(record.cell.suite, folder.path)
    system = find_member(suite, record.cell.system, record.cell.temperature)
    if not system.atoms:
        return {}
    reference = find_reference(system, suite.id)
    refuse_other_reference(record, reference)
    ensemble = read_estimate(folder, record).ensemble
    figures = {"energy": energies(ensemble, reference)}
    if n_ramachandran(system):
        figures = {"ramachandran": ramachandran(system, ensemble, reference), **figures}
    if reference.tica is not None:
        figures["tica"] = tica(system, ensemble, reference)
    if record.diagnostics.get("free_energies"):
        figures["free-energy"] = free_energies(record)
    return figures


def weight_diagnostics(against_n: Mapping[str, float], metrics: Mapping[str, float | None]) -> Figure:
    """ESS of the first n weights, and what else is known of them.

    The ESS of even weights stays the same fraction of n as n grows; that of heavy-tailed weights falls.

    Args:
        against_n: ESS / n of the first n weights, by n.
        metrics: of the record; those about weights stand in the title.
    """
    figure, (ax,) = sheet(5.2, 3.4)
    sizes = [int(n) for n in against_n]
    ax.plot(sizes, list(against_n.values()), "o-", color=SAMPLER)
    ax.plot(sizes, [1 / n for n in sizes], ":", color="black", label="1 / n: one weight is all")
    ax.set(xlabel="n, draws in their order", ylabel="ESS / n, all weights")
    set_log(ax, "x", sizes)
    set_log(ax, "y", [1.0, 1 / sizes[-1], *against_n.values()])
    ax.legend(frameon=False, fontsize=8)
    known = ("pareto_k", "max_weight_share", "unique_fraction", "ess_after_cut")
    values = [f"{name} {value:.3g}" for name in known if (value := metrics.get(name)) is not None]
    ax.set_title(", ".join(values), fontsize=7)
    return figure


def annealing(diagnostics: Mapping[str, Any]) -> Figure:
    """What an annealed sampler did at each step: t, ESS, acceptance, step length, surviving ancestors."""
    history = diagnostics["history"]
    figure, panels = sheet(7.2, 4.8, 2, 2)
    series = (("t",), ("ess", "cess"), ("acceptance",), ("ancestors",))
    for ax, names in zip(panels, series, strict=True):
        for name in names:
            steps = [k + 1 for k, value in enumerate(history[name]) if value is not None]
            ax.plot(steps, [history[name][k - 1] for k in steps], ".-", label=name, markersize=3)
        ax.set(ylabel=" and ".join(names), xlabel="increment of t")
    panels[1].legend(frameon=False, fontsize=8)
    set_log(panels[3], "y", [n for n in history["ancestors"] if n is not None])
    size, steps = diagnostics["particles"], diagnostics["steps"]
    panels[0].set_title(f"{size:,} particles, {steps} evaluations each", fontsize=8)
    times, scheme = diagnostics["resamplings"], diagnostics["resampling"]
    panels[1].set_title(f"resampled {times} times, {scheme}", fontsize=8)
    return figure


def free_energies(record: Record) -> Figure:
    """ΔF of each pair of states with two standard errors, sampler beside reference; empty ones left out.

    The sampler has no errors where its weights do not allow any (`headings.errors_known`).
    """
    differences: Mapping[str, Any] = record.diagnostics["free_energies"]
    known = errors_known(record)
    figure, (ax,) = sheet(5.2, 1.0 + 0.5 * len(differences), top=0.35)
    sides = (
        ("delta_f", "error" if known else "", "sampler", SAMPLER, 0.12),
        ("reference", "reference_error", "reference", REFERENCE, -0.12),
    )
    for side, error, label, colour, shift in sides:
        rows = [(k, state) for k, state in enumerate(differences.values()) if state[side] is not None]
        ax.plot(
            [state[side] for _, state in rows], [k + shift for k, _ in rows], "o", color=colour, label=label
        )
        for k, state in rows:
            reach = 2 * (state[error] or 0.0) if error else 0.0
            ax.plot([state[side] - reach, state[side] + reach], [k + shift] * 2, color=colour)
    ax.set_yticks(range(len(differences)), list(differences))
    ax.set_ylim(-0.5, len(differences) - 0.5)
    unknown = "" if known else "; of the sampler not known"
    ax.set_xlabel(f"ΔF (kT), ± 2 standard errors{unknown}")
    ax.legend(frameon=False, fontsize=8)
    return figure


def n_ramachandran(system: System) -> int:
    """Pairs of φ and ψ that a molecule has."""
    quadruples = torsion_atoms(system)
    return min(len(quadruples["phi"]), len(quadruples["psi"]))


def ramachandran(system: System, ensemble: Ensemble, reference: Reference) -> Figure:
    """Weighted φ/ψ densities, one row for each (φ, ψ) pair; degrees."""
    ours, truth = torsions(system, ensemble.x), torsions(system, reference.x)
    box = np.array([[-180.0, 180.0], [-180.0, 180.0]])
    pairs = [
        (_in_degrees(truth.phi[:, k], truth.psi[:, k]), _in_degrees(ours.phi[:, k], ours.psi[:, k]))
        for k in range(n_ramachandran(system))
    ]
    figure, axes = maps(pairs, [box] * len(pairs), ensemble, reference.grade)
    for row, panels in enumerate(axes):
        panels[0].set_ylabel(f"ψ{row + 1} (°)")
        for ax in panels:
            ax.set(xlabel=f"φ{row + 1} (°)", xticks=(-120, 0, 120), yticks=(-120, 0, 120))
    return figure


def tica(system: System, ensemble: Ensemble, reference: Reference) -> Figure:
    """First two TICA coordinates of the reference's model, reference beside the weighted sampler."""
    model = reference.tica
    if model is None:
        raise ValueError("the reference has no TICA model")
    truth = model.transform(tica_features(system, reference.x).to(model.mean))[:, :2].numpy()
    ours = model.transform(tica_features(system, ensemble.x).to(model.mean))[:, :2].numpy()
    low, high = truth.min(0), truth.max(0)
    margin = 0.15 * (high - low)
    box = np.stack([low - margin, high + margin], axis=1)
    figure, (panels,) = maps([(truth, ours)], [box], ensemble, reference.grade)
    panels[0].set_ylabel("TIC 2")
    for ax in panels:
        ax.set_xlabel("TIC 1")
    return figure


def maps(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    boxes: Sequence[np.ndarray],
    ensemble: Ensemble,
    grade: str,
) -> tuple[Figure, np.ndarray]:
    """Maps of −log density in kT, a row a pair: reference, unweighted sampler, weighted sampler.

    All panels of a row have one scale, whose zero is the reference's most populated bin. Where all weights
    are equal, the weighted map is left out.

    Args:
        pairs: of each row, points `(n, 2)` of the reference and of the sampler.
        boxes: of each row, the ends of both coordinates, `(2, 2)`.
        ensemble: the sampler's, for its weights.
        grade: of the reference.

    Returns:
        The figure, and its panels `(rows, columns)`.
    """
    titles = [f"reference ({grade})", "sampler"]
    weights: list[np.ndarray | None] = [None]
    if not equally_weighted(ensemble):
        n_eff, n = effective_points(ensemble), ensemble.n_samples
        titles = [titles[0], "sampler, unweighted", f"weighted: {n_eff:,.0f} of {n:,} count"]
        weights.append(ensemble.weights.numpy())
    columns, rows = len(titles), len(pairs)
    # Few points in many bins would all look as populated as the deepest valley.
    bins = int(np.clip(np.sqrt(ensemble.n_samples / 2), 18, 72))
    width = 1.9 + 2.9 * columns
    figure, panels = sheet(width, 0.65 + 2.9 * rows, rows, columns, right=1.1, same_y=True)
    axes = panels.reshape(rows, columns)
    for row, ((truth, ours), box) in enumerate(zip(pairs, boxes, strict=True)):
        densities = [_density(truth, None, box, bins), *(_density(ours, w, box, bins) for w in weights)]
        for ax, density in zip(axes[row], densities, strict=True):
            image = _draw_density(ax, density, densities[0].max(), box)
        axes[row, 0].tick_params(labelleft=True)
        place = axes[row, -1].get_position()
        bar = figure.add_axes((place.x1 + 0.12 / width, place.y0, 0.12 / width, place.height))
        figure.colorbar(image, cax=bar, label="−log density (kT)")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    return figure, axes


def energies(ensemble: Ensemble, reference: Reference) -> Figure:
    """Histograms of u (kT): reference, proposal, weighted ensemble."""
    figure, (ax,) = sheet(5.2, 3.4, top=0.35)
    truth = reference.u.numpy()
    spread = max(float(truth.std()), 1e-3)
    bins = np.linspace(truth.min() - 3 * spread, truth.max() + 12 * spread, 90).tolist()
    u = ensemble.u.numpy()
    inside = np.clip(np.nan_to_num(u, posinf=bins[-1]), bins[0], bins[-1])
    heights, _ = np.histogram(truth, bins, density=True)
    ax.stairs(heights, bins, fill=True, color=REFERENCE, alpha=0.45, label="reference")
    for weights, style, label in (
        (None, ":", "sampler, unweighted"),
        (ensemble.weights.numpy(), "-", "sampler, weighted"),
    ):
        heights, _ = np.histogram(inside, bins, weights=weights)
        scale = heights.sum() * np.diff(bins)
        ax.stairs(heights / np.maximum(scale, 1e-300), bins, color=SAMPLER, linestyle=style, label=label)
    ax.set(xlabel="u (kT); the bins at the ends hold everything beyond", ylabel="density")
    ax.legend(frameon=False, fontsize=8)
    return figure


def sheet(
    width: float,
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    top: float = 0.65,
    right: float = 0.15,
    same_y: bool = False,
) -> tuple[Figure, np.ndarray]:
    """A figure of so many inches and its axes, row by row, below `top` inches for titles.

    `right` is the margin beside them, in inches.

    The margins are fixed: to find them matplotlib would draw every figure twice, beside busy workers.
    """
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=same_y)
    left, bottom = 0.85, 0.5
    beside, below = 0.5 if same_y else 0.8, 0.5
    wide = (width - left - right - beside * (columns - 1)) / columns
    tall = (height - top - bottom - below * (rows - 1)) / rows
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=bottom / height, top=1 - top / height,
        wspace=beside / wide, hspace=below / tall,
    )  # fmt: skip
    return figure, axes.flatten()


def _in_degrees(phi: torch.Tensor, psi: torch.Tensor) -> np.ndarray:
    """`(n, 2)` degrees."""
    return np.rad2deg(torch.stack([phi, psi], dim=1).numpy())


def _density(points: np.ndarray, weights: np.ndarray | None, box: np.ndarray, bins: int) -> np.ndarray:
    """Density `(bins, bins)` of `points (n, 2)`, rows along the second axis; those outside count too."""
    edges = [np.linspace(low, high, bins + 1) for low, high in box]
    x, y = points.T
    counts, _, _ = np.histogram2d(x, y, bins=edges, weights=weights)
    total = len(points) if weights is None else weights.sum()
    return np.asarray(counts.T / total)


def _draw_density(ax: Axes, density: np.ndarray, highest: float, box: np.ndarray) -> AxesImage:
    """−log of the density's ratio to `highest`, up to HIGHEST; what is rarer stays white."""
    with np.errstate(divide="ignore"):
        free_energy = -np.log(density / highest)
    return ax.imshow(
        np.ma.masked_greater(free_energy, HIGHEST),
        cmap="viridis",
        vmin=0.0,
        vmax=HIGHEST,
        origin="lower",
        aspect="auto",
        extent=(*box[0], *box[1]),
        interpolation="nearest",
    )


def _save(figure: Figure, title: str, path: Path) -> Path:
    figure.suptitle(title, fontsize=9)
    return save_figure(figure, path)
