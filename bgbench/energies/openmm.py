"""The truth: OpenMM's own energy, one conformer at a time behind a batched interface."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.errors import BgbenchError
from bgbench.core.types import ForceFieldSpec, System
from bgbench.core.units import kt
from bgbench.systems.peptides import build_peptide, force_field


def openmm_topology(system: System) -> Any:
    """The OpenMM topology of a peptide, atoms in the system's order."""
    import openmm.app as app

    return app.PDBFile(io.StringIO(build_peptide(system.sequence, _spec(system).files).pdb)).topology


def openmm_system(system: System) -> Any:
    """The `openmm.System` of a peptide under its force-field spec."""
    import openmm.app as app
    import openmm.unit as unit

    spec = _spec(system)
    return force_field(spec.files).createSystem(
        openmm_topology(system),
        nonbondedMethod=getattr(app, spec.nonbonded_method),
        nonbondedCutoff=spec.cutoff * unit.nanometer,
        constraints=getattr(app, spec.constraints) if spec.constraints else None,
    )


def _spec(system: System) -> ForceFieldSpec:
    if system.forcefield is None:
        raise BgbenchError(f"{system.name} has no force field: use the 'analytic' energy for it")
    return system.forcefield


class OpenMMEnergy(AbstractEnergy):
    """u(x) from OpenMM on `platform` (`CPU` or `Reference`) with `threads` threads (0: its default)."""

    def __init__(self, system: System, platform: str = "CPU", threads: int = 0) -> None:
        import openmm

        super().__init__(system)
        self._platform = platform
        chosen = openmm.Platform.getPlatformByName(platform)
        properties = {"Threads": str(threads)} if threads and platform == "CPU" else {}
        self._context = openmm.Context(
            openmm_system(system), openmm.VerletIntegrator(0.001), chosen, properties
        )
        self._kt = kt(system.temperature)

    def describe(self) -> Mapping[str, Any]:
        import openmm

        return {"backend": "openmm", "platform": self._platform, "version": openmm.__version__}

    def _energy(self, x: Tensor) -> Tensor:
        values = [self._state(frame, forces=False)[0] for frame in _frames(x)]
        return torch.tensor(values, dtype=torch.float64, device=x.device)

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        states = [self._state(frame, forces=True) for frame in _frames(x)]
        u = torch.tensor([u for u, _ in states], dtype=torch.float64, device=x.device)
        force = np.array([force for _, force in states]).reshape(len(states), self.system.n_atoms, 3)
        return u, torch.as_tensor(force, device=x.device)

    def _state(self, frame: np.ndarray, *, forces: bool) -> tuple[float, np.ndarray | None]:
        import openmm
        import openmm.unit as unit

        if not np.isfinite(frame).all():
            return np.nan, np.full_like(frame, np.nan)
        self._context.setPositions(frame)
        try:
            state = self._context.getState(getEnergy=True, getForces=forces)
        except openmm.OpenMMException:
            return np.nan, np.full_like(frame, np.nan)
        u = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) / self._kt
        return u, state.getForces(asNumpy=True)._value / self._kt if forces else None


def _frames(x: Tensor) -> np.ndarray:
    return x.detach().to("cpu", torch.float64).numpy()
