"""Chemical sense of the samples before weighting: chirality, bonds, clashes, finite numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bgbench.core.abstract import MetricCase
from bgbench.core.types import System
from bgbench.systems.bonds import has_broken_bonds
from bgbench.systems.chirality import is_mirrored, is_wrong

CONTACT = 0.08
"""Distance (nm) below which two atoms that are not bonded clash."""


def clashing(system: System, x: Tensor) -> Tensor:
    """`(n,)` True where two atoms without a bond are nearer than CONTACT."""
    bonded = set(system.bonds)
    pairs = torch.triu_indices(system.n_atoms, system.n_atoms, 1)
    free = torch.tensor([(int(a), int(b)) not in bonded for a, b in pairs.T])
    i, j = pairs[:, free]
    chunks = [((c[:, i] - c[:, j]).square().sum(-1).min(1).values < CONTACT**2) for c in x.split(1024)]
    return torch.cat(chunks)


def validity(case: MetricCase) -> Mapping[str, float]:
    """Fraction of samples with the right chirality, no broken bond, no clash and finite numbers.

    Returns:
        `validity`, of the ensemble as it is judged, and the fraction with each fault as `validity_FAULT`:
        `wrong_hand` (wrong chirality), `torn` (broken bonds), `clash`, `nonfinite`, and `unrepairable` (a
        wrong chirality that the mirror image does not put right). Where an estimator reports rates of wrong
        chirality from before its repair, those are returned. {} for systems without atoms.
    """
    system, x, u = case.system, case.estimate.ensemble.x, case.estimate.ensemble.u
    if not system.atoms:
        return {}
    flags = {
        "wrong_hand": is_wrong(system, x),
        "torn": has_broken_bonds(system.bonds, system.positions, x),
        "clash": clashing(system, x),
        "nonfinite": ~torch.isfinite(u) | ~torch.isfinite(x).flatten(1).all(1),
    }
    bad = torch.stack(list(flags.values())).any(0)
    flags["unrepairable"] = flags["wrong_hand"] & ~is_mirrored(system, x)
    fractions = {name: float(flag.double().mean()) for name, flag in flags.items()}
    before = case.estimate.diagnostics.get("handedness", {})
    rates = {name: before.get(name) for name in ("wrong_hand", "unrepairable")}
    fractions |= {name: float(rate) for name, rate in rates.items() if rate is not None}
    faults = {f"validity_{name}": fraction for name, fraction in fractions.items()}
    return {"validity": 1.0 - float(bad.double().mean()), **faults}
