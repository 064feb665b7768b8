"""Whether frames can be of the temperature and force field they are said to be of, by what bonds tell.

Bonds are stiff and nearly harmonic: the mean of ½k(r − r₀)² is about ½ kT whatever the molecule does. It is
0.55 to 0.61 kT in the packaged references, 0.9 in frames of 500 K read as 310 K, and 0.3 where the bonds of
hydrogens were constrained.
"""

import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import System, TicaModel
from bgbench.core.units import kt
from bgbench.energies.openmm import openmm_system
from bgbench.energies.parameters import read_parameters
from bgbench.systems.broken import broken_fractions
from bgbench.systems.features import tica_features

FEWEST_FRAMES = 100
"""Distinct frames that a reference needs: of fewer no distribution is known."""

COLDEST, TYPICAL, HOTTEST = 0.45, 0.58, 0.75
"""kT of a bond: least, usual and most. FEWEST_FRAMES of the smallest peptide give the mean to ± 0.02."""

MOST_CIS = 0.05
"""Largest fraction of frames with a cis peptide bond before another residue than proline."""

MOST_SHIFT = 0.5
"""Largest median distance, in standard deviations, between means of features and those of a TICA model."""


def mean_bond_energy(system: System, x: Tensor) -> float:
    """Mean of ½k(r − r₀)² over the bonds of `x (n, atoms, 3)` nm, in kT of the system's temperature."""
    parameters = read_parameters(openmm_system(system))
    i, j = torch.from_numpy(parameters.bonds).T
    length, constant = torch.from_numpy(parameters.bond_values).T
    stretch = (x[:, i].double() - x[:, j].double()).norm(dim=-1) - length
    return float((0.5 * constant * stretch.square()).mean()) / kt(system.temperature)


def refuse_other_physics(system: System, x: Tensor) -> None:
    """Refuse frames that are no sample of `system` at its temperature.

    Raises:
        BgbenchError: for too few distinct frames, for bonds that are too hot or too stiff, and for cis bonds;
            the message does not name the file.
    """
    distinct = len(torch.unique(x.flatten(1), dim=0))
    if distinct < FEWEST_FRAMES:
        raise BgbenchError(
            f"{distinct} of its {len(x)} frames are distinct, a reference needs {FEWEST_FRAMES}; "
            "give the whole trajectory"
        )
    energy = mean_bond_energy(system, x)
    energies = f"bonds hold {energy:.2f} kT each on average instead of {TYPICAL:g}"
    if energy > HOTTEST:
        kelvin = system.temperature * energy / TYPICAL
        raise BgbenchError(
            f"{energies}, as at about {kelvin:.0f} K; frames of {system.temperature:g} K are needed, of this "
            "force field"
        )
    if energy < COLDEST:
        raise BgbenchError(
            f"{energies}, as where bonds are constrained or minimised; frames without constraints are needed"
        )
    cis = broken_fractions(system, x)["cis"]
    if cis > MOST_CIS:
        raise BgbenchError(f"{cis:.1%} of its frames have a cis peptide bond; start from trans bonds")


def refuse_other_tica(system: System, x: Tensor, tica: TicaModel) -> None:
    """Refuse a TICA model that is not of the features of these frames.

    Raises:
        BgbenchError: for a projection of zeros, and for means that are not those of the frames; the message
            does not name the file.
    """
    if not bool(tica.projection.any()):
        raise BgbenchError("its TICA model projects everything to zero; fetch a later revision")
    features = tica_features(system, x.double()).to(tica.mean)
    shift = float(((features.mean(0) - tica.mean).abs() / features.std(0).clamp_min(1e-6)).median())
    if shift > MOST_SHIFT:
        raise BgbenchError(
            f"the means of its TICA model are {shift:.1f} standard deviations from those of its frames: its "
            "features are in another order, or of other frames"
        )
