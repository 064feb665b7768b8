"""What an estimate must be before it is judged: finite, of this system, in budget, with true energies.

`who` in these functions is what the sentences blame: the sampler by its name, and an estimator of a plugin.
"""

from dataclasses import replace

import torch
from torch import Tensor

from bgbench.core.abstract import Estimate, Task
from bgbench.core.errors import BrokenContract, NonFinite
from bgbench.core.types import Ensemble, Proposal, System
from bgbench.energies.spotcheck import fraction_of_false_energies
from bgbench.evaluation.bench import Bench
from bgbench.systems.bonds import has_broken_bonds
from bgbench.systems.peptides import peptide


def round_positions(estimate: Estimate, start: Tensor, who: str) -> Estimate:
    """Round positions to float32, as arrays hold them, so that a replay judges what was judged.

    Conformers whose positions are not finite get no weight, u = +inf and the `start (atoms, 3)` structure,
    and are counted in the diagnostics (`nonfinite_positions`); so are those whose log_q is not finite
    (`nonfinite_log_q`), which estimators give no weight.

    Raises:
        NonFinite: if no conformer has finite positions.
    """
    ensemble, proposal = estimate.ensemble, estimate.proposal
    x = _moved(ensemble.x).float()
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bool(bad.all()):
        raise NonFinite(f"{who} returned {len(x)} conformers, and none has finite positions")
    rounded = Ensemble(
        x=torch.where(bad[:, None, None], start.float(), x),
        u=_moved(ensemble.u).masked_fill(bad, torch.inf),
        log_w=_moved(ensemble.log_w).masked_fill(bad, -torch.inf),
    )
    log_q, uncut = proposal.log_q, estimate.log_w_uncut
    counts = {"nonfinite_positions": int(bad.sum())}
    if log_q is not None:
        counts["nonfinite_log_q"] = int((~torch.isfinite(log_q)).sum())
    counts = {name: count for name, count in counts.items() if count}
    return replace(
        estimate,
        ensemble=rounded,
        proposal=Proposal(
            x=rounded.x if len(proposal.x) == len(x) else _moved(proposal.x),
            log_q=None if log_q is None else _moved(log_q),
            u=None if proposal.u is None else _moved(proposal.u),
        ),
        diagnostics={**estimate.diagnostics, **counts},
        group=None if estimate.group is None else _moved(estimate.group),
        log_w_uncut=None if uncut is None else _moved(uncut).masked_fill(bad, -torch.inf),
    )


def _moved(value: Tensor) -> Tensor:
    """A tensor on the CPU, without gradients, whatever the estimator computed it with."""
    return value.detach().cpu()


def refuse_other_system(estimate: Estimate, bench: Bench, who: str) -> None:
    """Raise BrokenContract for samples of another system, or in another unit.

    Those are samples with another number of atoms, or samples in which every conformer has broken bonds by
    this system's topology, while some are whole by that of another system of the suite, or in Å.
    """
    system, x = bench.system, estimate.ensemble.x
    if x.shape[1] != system.n_atoms:
        raise BrokenContract(f"{who} gave {x.shape[1]} atoms, {system.name} has {system.n_atoms}")
    if not system.bonds or not all_broken(system, x):
        return
    refuse_angstrom(system, x, who)
    for name in bench.suite.systems:
        other = peptide(name, system.temperature, system.forcefield)
        alike = name != system.name and other.n_atoms == system.n_atoms
        if alike and not all_broken(other, x):
            raise BrokenContract(f"{who} gave conformers of {name}, {system.name} was asked for")


def all_broken(system: System, x: Tensor) -> bool:
    """Whether every conformer of `x (n, atoms, 3)` has a broken bond by the system's topology."""
    return bool(has_broken_bonds(system.bonds, system.positions, x).all())


def refuse_angstrom(system: System, x: Tensor, who: str) -> None:
    """Raise BrokenContract where conformers `x (n, atoms, 3)` are whole once they are divided by ten."""
    if not all_broken(system, x / 10):
        raise BrokenContract(
            f"{who} gave bonds of {system.name} that are ten times too long: its positions are in Å; "
            "divide them by 10, positions are in nm"
        )


def refuse_false_energies(estimate: Estimate, bench: Bench, who: str) -> None:
    """Raise BrokenContract if most energies that came with the samples are not those of the samples."""
    fraction = fraction_of_false_energies(bench.energy, estimate.ensemble)
    if fraction > 0.5:
        raise BrokenContract(
            f"{who} returned energies; {fraction:.0%} of those looked at are not those of their conformers"
        )


def refuse_unmetered(made: int, charged: int, who: str) -> None:
    """Raise BrokenContract if more energies of the target were evaluated than were charged."""
    if made > charged:
        raise BrokenContract(
            f"{who} evaluated {made} energies and was charged for {charged}: it must ask task.oracle, "
            "not bgbench.energy, or charge an engine of its own with task.oracle.charge; set "
            "is_target = False in the class of a stand-in for the target"
        )


def refuse_too_few_frames(estimate: Estimate, task: Task, who: str) -> None:
    """Raise BrokenContract if the sampler returned fewer frames than the protocol scores."""
    if estimate.ensemble.n_samples < task.n_samples:
        raise BrokenContract(
            f"{who} returned {estimate.ensemble.n_samples} frames, the protocol scores {task.n_samples}"
        )


def refuse_unpaid_frames(estimate: Estimate, task: Task, charged: int, who: str) -> None:
    """Raise BrokenContract for more frames than energies were charged.

    An estimator may repeat its points until there are as many as the protocol scores.
    """
    n = estimate.ensemble.n_samples
    if n <= charged:
        return
    distinct = len(torch.unique(estimate.ensemble.x.flatten(1), dim=0))
    if distinct > charged:
        raise BrokenContract(
            f"{who} returned {distinct} different frames, and {charged} energies were charged; the energy of "
            "each takes one, through task.oracle"
        )
    if n > task.n_samples:
        raise BrokenContract(
            f"{who} returned {n} frames of {charged} energies charged; return each conformer once"
        )
