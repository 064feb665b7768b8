"""The mean energy with a control variate that costs no evaluation: the virial.

For p ∝ e^(−u) that vanishes at the border, E_p[x · ∂u/∂x] is the number of degrees of freedom, exactly
(equipartition). Where u is nearly harmonic its deviation is nearly proportional to that of u, and where the
weights are wrong its mean is not that number. The force comes with the energy in one evaluation.
"""

import math
from typing import Any

from torch import Tensor

from bgbench.estimators.weights import mean_and_error, sum_by_group


def virial(x: Tensor, force: Tensor, degrees: int) -> Tensor:
    """x · ∂u/∂x less its exact mean, `(n,)`, of `x (n, atoms, 3)` nm and `force (n, atoms, 3)` kT/nm.

    The forces on a free molecule sum to zero, so that its position does not matter.
    """
    return -(x.double() * force.double()).sum((1, 2)) - degrees


def mean_energy(
    u: Tensor, weights: Tensor, group: Tensor | None = None, control: Tensor | None = None
) -> dict[str, Any]:
    """Weighted mean energy with its standard error, without and with a control variate.

    Args:
        u: Energies `(n,)`, kT.
        weights: Normalised weights `(n,)`.
        group: `(n,)`; points of one group may depend on each other. Without it all points are independent.
        control: The control variate `(n,)`, of expected mean 0.

    Returns:
        For the record: `value` and `error`. With a control, and where the error is finite, also
        `controlled`, mean u − b · mean control with the b of least variance (`slope`), and `virial`, the mean
        of the control, whose `pull`, its ratio to its standard error, is of the order of 1 if the weights
        are right.
    """
    value, error = mean_and_error(u, weights, group)
    estimate: dict[str, Any] = {"value": value, "error": error}
    if control is None or error == math.inf:
        return estimate
    used = weights > 0
    w, u, control = weights[used].double(), u[used].double(), control[used].double()
    group = None if group is None else group[used]
    mean_control, control_error = mean_and_error(control, w, group)
    parts = [sum_by_group(w * (f - (w * f).sum()), group) for f in (u, control)]
    spread = float(parts[1].square().sum())
    slope = float((parts[0] * parts[1]).sum()) / spread if spread > 0 else 0.0
    better, better_error = mean_and_error(u - slope * control, w, group)
    return {
        **estimate,
        "controlled": {"value": better, "error": better_error, "slope": slope},
        "virial": {
            "value": mean_control,
            "error": control_error,
            "pull": mean_control / max(control_error, 1e-300),
        },
    }
