"""One ladder of walkers of a system, for samplers that pay for it themselves."""

import numpy as np
import torch
from torch import Tensor

from bgbench.core.types import System
from bgbench.dynamics.langevin import Integrator
from bgbench.dynamics.tempering import Tempering
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.compiled import pack


class Tempered:
    """Parallel tempering of one system from one structure `(atoms, 3)` nm at `temperatures` in K.

    Makes energy evaluations of its own: whoever uses it under a budget charges them first.
    """

    def __init__(self, system: System, start: Tensor, temperatures: np.ndarray, seed: int) -> None:
        parameters = BatchedEnergy(system).parameters
        self._packed = pack(parameters, np.float32)
        self._constant = parameters.torsion_constant
        self._integrator = Integrator(parameters.masses)
        self._tempering = Tempering.start(start[None].float().numpy(), temperatures, parameters.masses, seed)

    def round(self, steps: int) -> tuple[Tensor, float]:
        """`steps` of every walker and an exchange; the lowest rung's positions (nm) and energy (kT)."""
        u = self._tempering.round(self._integrator, steps, self._packed, torch.get_num_threads())
        kt = float(self._tempering.walkers.kt[0])
        return torch.from_numpy(self._tempering.cold[0].copy()), (float(u[0]) + self._constant) / kt
