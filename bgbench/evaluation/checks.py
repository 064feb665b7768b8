"""What an estimate must be before it is judged: finite, of this system, in budget, with true energies."""

from dataclasses import replace

import torch
from torch import Tensor

from bgbench.core.abstract import Estimate, Task
from bgbench.core.errors import BrokenContract, NonFinite
from bgbench.core.types import Ensemble
from bgbench.energies.spotcheck import fraction_of_false_energies
from bgbench.evaluation.bench import Bench
from bgbench.systems.bonds import has_broken_bonds
from bgbench.systems.peptides import peptide


def round_positions(estimate: Estimate, start: Tensor) -> Estimate:
    """Round positions to float32, as arrays hold them, so that a replay judges what was judged.

    Conformers whose positions are not finite get no weight, u = +inf and the `start (atoms, 3)` structure,
    and are counted in the diagnostics (`nonfinite_positions`).

    Raises:
        NonFinite: if no conformer has finite positions.
    """
    ensemble = estimate.ensemble
    x = ensemble.x.float()
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bool(bad.all()):
        raise NonFinite(f"none of {len(x)} conformers has finite positions")
    rounded = Ensemble(
        x=torch.where(bad[:, None, None], start.float(), x),
        u=ensemble.u.masked_fill(bad, torch.inf),
        log_w=ensemble.log_w.masked_fill(bad, -torch.inf),
    )
    proposal, uncut = estimate.proposal, estimate.log_w_uncut
    count = {"nonfinite_positions": int(bad.sum())} if bool(bad.any()) else {}
    return replace(
        estimate,
        ensemble=rounded,
        proposal=replace(proposal, x=rounded.x) if len(proposal.x) == len(x) else proposal,
        diagnostics={**estimate.diagnostics, **count},
        log_w_uncut=None if uncut is None else uncut.masked_fill(bad, -torch.inf),
    )


def refuse_other_system(estimate: Estimate, bench: Bench) -> None:
    """Raise BrokenContract for samples of another system.

    Those are samples with another number of atoms, or samples in which every conformer has broken bonds by
    this system's topology, while some are whole by that of another system of the suite.
    """
    system, x = bench.system, estimate.ensemble.x
    if x.shape[1] != system.n_atoms:
        raise BrokenContract(f"the sampler gave {x.shape[1]} atoms, {system.name} has {system.n_atoms}")
    if not system.bonds or not bool(has_broken_bonds(system.bonds, system.positions, x).all()):
        return
    for name in bench.suite.systems:
        other = peptide(name, system.temperature, system.forcefield)
        alike = name != system.name and other.n_atoms == system.n_atoms
        if alike and not bool(has_broken_bonds(other.bonds, other.positions, x).all()):
            raise BrokenContract(f"the sampler gave conformers of {name}, {system.name} was asked for")


def refuse_false_energies(estimate: Estimate, bench: Bench) -> None:
    """Raise BrokenContract if most energies that came with the samples are not those of the samples."""
    fraction = fraction_of_false_energies(bench.energy, estimate.ensemble.x, estimate.ensemble.u)
    if fraction > 0.5:
        raise BrokenContract(f"{fraction:.0%} of the energies looked at are not those of their conformers")


def refuse_too_few_frames(estimate: Estimate, task: Task) -> None:
    """Raise ValueError if the sampler returned fewer frames than the protocol scores."""
    if estimate.ensemble.n_samples < task.n_samples:
        raise ValueError(
            f"the sampler returned {estimate.ensemble.n_samples} frames, the protocol scores {task.n_samples}"
        )
