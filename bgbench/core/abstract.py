"""The interfaces a plugin implements. One level deep; wrap to change behaviour."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bgbench.core.errors import BgbenchError
from bgbench.core.types import Ensemble, Proposal, Reference, System, Tuning, check_shape


class AbstractEnergy(ABC):
    """Reduced energy u(x) = U(x)/RT of one system, for many conformers at once.

    Implementers give `_energy` and `_energy_and_force`; callers use `energy` (differentiable) and
    `energy_and_force`. Non-finite energies come back as +inf with zero force.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    @abstractmethod
    def _energy(self, x: Tensor) -> Tensor:
        """`x (n, atoms, 3)` nm → `u (n,)` kT; may hold NaN or inf."""

    @abstractmethod
    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`x (n, atoms, 3)` nm → `u (n,)` kT and `−∂u/∂x (n, atoms, 3)` kT/nm."""

    def describe(self) -> Mapping[str, Any]:
        """What ran, for the record (platform, precision, compiler)."""
        return {"backend": type(self).__name__}

    def prepare(self, evaluations: int) -> None:
        """Do what must be done once (compile, say) before about `evaluations` conformers are asked for."""
        del evaluations

    def energy(self, x: Any) -> Tensor:
        """Energies `(n,)` in kT of `x (n, atoms, 3)` in nm; differentiable in x."""
        x = self._checked(x)
        if x.requires_grad and torch.is_grad_enabled():
            return _Differentiable.apply(x, self)
        return self._finite(self._energy(x.detach()))

    def energy_and_force(self, x: Any) -> tuple[Tensor, Tensor]:
        """Energies `(n,)` in kT and forces `(n, atoms, 3)` in kT/nm of `x (n, atoms, 3)` in nm."""
        u, force = self._energy_and_force(self._checked(x).detach())
        bad = ~torch.isfinite(u) | ~torch.isfinite(force).all(-1).all(-1)
        return self._finite(u), force.masked_fill(bad[:, None, None], 0.0)

    def _checked(self, x: Any) -> Tensor:
        x = torch.as_tensor(x)
        check_shape("x", x, (None, self.system.n_atoms, 3))
        return x

    @staticmethod
    def _finite(u: Tensor) -> Tensor:
        return u.masked_fill(~torch.isfinite(u), torch.inf)


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, energy: AbstractEnergy) -> Tensor:
        u, force = energy.energy_and_force(x)
        ctx.save_for_backward(force)
        return u

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (force,) = ctx.saved_tensors
        return -force * grad[:, None, None].to(force), None


class AbstractOracle(ABC):
    """The only way to the target energy: metered, with a hard stop."""

    @property
    @abstractmethod
    def remaining(self) -> int:
        """Evaluations left; one is one conformer."""

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """`x (n, atoms, 3)` nm → `u (n,)` kT; charges n or raises BudgetExhausted."""

    @abstractmethod
    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`u (n,)` kT and force `(n, atoms, 3)` kT/nm; charges n or raises BudgetExhausted."""

    @abstractmethod
    def charge(self, n: int) -> None:
        """Charge n energy+force evaluations made by an engine of the sampler's own (MD steps)."""

    @abstractmethod
    def count(self, kind: str, n: int, seconds: float) -> None:
        """Enter network calls (`drawn`, `log_density`, `gradient`) in the ledger; free of charge."""

    @abstractmethod
    def phase(self, name: str) -> AbstractContextManager[None]:
        """Book what follows under `tune`, `sample` or `refine`."""


def _silent(_: int) -> None:
    return None


@dataclass(frozen=True)
class Conventions:
    """Choices a protocol makes about densities.

    `com`: density of the centre of mass divided out of q, `gaussian` or `chi` (arXiv 2502.18462), or
    `none`: q over all 3 · atoms coordinates, for audits.
    `handedness`: mirrored samples get weight `zero`, are `fold`ed with q(x)+q(−x), or `flip`ped with
    q of the unflipped one (the published rule).
    """

    com: str = "gaussian"
    handedness: str = "zero"


@dataclass(frozen=True)
class Task:
    """What a sampler is asked: a system, its metered energy, a generator, and how many frames count.

    `n_samples` is the number of conformers the protocol scores; `progress(k)` reports k more done.
    """

    system: System
    oracle: AbstractOracle
    generator: torch.Generator
    n_samples: int
    conventions: Conventions = field(default_factory=Conventions)
    progress: Callable[[int], None] = _silent


