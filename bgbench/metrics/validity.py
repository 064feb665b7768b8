"""Chemical sense of the samples before weighting: handedness, bonds, clashes, finite numbers."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bgbench.core.abstract import MetricCase
from bgbench.core.types import System
from bgbench.systems.bonds import torn
from bgbench.systems.chirality import is_mirrored, is_wrong

CONTACT = 0.08
"""Atoms that are not bonded and nearer than this (nm) clash."""


def clashing(system: System, x: Tensor) -> Tensor:
    """`(n,)` True where two atoms without a bond are nearer than CONTACT."""
    bonded = set(system.bonds)
    pairs = torch.triu_indices(system.n_atoms, system.n_atoms, 1)
    free = torch.tensor([(int(a), int(b)) not in bonded for a, b in pairs.T])
    i, j = pairs[:, free]
    chunks = [((c[:, i] - c[:, j]).square().sum(-1).min(1).values < CONTACT**2) for c in x.split(1024)]
    return torch.cat(chunks)


def validity(case: MetricCase) -> Mapping[str, float]:
    """Fraction of samples with correct hands, whole bonds, no clash and finite numbers; and each fault alone.

    `validity` is of the ensemble as it is judged. `validity_wrong_hand` and `validity_unrepairable` are of
    the samples as they were drawn: the rates an estimator reports from before its repair, where it does.
    """
    system, x, u = case.system, case.estimate.ensemble.x, case.estimate.ensemble.u
    if not system.atoms:
        return {}
    flags = {
        "wrong_hand": is_wrong(system, x),
        "torn": torn(system.bonds, system.positions, x),
        "clash": clashing(system, x),
        "nonfinite": ~torch.isfinite(u) | ~torch.isfinite(x).flatten(1).all(1),
    }
    bad = torch.stack(list(flags.values())).any(0)
    flags["unrepairable"] = flags["wrong_hand"] & ~is_mirrored(system, x)
    shares = {name: float(flag.double().mean()) for name, flag in flags.items()}
    before = case.estimate.diagnostics.get("handedness", {})
    shares |= {name: float(before[name]) for name in ("wrong_hand", "unrepairable") if name in before}
    named = {f"validity_{name}": share for name, share in shares.items()}
    return {"validity": 1.0 - float(bad.double().mean()), **named}
