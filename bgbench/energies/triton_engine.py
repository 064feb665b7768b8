"""The Triton engine: energies and forces of CUDA tensors in float32, summed with compensation and in float64.

Triton is imported when the first engine is made, and its interpreter computes on the CPU where the
environment says `TRITON_INTERPRET=1` before that.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.energies.parameters import Parameters
from bgbench.energies.triton_tables import Tables, make_tables

BLOCK = 128
"""Conformers of a program, one a thread: neighbours in memory, so that warps read whole lines."""

WARP = 32

BYTES = 256e6
"""Memory the rows of a chunk may take."""


def has_triton() -> bool:
    """Whether the package is installed, which is not imported for that."""
    return find_spec("triton") is not None


class TritonEngine:
    """Energies in kJ/mol and forces in kJ/mol/nm of `x (n, atoms, 3)` nm in float32.

    Args:
        parameters: of the molecule.
        block: conformers of a program, a multiple of 32 on a GPU.

    Raises:
        BgbenchError: without the package triton.
    """

    def __init__(self, parameters: Parameters, block: int = BLOCK) -> None:
        if not has_triton():
            raise BgbenchError(
                "engine triton needs the package triton, which is not installed: install bgbench[gpu] "
                "(Linux), or choose engine auto"
            )
        self._bonded = import_module("bgbench.energies.triton_bonded")
        self._pairs = import_module("bgbench.energies.triton_pairs")
        triton = import_module("triton")
        self.version = str(triton.__version__)
        self.is_interpreted = not isinstance(self._pairs.pairs, triton.JITFunction)
        self.parameters = parameters
        self._block = block
        self._tables: dict[torch.device, Tables] = {}

    def computes(self, x: Tensor) -> bool:
        """Whether x is in float32 and where the kernels run."""
        return x.dtype == torch.float32 and (x.is_cuda or (self.is_interpreted and x.device.type == "cpu"))

    def energy(self, x: Tensor) -> Tensor:
        """`(n,)` float64; no force is computed."""
        parts = [self._launch(chunk, forces=False).energies(len(chunk)) for chunk in self._chunks(x)]
        return self._summed(parts, x)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(n,)` float64 and `(n, atoms, 3)` float32."""
        u, force = [], torch.empty_like(x, memory_format=torch.contiguous_format)
        for chunk, out in zip(self._chunks(x), self._chunks(force), strict=True):
            rows = self._launch(chunk, forces=True)
            u.append(rows.energies(len(chunk)))
            out.copy_(rows.force[..., : len(chunk)].permute(2, 0, 1))
        return self._summed(u, x), force

    def _chunks(self, x: Tensor) -> list[Tensor]:
        """Parts of x whose rows take BYTES at most: 40 bytes an atom, see `_Rows`."""
        fitting = int(BYTES / (40 * self.parameters.n_atoms))
        return list(x.split(max(1, fitting // self._block) * self._block)) if x.shape[0] else []

    def _summed(self, parts: list[Tensor], x: Tensor) -> Tensor:
        if not parts:
            return torch.zeros(0, dtype=torch.float64, device=x.device)
        return torch.cat(parts) + self.parameters.torsion_constant

    def _launch(self, x: Tensor, *, forces: bool) -> "_Rows":
        """The kernels in their order; on one stream each sees what the last one wrote."""
        with torch.cuda.device_of(x):
            rows = _Rows(x, self._block)
            tables = self._tables.get(x.device)
            if tables is None:
                tables = self._tables[x.device] = make_tables(self.parameters, x.device)
            self._run(rows, tables, forces)
            return rows

    def _run(self, rows: "_Rows", tables: Tables, forces: bool) -> None:
        p, n = self.parameters, self.parameters.n_atoms
        blocks = rows.width // self._block
        grid = (-(-n // self._pairs.ROWS.value), blocks)
        options: dict[str, Any] = {
            "BLOCK": self._block,
            "num_warps": max(1, self._block // WARP),
            "enable_fp_fusion": True,
        }
        terms = (tables.bonds, tables.exceptions, tables.angles, tables.torsions)
        self._bonded.bonded[n, blocks](
            rows.x,
            rows.energy,
            rows.force,
            *(table for kind in terms for table in (kind.spans, kind.atoms, kind.values)),
            rows.width,
            FORCES=forces,
            **options,
        )
        born = p.born
        cutoff2 = float("inf") if born is None else born.cutoff**2
        self._pairs.pairs[grid](
            rows.x,
            rows.energy,
            rows.force,
            rows.radius,
            rows.bend,
            tables.atoms,
            tables.pairs,
            n,
            rows.width,
            p.cutoff**2,
            p.reaction_k,
            p.reaction_c,
            cutoff2,
            *((0.0, 0.0, 0.0) if born is None else (float(t) for t in born.tanh)),
            FORCES=forces,
            BORN=born is not None,
            **options,
        )
        if born is None:
            return
        self._pairs.solvation[grid](
            rows.x,
            rows.energy,
            rows.force,
            rows.radius,
            rows.bend,
            tables.atoms,
            n,
            rows.width,
            cutoff2,
            born.pair_scale,
            born.shift,
            FORCES=forces,
            **options,
        )
        if forces:
            self._pairs.chain[grid](
                rows.x, rows.force, rows.bend, tables.atoms, n, rows.width, cutoff2, **options
            )


class _Rows:
    """What the kernels read and write of one chunk: rows over its conformers, filled up with the last one.

    `x` and `force (atoms, 3, width)`, `radius` and `bend (atoms, width)`, `energy (atoms, width)` in float64.
    """

    def __init__(self, x: Tensor, block: int) -> None:
        n, atoms, _ = x.shape
        self.width = -(-n // block) * block
        self.x = x.new_empty(atoms, 3, self.width)
        self.x[..., :n] = x.permute(1, 2, 0)
        self.x[..., n:] = x[-1, ..., None]
        self.force = torch.empty_like(self.x)
        self.radius, self.bend = x.new_empty(2, atoms, self.width)
        self.energy = x.new_empty(atoms, self.width, dtype=torch.float64)

    def energies(self, n: int) -> Tensor:
        """Sums over the atoms `(n,)`."""
        return self.energy[:, :n].sum(0)


def try_triton(parameters: Parameters, x: Tensor) -> TritonEngine | str:
    """An engine that has computed one conformer of `x (n, atoms, 3)`, or why there is none, in a line.

    Without a C compiler, or on a GPU that it does not know, Triton fails when it compiles.

    Raises:
        torch.OutOfMemoryError: if the GPU has no memory left.
    """
    try:
        engine = TritonEngine(parameters)
        engine.energy_and_force(x[:1])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return engine
