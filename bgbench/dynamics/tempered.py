"""One ladder of walkers of a system, for samplers that pay for it themselves."""

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import System
from bgbench.dynamics.langevin import Integrator
from bgbench.dynamics.tempering import Tempering
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.compiled import pack


class Tempered:
    """Parallel tempering of one system from one structure.

    Each temperature has one walker, which follows Langevin dynamics (LangevinMiddle of Zhang et al., J. Phys.
    Chem. A 123, 6056 (2019); 1 fs, friction 0.3/ps). Walkers at neighbouring temperatures exchange conformers
    by Metropolis (Sugita and Okamoto, Chem. Phys. Lett. 314, 141 (1999)). The energies are the batched Amber
    energies in float32, and no meter counts them: a sampler charges its oracle for them beforehand,
    `len(temperatures) * (steps + 1)` a round.

    Args:
        system: what is sampled; it needs a force field.
        start: one conformer `(atoms, 3)` in nm, of any device and dtype.
        temperatures: `(rungs,)` in K, the target's first; `bgbench.ladder` makes them.
        seed: of velocities, dynamics and exchanges, 0 or more. The same seed gives the same walk, whatever
            the number of threads.

    Raises:
        BgbenchError: if `start` is not one conformer of `system`, if there are no temperatures, or if the
            batched energy does not know the system.

    >>> import bgbench
    >>> system = bgbench.peptide("GG")
    >>> walk = bgbench.Tempered(system, system.positions, bgbench.ladder(310.0, 400.0, 2), seed=0)
    >>> x, u = walk.round(10)  # ten evaluations of each walker, and one for the exchange
    >>> tuple(x.shape), type(u)
    ((17, 3), <class 'float'>)
    """

    def __init__(self, system: System, start: Tensor, temperatures: np.ndarray, seed: int) -> None:
        if tuple(start.shape) != (system.n_atoms, 3):
            raise BgbenchError(
                f"the start must be one conformer of {system.name}, ({system.n_atoms}, 3), got "
                f"{tuple(start.shape)}"
            )
        if np.ndim(temperatures) != 1 or not len(temperatures):
            raise BgbenchError(f"temperatures must be (rungs,), got shape {np.shape(temperatures)}")
        parameters = BatchedEnergy(system).parameters
        self._packed = pack(parameters, np.float32)
        self._constant = parameters.torsion_constant
        self._integrator = Integrator(parameters.masses)
        self._device = start.device
        structure = start[None].float().cpu().numpy()
        self._tempering = Tempering.start(structure, temperatures, parameters.masses, seed)

    def round(self, steps: int) -> tuple[Tensor, float]:
        """Advance every walker by `steps` of 1 fs, then try an exchange between neighbours.

        Args:
            steps: of every walker, each one energy and force; the exchange costs one energy more.

        Returns:
            Positions `(atoms, 3)` in nm of the walker at the first temperature, float32, on the device of the
            start structure, and their energy in kT of that temperature.
        """
        u = self._tempering.round(self._integrator, steps, self._packed, torch.get_num_threads())
        kt = float(self._tempering.walkers.kt[0])
        x = torch.from_numpy(self._tempering.target_positions[0].copy())
        return x.to(self._device), (float(u[0]) + self._constant) / kt
