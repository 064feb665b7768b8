"""Chemical sense of the samples before weighting: chirality, bonds, clashes, finite numbers."""

from collections.abc import Mapping

import torch

from bgbench.core.abstract import MetricCase
from bgbench.systems.faults import find_faults, has_fault

FAULTS = ("wrong_hand", "torn", "clash", "nonfinite", "unrepairable")
"""In the order of the record."""


def validity(case: MetricCase) -> Mapping[str, float]:
    """Fraction of samples with the right chirality, no broken bond, no clash and finite numbers.

    Returns:
        `validity`, of every point of the estimate, and the fraction with each fault as `validity_FAULT`:
        `wrong_hand` (wrong chirality), `torn` (broken bonds), `clash`, `nonfinite`, and `unrepairable` (a
        wrong chirality that the mirror image does not put right). Where an estimator reports rates of wrong
        chirality from before its repair, those are returned. {} for systems without atoms.
    """
    system, estimate = case.system, case.estimate
    if not system.atoms:
        return {}
    draws = estimate.draws
    if draws is not None and draws.faults is not None:
        faults = draws.faults
    else:
        faults = find_faults(system, estimate.ensemble.x, estimate.ensemble.u)
    flags = {name: has_fault(faults, name) for name in FAULTS}
    bad = torch.stack(list(flags.values())).any(0)
    fractions: dict[str, float] = {name: float(flag.double().mean()) for name, flag in flags.items()}
    before = case.estimate.diagnostics.get("handedness", {})
    rates = {name: before.get(name) for name in ("wrong_hand", "unrepairable")}
    fractions |= {name: float(rate) for name, rate in rates.items() if rate is not None}
    companions = {f"validity_{name}": fraction for name, fraction in fractions.items()}
    return {"validity": 1.0 - float(bad.double().mean()), **companions}
