"""What an estimate must be before it is judged: finite, of this system, in budget, with true energies."""

from dataclasses import replace

import torch
from torch import Tensor

from bgbench.core.abstract import Estimate, Task
from bgbench.core.errors import BrokenContract, NonFinite
from bgbench.core.types import Ensemble
from bgbench.energies.spotcheck import false_energies
from bgbench.evaluation.bench import Bench
from bgbench.systems.bonds import torn
from bgbench.systems.peptides import peptide


def as_stored(estimate: Estimate, start: Tensor) -> Estimate:
    """Positions in the precision in which arrays are kept, so that a replay judges what was judged.

    Conformers without finite positions get no weight, u = +inf and the start structure, and are counted.

    Raises:
        NonFinite: if no conformer has finite positions.
    """
    ensemble = estimate.ensemble
    x = ensemble.x.float()
    bad = ~torch.isfinite(x).flatten(1).all(1)
    if bool(bad.all()):
        raise NonFinite(f"none of {len(x)} conformers has finite positions")
    mended = Ensemble(
        x=torch.where(bad[:, None, None], start.float(), x),
        u=ensemble.u.masked_fill(bad, torch.inf),
        log_w=ensemble.log_w.masked_fill(bad, -torch.inf),
    )
    uncut = estimate.log_w_uncut
    count = {"nonfinite_positions": int(bad.sum())} if bool(bad.any()) else {}
    proposal = (
        replace(estimate.proposal, x=mended.x) if len(estimate.proposal.x) == len(x) else estimate.proposal
    )
    return replace(
        estimate,
        ensemble=mended,
        proposal=proposal,
        diagnostics={**estimate.diagnostics, **count},
        log_w_uncut=None if uncut is None else uncut.masked_fill(bad, -torch.inf),
    )


def refuse_foreign(estimate: Estimate, bench: Bench) -> None:
    """Raise BrokenContract for samples of another system.

    Those are samples of other atoms, or with every conformer torn that are whole ones of a system of the
    suite with as many atoms.
    """
    system, x = bench.system, estimate.ensemble.x
    if x.shape[1] != system.n_atoms:
        raise BrokenContract(f"the sampler gave {x.shape[1]} atoms, {system.name} has {system.n_atoms}")
    if not system.bonds or not bool(torn(system.bonds, system.positions, x).all()):
        return
    for name in bench.suite.systems:
        other = peptide(name, system.temperature, system.forcefield)
        alike = name != system.name and other.n_atoms == system.n_atoms
        if alike and not bool(torn(other.bonds, other.positions, x).all()):
            raise BrokenContract(f"the sampler gave conformers of {name}, {system.name} was asked for")


def refuse_false(estimate: Estimate, bench: Bench) -> None:
    """Raise BrokenContract if the energies that came with the samples are not theirs."""
    share = false_energies(bench.energy, estimate.ensemble.x, estimate.ensemble.u)
    if share > 0.5:
        raise BrokenContract(f"{share:.0%} of the energies looked at are not those of their conformers")


def refuse_short(estimate: Estimate, task: Task) -> None:
    """Raise ValueError if the sampler returned fewer frames than the protocol scores."""
    if estimate.ensemble.n_samples < task.n_samples:
        raise ValueError(
            f"the sampler returned {estimate.ensemble.n_samples} frames, the protocol scores {task.n_samples}"
        )
