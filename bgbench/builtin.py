"""The core's own entries, registered through the hooks like anyone's."""

from collections.abc import Sequence

from bgbench.abstract import EnergyPlugin
from bgbench.energies.openmm import OpenMMEnergy
from bgbench.hookspecs import hookimpl


@hookimpl
def bgbench_energies() -> Sequence[EnergyPlugin]:
    return [EnergyPlugin("openmm", "OpenMM, one conformer at a time: the judge", OpenMMEnergy)]