class AbstractSampler(ABC):
    """Draws conformers of any system of its domain."""

    @abstractmethod
    def sample(self, task: Task, n_samples: int) -> Proposal:
        """`n_samples` conformers (fewer only when the budget ends)."""

    def supports(self, system: System) -> str:
        """Empty where the system can be sampled, else the reason why not."""
        del system
        return ""


class AbstractDensitySampler(AbstractSampler):
    """A sampler that knows its normalised density q over `(atoms, 3)`.

    `log_q` must be the same function in `draw` and `log_prob`. `measure` says what it is a density over:
    `cartesian`, all 3 · atoms coordinates; `shape`, with the centre of mass divided out as the task's
    conventions say; `internal`, that and every orientation alike. `exact` is False where log_q is only an
    estimate of that density: records say so, and share no table with exact ones.
    """

    chunk: int = 2048
    measure: str = "cartesian"
    exact: bool = True

    @abstractmethod
    def draw(self, task: Task, n_samples: int) -> Proposal:
        """`x (n, atoms, 3)` nm with its `log_q (n,)`, in one batch."""

    @abstractmethod
    def log_prob(self, task: Task, x: Tensor) -> Tensor:
        """`log_q (n,)` of `x (n, atoms, 3)` nm, differentiable in x."""

    def latent(self, task: Task, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Noise z `(n, …)` of `x (n, atoms, 3)` nm and log|det ∂z/∂x| `(n,)`, differentiable in x.

        For the density audit; None for samplers that are no map of noise.
        """
        del task, x
        return None

    def finetuned(self, task: Task, x: Tensor, tuning: Tuning) -> "AbstractDensitySampler | None":
        """A copy that has learnt from equally weighted `x (n, atoms, 3)` nm; None: it cannot learn.

        The sampler itself stays as it is, and teaches the copy (`Tuning`).
        """
        del task, x, tuning
        return None

    def save(self, path: Path, notes: Mapping[str, Any]) -> None:
        """Write weights for `--set weights=PATH`, `notes` added to their card."""
        raise BgbenchError(f"{type(self).__name__} has no weights to write to {path} ({', '.join(notes)})")

    def batch_size(self, system: System) -> int:
        """Conformers of `system` in one call of `draw` or `log_prob`; fewer where each needs much memory."""
        del system
        return self.chunk

    def stream(self, task: Task, n_samples: int) -> Iterator[Proposal]:
        """`n_samples` conformers in batches: memory does not grow with `n_samples`."""
        most = self.batch_size(task.system)
        for start in range(0, n_samples, most):
            n = min(most, n_samples - start)
            yield self.draw(task, n)
            task.progress(n)

    def sample(self, task: Task, n_samples: int) -> Proposal:
        """The stream in one piece."""
        parts = list(self.stream(task, n_samples))
        if not parts:
            return Proposal(torch.zeros(0, task.system.n_atoms, 3), torch.zeros(0))
        log_q = [part.log_q for part in parts if part.log_q is not None]
        return Proposal(torch.cat([part.x for part in parts]), torch.cat(log_q))


@dataclass(frozen=True)
class Estimate:
    """An estimator's answer: the weighted ensemble, the proposal behind it, and its diagnostics.

    Points of one `group (n,)` may depend on each other: errors are taken between groups. `log_w_uncut (n,)`
    are the weights before an estimator's cut.
    """

    ensemble: Ensemble
    proposal: Proposal
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    group: Tensor | None = None
    log_w_uncut: Tensor | None = None


class AbstractEstimator(ABC):
    """Turns a sampler and a budget into a weighted ensemble."""

    @abstractmethod
    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        """Spend at most `task.oracle.remaining` evaluations.

        Raises:
            BgbenchError: if the sampler lacks what the estimator needs (a density, say).
        """


@dataclass(frozen=True)
class MetricCase:
    """One judgement: an ensemble and its proposal beside the reference, at `n_samples` each side."""

    system: System
    estimate: Estimate
    reference: Reference
    n_samples: int
    generator: torch.Generator
    options: Mapping[str, Any] = field(default_factory=dict)
