"""L-BFGS on a metered or plain energy: start structures, every evaluation paid for."""

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from bgbench.abstract import AbstractEnergy, AbstractOracle


def minimise(energy: AbstractEnergy | AbstractOracle, start: Tensor, evaluations: int) -> Tensor:
    """Relax one conformer `(atoms, 3)` nm with at most `evaluations` energy+force calls."""
    left = [evaluations]
    best = [start.double(), torch.inf]

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        left[0] -= 1
        x = torch.as_tensor(flat, dtype=torch.float64).reshape(start.shape)
        u, force = energy.energy_and_force(x[None])
        if float(u[0]) < best[1]:
            best[:] = [x, float(u[0])]
        if left[0] <= 0:
            raise StopIteration
        return min(float(u[0]), 1e30), -force[0].double().numpy().ravel()

    try:
        if evaluations > 0:
            minimize(value, start.double().numpy().ravel(), jac=True, method="L-BFGS-B")
    except StopIteration:
        pass
    return torch.as_tensor(best[0])
