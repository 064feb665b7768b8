"""One ladder of walkers of a system, for samplers that pay for it themselves: by temperature, or by solute
scaling."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import System
from bgbench.core.units import kt
from bgbench.dynamics.langevin import Integrator, Walkers, with_hydrogen_mass
from bgbench.dynamics.solute_scaling import EVALUATIONS_AROUND_MOVES, SoluteScaling
from bgbench.dynamics.tempering import Tempering
from bgbench.energies.batched import BatchedEnergy
from bgbench.energies.packed import pack

STEP = 0.002
"""ps, of `SoluteScaled`: hydrogens of HYDROGEN_MASS allow it."""

HYDROGEN_MASS = 3.0
"""Da."""


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
        temperatures: `(rungs,)` in K, the target's first.
        seed: of velocities, dynamics and exchanges, 0 or more. The same seed gives the same walk, whatever
            the number of threads.

    Raises:
        BgbenchError: if `start` is not one conformer of `system`, if there are no temperatures, or if the
            batched energy does not know the system.

    >>> import bgbench, numpy
    >>> system = bgbench.peptide("GG")
    >>> walk = bgbench.Tempered(system, system.positions, numpy.geomspace(310.0, 400.0, 2), seed=0)
    >>> x, u = walk.round(10)  # ten evaluations of each walker, and one for the exchange
    >>> tuple(x.shape), type(u)
    ((17, 3), <class 'float'>)
    """

    def __init__(self, system: System, start: Tensor, temperatures: np.ndarray, seed: int) -> None:
        _refuse_other_shape(system, start)
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


class SoluteScaled:
    """Replica exchange with solute scaling of one system from one structure, with torsion moves.

    Like REST2 (Wang, Friesner and Berne, J. Phys. Chem. B 115, 9431 (2011)): all walkers have the system's
    temperature, and each rung scales torsions, contacts and solvent by its own factor. A round moves every
    walker by Langevin dynamics (2 fs, hydrogens of 3 Da, friction 0.3/ps), tries torsion moves of every
    walker and one exchange between neighbouring rungs. It is what `bgbench data simulate --engine softened`
    makes references with, of one ladder. The energies are the batched Amber energies in float32, and no
    meter counts them: a sampler charges its oracle for `evaluations(steps)` before each round.

    Args:
        system: what is sampled; it needs a force field.
        start: one conformer `(atoms, 3)` in nm, of any device and dtype.
        scales: `(rungs,)` factors of the scaled terms, the target's 1 first.
        torsion_moves: tried by every walker in a round.
        seed: of velocities, dynamics, moves and exchanges, 0 or more. The same seed gives the same walk,
            whatever the number of threads.

    Raises:
        BgbenchError: if `start` is not one conformer of `system`, if `scales` do not begin with 1, or if the
            batched energy does not know the system.

    >>> import bgbench
    >>> system = bgbench.peptide("GG")
    >>> walk = bgbench.SoluteScaled(system, system.positions, [1.0, 0.75], torsion_moves=4, seed=0)
    >>> walk.evaluations(10)  # of two walkers: steps, moves, and what moves and exchanges need besides
    34
    >>> x, u = walk.round(10)
    >>> tuple(x.shape), type(u)
    ((17, 3), <class 'float'>)
    """

    def __init__(
        self, system: System, start: Tensor, scales: Sequence[float], torsion_moves: int, seed: int
    ) -> None:
        _refuse_other_shape(system, start)
        if not len(scales) or scales[0] != 1.0:
            raise BgbenchError(f"scales must begin with the target's 1, got {list(scales)}")
        p = BatchedEnergy(system).parameters
        masses = with_hydrogen_mass(p.masses, p.bonds, HYDROGEN_MASS)
        self._constant = p.torsion_constant
        self._integrator = Integrator(masses, STEP)
        self._device = start.device
        x = start[None].float().cpu().numpy().repeat(len(scales), axis=0)
        walkers = Walkers.start(x, np.full(len(scales), kt(system.temperature)), masses, seed)
        self._ladder = SoluteScaling.start(system, p, walkers, np.asarray(scales), torsion_moves, seed)

    def evaluations(self, steps: int) -> int:
        """Count the energy evaluations of a round.

        Args:
            steps: of every walker.

        Returns:
            Of all walkers, the steps, the torsion moves, one before and one after them, one for the exchange.
        """
        moves = self._ladder.moves_per_round if len(self._ladder.moves.axes) else 0
        return len(self._ladder.scales) * (steps + moves + EVALUATIONS_AROUND_MOVES)

    def round(self, steps: int) -> tuple[Tensor, float]:
        """Advance every walker by `steps` of 2 fs, try its torsion moves, then an exchange of neighbours.

        Args:
            steps: of every walker.

        Returns:
            Positions `(atoms, 3)` in nm of the walker of the unscaled energy, float32, on the device of the
            start structure, and their energy in kT.
        """
        u = self._ladder.round(self._integrator, steps, torch.get_num_threads())
        x = torch.from_numpy(self._ladder.target_positions[0].copy())
        return x.to(self._device), (float(u[0]) + self._constant) / float(self._ladder.walkers.kt[0])


def _refuse_other_shape(system: System, start: Tensor) -> None:
    """Raise BgbenchError unless `start` is one conformer."""
    if tuple(start.shape) != (system.n_atoms, 3):
        raise BgbenchError(
            f"the start must be one conformer of {system.name}, ({system.n_atoms}, 3), got "
            f"{tuple(start.shape)}"
        )
