"""The mean energy with a control variate that costs no evaluation: the virial.

For p ∝ e^(−u) that vanishes at the border, E_p[x · ∂u/∂x] is the number of degrees of freedom, exactly
(equipartition). Its deviation is nearly proportional to u's where u is nearly harmonic, and tells where
the weights are wrong. Forces come with an energy at the same charge.
"""

import math
from typing import Any

from torch import Tensor

from bgbench.estimators.weights import grouped, mean_and_error


def virial(x: Tensor, force: Tensor, degrees: int) -> Tensor:
    """x · ∂u/∂x less its exact mean, `(n,)`, of `x (n, atoms, 3)` nm and `force (n, atoms, 3)` kT/nm.

    Of a free molecule the forces sum to zero, and where it lies does not matter.
    """
    return -(x.double() * force.double()).sum((1, 2)) - degrees


def mean_energy(
    u: Tensor, weights: Tensor, group: Tensor | None = None, control: Tensor | None = None
) -> dict[str, Any]:
    """Mean of `u (n,)` kT with normalised `weights (n,)` and its error; with a `control (n,)` beside it,
    where the error can be told.

    `controlled` is mean u − b · mean control with the b of least variance; `pull` is the control's mean in
    standard errors of it, which must be of the order of 1.
    """
    value, error = mean_and_error(u, weights, group)
    told: dict[str, Any] = {"value": value, "error": error}
    if control is None or error == math.inf:
        return told
    used = weights > 0
    w, u, control = weights[used].double(), u[used].double(), control[used].double()
    group = None if group is None else group[used]
    mean_control, control_error = mean_and_error(control, w, group)
    parts = [grouped(w * (f - (w * f).sum()), group) for f in (u, control)]
    spread = float(parts[1].square().sum())
    slope = float((parts[0] * parts[1]).sum()) / spread if spread > 0 else 0.0
    better, better_error = mean_and_error(u - slope * control, w, group)
    return {
        **told,
        "controlled": {"value": better, "error": better_error, "slope": slope},
        "virial": {
            "value": mean_control,
            "error": control_error,
            "pull": mean_control / max(control_error, 1e-300),
        },
    }
