"""L-BFGS on a metered or plain energy: start structures, every evaluation paid for."""

import contextlib

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy, AbstractOracle


def minimise(energy: AbstractEnergy | AbstractOracle, start: Tensor, evaluations: int) -> Tensor:
    """The conformer of lowest energy that L-BFGS meets from a start structure.

    Args:
        energy: plain, or metered by an oracle.
        start: one conformer `(atoms, 3)` in nm.
        evaluations: energies with force to spend at most; with 0 the start comes back.

    Returns:
        A conformer `(atoms, 3)` in nm, float64, on the device of `start`.

    >>> import bgbench
    >>> system = bgbench.peptide("GG")
    >>> energy = bgbench.energy(system, backend="batched")
    >>> relaxed = minimise(energy, system.positions, 20)
    >>> bool(energy.energy(relaxed[None]) < energy.energy(system.positions[None]))
    True
    """
    from scipy.optimize import minimize

    search = _Search(energy, start, evaluations)
    if evaluations > 0:
        with contextlib.suppress(StopIteration):
            minimize(search.value, start.double().cpu().numpy().ravel(), jac=True, method="L-BFGS-B")
    return search.best


class _Search:
    """Counts evaluations and remembers the best conformer."""

    def __init__(self, energy: AbstractEnergy | AbstractOracle, start: Tensor, evaluations: int) -> None:
        self._energy, self._left, self._lowest = energy, evaluations, float("inf")
        self.best = start.double()

    def value(self, flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.as_tensor(flat, dtype=torch.float64, device=self.best.device).reshape(self.best.shape)
        u, force = self._energy.energy_and_force(x[None])
        if float(u[0]) < self._lowest:
            self.best, self._lowest = x.clone(), float(u[0])
        self._left -= 1
        if self._left <= 0:
            raise StopIteration
        return min(float(u[0]), 1e30), -force[0].double().cpu().numpy().ravel()
