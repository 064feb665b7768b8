"""Amber14 + OBC for whole batches: OpenMM's own numbers, compiled for many conformers at once."""

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numba
import numpy as np
import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.options import refuse_unknown_word
from bgbench.core.types import System
from bgbench.core.units import kt
from bgbench.energies.compiled import energy_sweep, force_sweep, spread
from bgbench.energies.eager import EagerEngine
from bgbench.energies.openmm import openmm_system
from bgbench.energies.packed import pack
from bgbench.energies.parameters import read_parameters
from bgbench.energies.triton_engine import TritonEngine, try_triton

EngineName = Literal["auto", "compiled", "eager", "triton"]

REPAYS = 4096
"""Conformers from which compiling (about 10 s, once per machine) repays itself on a CPU."""


class BatchedEnergy(AbstractEnergy):
    """u(x) and −∂u/∂x of many conformers at once, with analytic forces and constant memory.

    Computes in float32 where x is float32, in float64 otherwise; results come back on the device of x.
    Checked against OpenMM's Reference platform: |Δu| ≤ 1e-4 kT in float64, 1e-2 kT in float32.

    Args:
        system: atoms in any order.
        engine: `compiled` (numba; on a CPU only, elsewhere eager), `triton` (kernels for float32 on CUDA;
            elsewhere eager), `eager` (torch, any device), or `auto`: compiled for CPU tensors once the
            conformers of all calls repay it, triton for float32 on CUDA where it is installed and works,
            eager else.

    Raises:
        BgbenchError: for another engine, `triton` where it is not installed, a system without an energy (see
            `openmm_system`), or a force that this energy does not know.
    """

    any_device = True

    def __init__(self, system: System, engine: EngineName = "auto") -> None:
        super().__init__(system)
        refuse_unknown_word("engine", engine, get_args(EngineName))
        self.parameters = read_parameters(openmm_system(system))
        self._kt = kt(system.temperature)
        self._engine = engine
        self._n_evaluations = 0
        self._n_by_engine: dict[str, int] = {}
        self._eager = EagerEngine(self.parameters)
        self._triton = TritonEngine(self.parameters) if engine == "triton" else None
        self._tried_triton = False
        self._without_triton = ""
        self._packed = {dtype: pack(self.parameters, dtype) for dtype in (np.float32, np.float64)}

    def describe(self) -> Mapping[str, Any]:
        used = {"backend": "batched", "engines": dict(self._n_by_engine), "numba": numba.__version__}
        if self._triton is not None:
            return {**used, "triton": self._triton.version}
        return {**used, "without_triton": self._without_triton} if self._without_triton else used

    def prepare(self, evaluations: int) -> None:
        """Compile for a CPU (or load what an earlier process compiled) if `evaluations` repay it."""
        if self._engine in ("eager", "triton") or (self._engine == "auto" and evaluations < REPAYS):
            return
        self._n_evaluations = max(self._n_evaluations, REPAYS)
        for dtype, packed in self._packed.items():
            x = np.ascontiguousarray(self.system.positions[None].cpu().numpy(), dtype=dtype)
            energy_sweep(x, np.empty(1), packed)
            force_sweep(x, np.empty(1), np.empty_like(x), packed)

    def _energy(self, x: Tensor) -> Tensor:
        x = _in_float(x)
        torch_engine = self._torch_engine(x)
        if torch_engine is not None:
            return torch_engine.energy(x) / self._kt
        frames, u = _numpy(x), np.empty(x.shape[0])
        packed = self._packed[frames.dtype.type]
        spread(lambda a, b: energy_sweep(frames[a:b], u[a:b], packed), len(u), torch.get_num_threads())
        return self._reduced(u)

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _in_float(x)
        torch_engine = self._torch_engine(x)
        if torch_engine is not None:
            energy, slope = torch_engine.energy_and_force(x)
            return energy / self._kt, slope / self._kt
        frames, u = _numpy(x), np.empty(x.shape[0])
        force = np.empty_like(frames)
        packed = self._packed[frames.dtype.type]

        def sweep(a: int, b: int) -> None:
            force_sweep(frames[a:b], u[a:b], force[a:b], packed)

        spread(sweep, len(u), torch.get_num_threads())
        return self._reduced(u), torch.from_numpy(force) / self._kt

    def _reduced(self, u: np.ndarray) -> Tensor:
        return torch.from_numpy((u + self.parameters.torsion_constant) / self._kt)

    def _torch_engine(self, x: Tensor) -> EagerEngine | TritonEngine | None:
        """The engine that answers, None for the compiled one; counts its conformers, for the record."""
        n = int(x.shape[0])
        self._n_evaluations += n
        repaid = self._engine == "compiled" or (self._engine == "auto" and self._n_evaluations >= REPAYS)
        name: str = "eager"
        engine: EagerEngine | TritonEngine | None = self._eager
        if repaid and x.device.type == "cpu" and n > 0:
            name, engine = "compiled", None
        elif n > 0 and self._runs_triton(x):
            name, engine = "triton", self._triton
        self._n_by_engine[name] = self._n_by_engine.get(name, 0) + n
        return engine

    def _runs_triton(self, x: Tensor) -> bool:
        """Whether the Triton engine computes x. Under `auto` it is made and tried at the first chance; the
        record says why the eager engine computed in its place."""
        if self._engine == "auto" and not self._tried_triton and x.is_cuda and x.dtype == torch.float32:
            self._tried_triton = True
            found = try_triton(self.parameters, x)
            if isinstance(found, str):
                self._without_triton = found
            else:
                self._triton = found
        return self._triton is not None and self._triton.computes(x)


def _in_float(x: Tensor) -> Tensor:
    """x in float32 or float64; half precision and integers become float64, for energies need the digits."""
    return x if x.dtype in (torch.float32, torch.float64) else x.double()


def _numpy(x: Tensor) -> np.ndarray:
    """Contiguous frames, infinite positions as NaN: the energy of both is not finite."""
    frames = x.detach().contiguous().numpy()
    return np.where(np.isfinite(frames), frames, math.nan).astype(frames.dtype, copy=False)
