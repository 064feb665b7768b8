"""The meter: one per cell. Every conformer costs one evaluation; the limit is a hard stop."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy, AbstractOracle
from bgbench.core.errors import BgbenchError, BrokenContract, BudgetExhausted, method_name
from bgbench.core.types import check_shape, describe_kind

PHASES = ("tune", "sample", "refine")
NETWORK_CALLS = ("drawn", "log_density", "gradient")


class MeteredEnergy(AbstractOracle):
    """An energy behind a budget, with a ledger by phase and kind. Threads may share it.

    Attributes:
        limit: evaluations allowed.
        used: evaluations charged.
        n_nonfinite: conformers asked for through the meter whose energy was not finite.
        ledger: calls and seconds, by phase (`tune`, `sample`, `refine`) and kind of call.

    Raises:
        BgbenchError: if `limit` is not positive.
    """

    def __init__(self, energy: AbstractEnergy, limit: int) -> None:
        if limit < 1:
            raise BgbenchError(f"the budget must be at least 1 energy evaluation, got {limit}")
        self._inner = energy
        self.limit = limit
        self.used = 0
        self.n_nonfinite = 0
        self.ledger: dict[str, dict[str, dict[str, float]]] = {}
        self._phase = "sample"
        self._lock = threading.Lock()

    @property
    def remaining(self) -> int:
        return self.limit - self.used

    def energy(self, x: Tensor) -> Tensor:
        x = self._conformers(x)
        start = self._reserve(int(x.shape[0]))
        u = self._inner.energy(x)
        self._count_nonfinite(u)
        self._enter("energy", int(x.shape[0]), time.perf_counter() - start)
        return u

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self._conformers(x)
        start = self._reserve(int(x.shape[0]))
        u, force = self._inner.energy_and_force(x)
        self._count_nonfinite(u)
        self._enter("energy_and_force", int(x.shape[0]), time.perf_counter() - start)
        return u, force

    def charge(self, n: int) -> None:
        self._reserve(n)
        self._enter("energy_and_force", n, 0.0)

    def count(self, kind: str, n: int, seconds: float) -> None:
        if kind not in NETWORK_CALLS:
            raise ValueError(f"network calls are {', '.join(NETWORK_CALLS)}, not '{kind}'")
        self._enter(kind, n, seconds)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        if name not in PHASES:
            raise ValueError(f"phases are {', '.join(PHASES)}, not '{name}'")
        before, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = before

    def describe(self) -> dict[str, Any]:
        """The backend that ran.

        Raises:
            BrokenContract: if the energy describes itself by anything but a mapping.
        """
        description: object = self._inner.describe()
        if not isinstance(description, Mapping):
            raise BrokenContract(
                f"{method_name(self._inner, 'describe')} returned {describe_kind(description)}; return a "
                "mapping such as {'backend': 'mine'}"
            )
        return dict(description)

    def _conformers(self, x: Any) -> Tensor:
        """x as a tensor `(n, atoms, 3)`; another shape raises ValueError before anything is charged."""
        x = torch.as_tensor(x)
        shape, n_atoms = tuple(x.shape), self._inner.system.n_atoms
        if shape == (n_atoms, 3):
            raise ValueError(f"x has shape {shape}, expected (n, {n_atoms}, 3): one conformer is x[None]")
        check_shape("x", x, (None, n_atoms, 3))
        return x

    def _reserve(self, n: int) -> float:
        if n < 0:
            raise ValueError(f"cannot charge {n} evaluations")
        with self._lock:
            if n > self.remaining:
                raise BudgetExhausted(
                    f"{n} evaluations asked for, {self.remaining} left of a budget of {self.limit}"
                )
            self.used += n
        return time.perf_counter()

    def _count_nonfinite(self, u: Tensor) -> None:
        with self._lock:
            self.n_nonfinite += int((~torch.isfinite(u)).sum())

    def _enter(self, kind: str, n: int, seconds: float) -> None:
        with self._lock:
            row = self.ledger.setdefault(self._phase, {}).setdefault(kind, {"calls": 0, "seconds": 0.0})
            row["calls"] += n
            row["seconds"] += seconds
