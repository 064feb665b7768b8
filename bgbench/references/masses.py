"""Heavier hydrogens, which allow a longer step; refused where nothing is left to take them from."""

import numpy as np

from bgbench.dynamics.langevin import with_hydrogen_mass
from bgbench.errors import BgbenchError

LIGHTEST = 1.0
"""Da that a heavy atom keeps at least: as heavy as a hydrogen, or it alone would limit the step."""


def repartitioned(masses: np.ndarray, bonds: np.ndarray, hydrogen_mass: float) -> np.ndarray:
    """Masses `(atoms,)` in Da with hydrogens of `hydrogen_mass`, taken from the atoms they are bonded to.

    Raises:
        BgbenchError: if one of those would be lighter than LIGHTEST.
    """
    made = with_hydrogen_mass(masses, bonds, hydrogen_mass)
    poorest = int(np.argmin(np.where(masses < 2.0, np.inf, made)))
    if made[poorest] < LIGHTEST:
        raise BgbenchError(
            f"hydrogens of {hydrogen_mass:g} Da leave an atom they are bonded to {made[poorest]:.3g} of its "
            f"{masses[poorest]:.3g} Da; ask for a hydrogen mass of 4 or less"
        )
    return made
