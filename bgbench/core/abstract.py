"""The interfaces of samplers, energies and estimators, and the values that they are called with.

Interfaces are one level deep: a class derives from one of them, and wraps another object to change what that
does. What a sampler can do beyond its interface is said by the capabilities it derives from, `Invertible` and
`Tunable`: whoever needs one asks `isinstance(sampler, Tunable)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor

from bgbench.core.counting import evaluating
from bgbench.core.devices import CPU
from bgbench.core.errors import BgbenchError, BrokenContract, Unsupported, method_name
from bgbench.core.noise import normal_noise, uniform_noise
from bgbench.core.options import refuse_unknown_word, refuse_unknown_words
from bgbench.core.types import (
    Card,
    Draws,
    Ensemble,
    Proposal,
    Reference,
    System,
    Tuning,
    check_proposal,
    check_shape,
    describe_kind,
)

Measure = Literal["cartesian", "shape", "internal"]
"""What a density is over, see `AbstractDensitySampler`."""

CentreOfMass = Literal["gaussian", "chi", "none"]
"""How the centre of mass is divided out of a density, see `Conventions`."""

Handedness = Literal["zero", "fold", "flip"]
"""What becomes of mirror images, see `Conventions`."""

Precision = Literal["float64", "float32", "TF32", "bfloat16"]
"""In which numbers a sampler's matrix products are computed; TF32 is float32 where there is no GPU."""

Base = Literal["normal", "uniform"]
"""What the noise of an `Invertible` sampler is: standard normal numbers, or uniform ones on 0 to 1."""


class AbstractEnergy(ABC):
    """Reduced energy u(x) = U(x)/RT of one system, for many conformers at once.

    Write `_energy` and `_energy_and_force`. Others call `energy`, which is differentiable in x, and
    `energy_and_force`. Energies that are not finite become +inf with zero force. x may lie on any device: it
    arrives on the CPU and its energies are moved back, unless the class says that it computes where x lies
    (`any_device`).

    Args:
        system: the system whose energy it is.

    >>> import torch, bgbench
    >>> class Spring(bgbench.AbstractEnergy):
    ...     def _energy(self, x):
    ...         return 0.5 * x.square().sum((1, 2))
    ...     def _energy_and_force(self, x):
    ...         return self._energy(x), -x
    >>> spring = Spring(bgbench.System("one particle", torch.zeros(1, 3)))
    >>> x = torch.tensor([[[1.0, 0.0, 0.0]], [[float("inf"), 0.0, 0.0]]])
    >>> spring.energy(x)
    tensor([0.5000,    inf])
    """

    is_truth = False
    """Whether other energies are checked against this one."""

    is_target = True
    """Whether an evaluation while a sampler runs counts as one of the target. False in the class of a
    stand-in of the sampler's own, which is free."""

    any_device = False
    """Whether the energy is computed on the device of x; else on the CPU."""

    def __init__(self, system: System) -> None:
        self.system = system

    @abstractmethod
    def _energy(self, x: Tensor) -> Tensor:
        """`x (n, atoms, 3)` nm → `u (n,)` kT; may hold NaN or inf. x is on the CPU, see `any_device`."""

    @abstractmethod
    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`x (n, atoms, 3)` nm → `u (n,)` kT and `−∂u/∂x (n, atoms, 3)` kT/nm; x as in `_energy`."""

    def describe(self) -> Mapping[str, Any]:
        """What ran, for the record: backend, platform, precision, compiler.

        Returns:
            Entries for the record, which JSON can hold.
        """
        return {"backend": type(self).__name__}

    def prepare(self, evaluations: int) -> None:
        """Do what is done once, such as compiling, before about `evaluations` conformers are evaluated.

        Args:
            evaluations: conformers that will be evaluated, about.
        """
        del evaluations

    def energy(self, x: Any) -> Tensor:
        """Compute energies; differentiable in x.

        Args:
            x: conformers `(n, atoms, 3)` in nm. A tensor, or what `torch.as_tensor` makes one of.

        Returns:
            Energies `(n,)` in kT on the device of x; +inf where they are not finite.

        Raises:
            ValueError: if x has another shape.
            BrokenContract: if `_energy` returns anything but energies, or changes x in place.
        """
        x = self._checked(x)
        if x.requires_grad and torch.is_grad_enabled():
            return _Differentiable.apply(x, self)
        with self._counted(x):
            (u,) = self._called("_energy", x, (len(x),))
            return self._finite(u)

    def energy_and_force(self, x: Any) -> tuple[Tensor, Tensor]:
        """Compute energies and forces.

        Args:
            x: conformers `(n, atoms, 3)` in nm. A tensor, or what `torch.as_tensor` makes one of.

        Returns:
            Energies `(n,)` in kT and forces −∂u/∂x `(n, atoms, 3)` in kT/nm on the device of x; +inf and 0
            where either is not finite.

        Raises:
            ValueError: if x has another shape.
            BrokenContract: if `_energy_and_force` returns anything else, or changes x in place.
        """
        x = self._checked(x)
        with self._counted(x):
            u, force = self._called("_energy_and_force", x, (len(x),), tuple(x.shape))
        bad = ~torch.isfinite(u) | ~torch.isfinite(force).all(-1).all(-1)
        return self._finite(u), force.masked_fill(bad[:, None, None], 0.0)

    def _counted(self, x: Tensor) -> AbstractContextManager[None]:
        return evaluating(int(x.shape[0])) if self.is_target else nullcontext()

    def _called(self, method: str, x: Tensor, *shapes: tuple[int, ...]) -> list[Tensor]:
        """What `method` returns for x, as tensors of these shapes on the device of x.

        Raises:
            BrokenContract: if it returns anything else, or changes x in place.
        """
        crossing, name = self._crossing(x), method_name(self, method)
        before = _version(crossing)
        returned: object = getattr(self, method)(crossing)
        values = (returned,) if len(shapes) == 1 else returned
        if not isinstance(values, tuple) or len(values) != len(shapes):
            raise BrokenContract(f"{name} returned {describe_kind(returned)}; return a tuple (u, force)")
        for value, shape in zip(values, shapes, strict=True):
            wanted = f"return a tensor {shape} of float32 or float64"
            if not isinstance(value, Tensor) or value.dtype not in (torch.float32, torch.float64):
                raise BrokenContract(f"{name} returned {describe_kind(value)}; {wanted}")
            if tuple(value.shape) != shape:
                raise BrokenContract(f"{name} returned shape {tuple(value.shape)}; {wanted}")
        if _version(crossing) != before:
            raise BrokenContract(f"{name} changed x in place; change a copy (x.clone())")
        return [value.to(x.device) for value in values]

    def _checked(self, x: Any) -> Tensor:
        x = torch.as_tensor(x)
        check_shape("x", x, (None, self.system.n_atoms, 3))
        return x

    def _crossing(self, x: Tensor) -> Tensor:
        """x without gradients, where the energy is computed."""
        return x.detach() if self.any_device else x.detach().cpu()

    @staticmethod
    def _finite(u: Tensor) -> Tensor:
        return u.masked_fill(~torch.isfinite(u), torch.inf)


def _version(x: Tensor) -> int:
    """How often x, or what shares its memory, has been changed in place."""
    return 0 if x.is_inference() else x._version


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
    """A sampler's only way to the target energy: every conformer is charged, and the budget is a hard stop.

    bgbench implements it; samplers get one as `task.oracle`.

    >>> from bgbench.testing import peptide_task
    >>> oracle = peptide_task("GG", budget=10).oracle
    >>> u = oracle.energy(peptide_task("GG").system.positions.expand(4, -1, -1))
    >>> u.shape, oracle.remaining
    (torch.Size([4]), 6)
    """

    @property
    @abstractmethod
    def remaining(self) -> int:
        """Evaluations left; one is one conformer."""

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        """Compute energies; n evaluations are charged.

        Args:
            x: conformers `(n, atoms, 3)` in nm.

        Returns:
            Energies `(n,)` in kT; differentiable in x.

        Raises:
            BudgetExhausted: if fewer are left; nothing is evaluated or charged then.
        """

    @abstractmethod
    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Compute energies and forces; n evaluations are charged.

        Args:
            x: conformers `(n, atoms, 3)` in nm.

        Returns:
            Energies `(n,)` in kT and forces −∂u/∂x `(n, atoms, 3)` in kT/nm.

        Raises:
            BudgetExhausted: if fewer are left; nothing is evaluated or charged then.
        """

    @abstractmethod
    def charge(self, n: int) -> None:
        """Charge n evaluations of energy and force that an engine of the sampler's own makes (MD steps).

        Args:
            n: evaluations, one a conformer.

        Raises:
            BudgetExhausted: if fewer are left; nothing is charged then.
        """

    @abstractmethod
    def count(self, kind: str, n: int, seconds: float) -> None:
        """Enter n network calls in the ledger, free of charge.

        Args:
            kind: `drawn`, `log_density` or `gradient`.
            n: samples that the network drew or judged.
            seconds: wall time of the calls.

        Raises:
            ValueError: for another kind.
        """

    @abstractmethod
    def phase(self, name: str) -> AbstractContextManager[None]:
        """Book what is spent inside the context under `tune`, `sample` or `refine`.

        Args:
            name: `tune`, `sample` or `refine`.

        Returns:
            A context manager; phases may be nested, and the innermost counts.

        Raises:
            ValueError: for another name.
        """


def _ignore(_: int) -> None:
    return None


@dataclass(frozen=True)
class Conventions:
    """Conventions of a protocol about densities.

    Attributes:
        com: density of the centre of mass that is divided out of q, `gaussian` or `chi` (arXiv 2502.18462);
            or `none`, with which q is a density over all 3 · atoms coordinates, for audits.
        handedness: mirror images get weight `zero`; or they are turned over and weighted with
            q(x) + q(−x), `fold`; or turned over and weighted with q of what was drawn, `flip`, as published.

    Raises:
        BgbenchError: for another word.

    >>> import bgbench
    >>> bgbench.Conventions(com="gaussain")
    Traceback (most recent call last):
    bgbench.core.errors.BgbenchError: com must be one of gaussian, chi, none, got 'gaussain'; did you mean \
'gaussian'?
    """

    com: CentreOfMass = "gaussian"
    handedness: Handedness = "zero"

    def __post_init__(self) -> None:
        refuse_unknown_words(self)


@dataclass(frozen=True)
class Thinning:
    """How many conformers of an estimate are judged, and how those are chosen of more.

    Attributes:
        most: where there are more, that many are drawn by their weights.
        cut: which of the largest weights are cut before that, a rule of `cut_weights`.

    >>> Thinning(10_000).cut
    'none'
    """

    most: int
    cut: str = "none"


@dataclass(frozen=True)
class Task:
    """What a sampler is asked to do.

    Attributes:
        system: the system to sample.
        oracle: its energy, metered.
        generator: every random number comes from it.
        n_samples: how many conformers the protocol scores.
        conventions: how densities are counted.
        progress: `progress(k)` reports k more conformers, or evaluations, as done.
        device: where to compute. A sampler moves its weights there once. Whatever the core hands over lies on
            the CPU, and what comes back may lie anywhere: a sampler that ignores the device works, too.
        thinning: an estimator may return no more conformers than this says, with every draw's numbers beside
            (`Estimate.draws`), so that memory does not grow with the budget. If it returns more, the core
            thins them. None: all are judged.

    >>> from bgbench.testing import peptide_task
    >>> task = peptide_task("AA", budget=100, seed=7)
    >>> task.system.name, task.oracle.remaining, task.conventions.handedness, task.device
    ('AA', 100, 'zero', device(type='cpu'))
    """

    system: System
    oracle: AbstractOracle
    generator: torch.Generator
    n_samples: int
    conventions: Conventions = field(default_factory=Conventions)
    progress: Callable[[int], None] = _ignore
    device: torch.device = CPU
    thinning: Thinning | None = None

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw standard normal numbers: from the generator on the CPU, so that every device gets the same.

        Args:
            shape: of what is returned.
            dtype: float32 or float64.

        Returns:
            The numbers, on `device`.

        >>> from bgbench.testing import peptide_task
        >>> peptide_task("AA").normal(2, 3).shape
        torch.Size([2, 3])
        """
        return normal_noise(self.generator, shape, torch.empty(0, dtype=dtype, device=self.device))

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw uniform numbers on 0 to 1: from the generator on the CPU, so that every device gets the same.

        Args:
            shape: of what is returned.
            dtype: float32 or float64.

        Returns:
            The numbers, on `device`.

        >>> from bgbench.testing import peptide_task
        >>> peptide_task("AA").uniform(2, 3).shape
        torch.Size([2, 3])
        """
        return uniform_noise(self.generator, shape, torch.empty(0, dtype=dtype, device=self.device))


class AbstractSampler(ABC):
    """Draws conformers of any system that it supports.

    Write `sample`. Write `check_supports` if there are systems that the sampler cannot sample, and set `card`
    if it was trained. A sampler computes on `task.device`, with noise of the task's generator
    (`Task.normal`, `Task.uniform`); one that ignores the device works too, for a `Proposal` holds its tensors
    on the CPU.

    Attributes:
        precision: of matrix products, for the record.

    Raises:
        BgbenchError: where a class is defined with the method `supports` of older versions.

    >>> import bgbench
    >>> class Copies(bgbench.AbstractSampler):
    ...     '''The start structure, again and again.'''
    ...     card = bgbench.Card("copies", notes="for the documentation")
    ...     def check_supports(self, system):
    ...         if system.n_atoms < 2:
    ...             raise bgbench.Unsupported("one atom has no structure")
    ...     def sample(self, task, n_samples):
    ...         return bgbench.Proposal(task.system.positions.expand(n_samples, -1, -1))
    >>> from bgbench.testing import peptide_task
    >>> Copies().sample(peptide_task("AA"), 5).x.shape
    torch.Size([5, 23, 3])
    """

    precision: Precision = "float32"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if getattr(cls, "supports", None) is not None:
            raise BgbenchError(
                f"{cls.__name__} has a method supports, which nobody calls: rename it check_supports, let it "
                "raise bgbench.Unsupported with the reason, and return nothing for systems it can sample"
            )

    @abstractmethod
    def sample(self, task: Task, n_samples: int) -> Proposal:
        """Draw conformers of `task.system`.

        `task.system.positions` is a start structure from tables of bond lengths and angles, not a minimum of
        the energy: relax it if you need one (`bgbench.minimise`), at the task's expense.

        Args:
            task: what to sample, with the energy, the generator and the conventions to use.
            n_samples: how many conformers to draw.

        Returns:
            Exactly `n_samples` conformers, in nm, of any float dtype. A cell fails with fewer than
            `task.n_samples`: what the protocol scores, or what `prepare` left of the budget if that is less;
            tuning in `sample` is charged, but that number stays. Frames of a walk come in the order of time,
            and those of several walkers of one time before those of the next. `u` is for energies that the
            sampler had to compute anyway, as walks do: they are not charged again by the estimator `none`,
            and `mcmc` needs them.
        """

    def prepare(self, task: Task) -> "AbstractSampler":
        """Return the sampler to use for `task.system`; itself, unless this method is overridden.

        It is called once a cell, before the estimator, so that a sampler can be fitted to the energy of one
        system. What it asks of `task.oracle` is charged to the budget, in the ledger under `tune`. The
        estimator spends what is left: if that is less than the protocol scores, so many conformers are
        scored. The sampler itself stays as it is.

        Args:
            task: the system, with the energy and the generator to use.

        Returns:
            A sampler of the same kind, such as a copy with other parameters. The audit of its density draws
            from it, of the first two atoms of the system too.

        >>> from dataclasses import dataclass, replace
        >>> import torch, bgbench
        >>> @dataclass(frozen=True)
        ... class Cloud(bgbench.AbstractDensitySampler):
        ...     '''Normal around the start structure, as wide as the energy of ten tries likes best.'''
        ...     width: float = 0.01
        ...     def prepare(self, task):
        ...         clouds = [replace(self, width=0.001 * k) for k in range(1, 11)]
        ...         tries = torch.cat([cloud.draw(task, 1).x for cloud in clouds])
        ...         log_q = torch.cat([c.log_prob(task, x[None]) for c, x in zip(clouds, tries, strict=True)])
        ...         return clouds[int((task.oracle.energy(tries) + log_q).argmin())]
        ...     def draw(self, task, n_samples):
        ...         shape = (n_samples, task.system.n_atoms, 3)
        ...         x = task.system.positions + self.width * torch.randn(shape, generator=task.generator)
        ...         return bgbench.Proposal(x, self.log_prob(task, x))
        ...     def log_prob(self, task, x):
        ...         normal = torch.distributions.Normal(task.system.positions, self.width)
        ...         return normal.log_prob(x).sum((1, 2))
        >>> from bgbench.testing import peptide_task
        >>> task = peptide_task("GG", budget=100)
        >>> Cloud().prepare(task).width < 0.01, task.oracle.remaining
        (True, 90)
        """
        del task
        return self

    def check_supports(self, system: System) -> None:
        """Return if the sampler can sample the system; every system, unless this method is overridden.

        Args:
            system: the system that a run asks for.

        Raises:
            Unsupported: with the reason, if it cannot.
        """
        del system

    def remarks(self, system: System) -> Sequence[str]:
        """What a reader of the record should know of the samples; nothing, unless this method is overridden.

        Args:
            system: of the cell, which has been sampled.

        Returns:
            Sentences, for the record's `warnings`.
        """
        del system
        return ()

    @cached_property
    def card(self) -> Card:
        """What the sampler declares of itself; by default its class's name and no training.

        Set it as an attribute of the class or of the instance, or override it as a property. It is read from
        the sampler that was built, so it is known by then: whoever reads weights reads them once.
        """
        return Card(type(self).__name__)


class AbstractDensitySampler(AbstractSampler):
    """A sampler that knows its normalised density q over `(atoms, 3)`.

    Write `draw` and `log_prob`; `sample` and `stream` follow. `log_q` must be the same function in both.

    Attributes:
        chunk: conformers in one call of `draw` or `log_prob`.
        measure: what q is a density over. `cartesian`: all 3 · atoms coordinates. `shape`: these, with the
            centre of mass (the mean of the atoms) divided out as the task's conventions say. `internal`: as
            `shape`, and every orientation has the same density. With p(r, θ, φ) the density of distances r
            from atom 2 on, angles θ from atom 3 on and dihedrals φ from atom 4 on (nm, rad), that is
            log q = log p − Σ 2 log r − Σ log sin θ − log 8π²; of two atoms, log q = log p − 2 log r − log 4π.
            Nothing else is divided out, so that `gaussian` and `chi` are one; where the conventions say
            `none`, the log-density of the centres that are drawn is added.
        exact: False if log_q is only an estimate of that density. Records say so, and such runs share no
            table with exact ones.

    Raises:
        BgbenchError: where a class is defined with an unknown `measure`, or with the methods of a capability
            (`latent`, `finetuned`) that it does not derive from.

    >>> import math, torch, bgbench
    >>> class Cloud(bgbench.AbstractDensitySampler):
    ...     '''Every coordinate normal around the start structure, 0.01 nm wide.'''
    ...     def draw(self, task, n_samples):
    ...         shape = (n_samples, task.system.n_atoms, 3)
    ...         x = task.system.positions + 0.01 * torch.randn(shape, generator=task.generator)
    ...         return bgbench.Proposal(x, self.log_prob(task, x))
    ...     def log_prob(self, task, x):
    ...         z = (x - task.system.positions) / 0.01
    ...         return (-0.5 * z.square() - math.log(0.01 * math.sqrt(2 * math.pi))).sum((1, 2))
    >>> from bgbench.testing import peptide_task
    >>> proposal = Cloud().sample(peptide_task("GG"), 5)
    >>> proposal.x.shape, proposal.log_q.shape
    (torch.Size([5, 17, 3]), torch.Size([5]))
    """

    chunk: int = 2048
    measure: Measure = "cartesian"
    exact: bool = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_unknown_word(f"{cls.__name__}.measure", cls.measure, get_args(Measure))
        for method, capability in (("latent", Invertible), ("finetuned", Tunable)):
            if getattr(cls, method, None) is not None and not issubclass(cls, capability):
                raise BgbenchError(
                    f"{cls.__name__} has a method {method} that nobody would call: let the class derive from "
                    f"bgbench.{capability.__name__} too"
                )

    @abstractmethod
    def draw(self, task: Task, n_samples: int) -> Proposal:
        """Draw conformers with their densities, in one batch.

        Args:
            task: what to sample, with the generator and the conventions to use.
            n_samples: how many conformers to draw, at most `batch_size`.

        Returns:
            `n_samples` conformers `x (n, atoms, 3)` in nm with their `log_q (n,)`.
        """

    @abstractmethod
    def log_prob(self, task: Task, x: Tensor) -> Tensor:
        """Compute the log-density of conformers, differentiable in x.

        x arrives on the CPU; the result may be on another device.

        Args:
            task: with the system and the conventions.
            x: conformers `(n, atoms, 3)` in nm, on the CPU.

        Returns:
            `log_q (n,)`, of any device.
        """

    def batch_size(self, system: System) -> int:
        """Say how many conformers go into one call of `draw` or `log_prob`; fewer where memory is short.

        Args:
            system: the system to sample.

        Returns:
            `chunk`, unless this method is overridden.
        """
        del system
        return self.chunk

    def stream(self, task: Task, n_samples: int) -> Iterator[Proposal]:
        """Draw `n_samples` conformers in batches, so that memory does not grow with `n_samples`.

        Args:
            task: as for `draw`.
            n_samples: how many conformers to draw.

        Yields:
            Proposals of at most `batch_size` conformers, each with its `log_q`.
        """
        most = self.batch_size(task.system)
        for start in range(0, n_samples, most):
            n = min(most, n_samples - start)
            yield check_proposal(self.draw(task, n), method_name(self, "draw"), n)
            task.progress(n)

    def sample(self, task: Task, n_samples: int) -> Proposal:
        """Draw conformers in batches and join them.

        Args:
            task: as for `draw`.
            n_samples: how many conformers to draw.

        Returns:
            The conformers of `stream` in one proposal.

        Raises:
            BrokenContract: if `draw` returned no `log_q`.
        """
        parts = list(self.stream(task, n_samples))
        if not parts:
            return Proposal(torch.zeros(0, task.system.n_atoms, 3), torch.zeros(0))
        log_q = [part.log_q for part in parts if part.log_q is not None]
        if len(log_q) < len(parts):
            raise BrokenContract(f"{method_name(self, 'draw')} returned no log_q; return Proposal(x, log_q)")
        return Proposal(torch.cat([part.x for part in parts]), torch.cat(log_q))


class Invertible(ABC):
    """Capability of a density sampler that is a map of noise: its map and its noise can be audited.

    Attributes:
        base: what each number of the noise is, independently of the others: `normal` (standard) or `uniform`
            (on 0 to 1).

    Raises:
        BgbenchError: where a class is defined with another `base`.

    >>> import math, torch, bgbench
    >>> from bgbench.testing import peptide_task
    >>> class Scaled(bgbench.AbstractDensitySampler, bgbench.Invertible):
    ...     '''Normal around the origin, 0.1 nm wide.'''
    ...     def draw(self, task, n_samples):
    ...         x = 0.1 * torch.randn(n_samples, task.system.n_atoms, 3, generator=task.generator)
    ...         return bgbench.Proposal(x, self.log_prob(task, x))
    ...     def log_prob(self, task, x):
    ...         z, log_det = self.latent(task, x)
    ...         return -0.5 * (z.square() + math.log(2 * math.pi)).sum((1, 2)) + log_det
    ...     def latent(self, task, x):
    ...         return x / 0.1, torch.full((len(x),), -math.log(0.1) * x[0].numel())
    >>> from bgbench.evaluation.audit import audit
    >>> [check.name for check in audit(Scaled(), bgbench.peptide("GG")) if check.passed]
    ['round trip, gaussian', 'map', 'noise', 'moves', 'normalisation', 'Jacobian']
    """

    base: Base = "normal"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_unknown_word(f"{cls.__name__}.base", cls.base, get_args(Base))

    @abstractmethod
    def latent(self, task: Task, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map conformers to noise.

        Args:
            task: with the system and the conventions.
            x: `(n, atoms, 3)` nm, on the CPU.

        With the centre of mass left in (`com="none"`) log_q is log|det ∂z/∂x| + Σ log base(z), up to a
        constant.

        Returns:
            Noise z `(n, …)` of `base`, differentiable in x, and log|det ∂z/∂x| `(n,)`, of any device.
        """


class Tunable(ABC):
    """Capability of a density sampler that can learn from samples: `--estimator self-improve` needs it.

    >>> import torch, bgbench
    >>> class Width(bgbench.AbstractDensitySampler, bgbench.Tunable):
    ...     '''Normal around the start structure, as wide as what it learnt from.'''
    ...     def __init__(self, width):
    ...         self.width = width
    ...     def draw(self, task, n_samples):
    ...         shape = (n_samples, task.system.n_atoms, 3)
    ...         x = task.system.positions + self.width * torch.randn(shape, generator=task.generator)
    ...         return bgbench.Proposal(x, self.log_prob(task, x))
    ...     def log_prob(self, task, x):
    ...         normal = torch.distributions.Normal(task.system.positions, self.width)
    ...         return normal.log_prob(x).sum((1, 2))
    ...     def finetuned(self, task, x, tuning):
    ...         return Width(float((x - task.system.positions).std()))
    ...     def save(self, path, notes):
    ...         path.write_text(str(self.width))
    >>> from bgbench.testing import peptide_task
    >>> task, sampler = peptide_task("GG"), Width(0.1)
    >>> wider = sampler.finetuned(task, task.system.positions + 0.2 * torch.randn(9, 17, 3), bgbench.Tuning())
    >>> sampler.width < wider.width
    True
    """

    @abstractmethod
    def finetuned(self, task: Task, x: Tensor, tuning: Tuning) -> Self:
        """A copy that has learnt from samples; the sampler itself stays as it is and teaches the copy.

        Args:
            task: with the system, and the generator to use.
            x: equally weighted samples `(n, atoms, 3)` nm, on the CPU.
            tuning: how to learn.

        Returns:
            The copy.
        """

    @abstractmethod
    def save(self, path: Path, notes: Mapping[str, Any]) -> None:
        """Write weights for `--set weights=PATH`.

        Args:
            path: the file to write.
            notes: how they were tuned, for their card (`bgbench.data.tuned_card`).
        """


def refuse_unsupported(sampler: AbstractSampler, system: System) -> None:
    """Ask a sampler whether it can sample a system.

    Raises:
        Unsupported: with the system's name and the sampler's reason, if it cannot.
        BrokenContract: if `check_supports` returns a value, which would go unnoticed.
    """
    try:
        answer: object = sampler.check_supports(system)  # type: ignore[func-returns-value]
    except Unsupported as error:
        raise Unsupported(f"{system.name}: {error}") from error
    if answer is not None:
        raise BrokenContract(
            f"{method_name(sampler, 'check_supports')} returned {answer!r}; it must raise Unsupported with "
            "the reason, or return nothing"
        )


@dataclass(frozen=True)
class Estimate:
    """What an estimator returns: the weighted ensemble and what is known about it.

    Attributes:
        ensemble: weighted conformers.
        proposal: what the sampler drew.
        diagnostics: what the record keeps beside the metrics.
        group: `(n,)` numbers of groups. Points of one group may depend on each other, so errors are taken
            between groups; None: every point stands alone.
        log_w_uncut: `(n,)` weights before the estimator's cut; None: nothing was cut.
        draws: every draw, where the ensemble is a sample of them; None: it holds every point.

    >>> import torch, bgbench
    >>> x = torch.zeros(4, 17, 3)
    >>> estimate = bgbench.Estimate(bgbench.Ensemble.unweighted(x, torch.zeros(4)), bgbench.Proposal(x))
    >>> estimate.ensemble.weights.tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    ensemble: Ensemble
    proposal: Proposal
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    group: Tensor | None = None
    log_w_uncut: Tensor | None = None
    draws: Draws | None = None

    @property
    def log_w(self) -> Tensor:
        """The log-weights of every point `(n,)`, whether the ensemble holds its conformer or not."""
        return self.ensemble.log_w if self.draws is None else self.draws.log_w


class AbstractEstimator(ABC):
    """Turns a sampler and a budget into a weighted ensemble.

    >>> import bgbench
    >>> class Unweighted(bgbench.AbstractEstimator):
    ...     def estimate(self, sampler, task):
    ...         proposal = sampler.sample(task, task.n_samples)
    ...         u = task.oracle.energy(proposal.x)
    ...         return bgbench.Estimate(bgbench.Ensemble.unweighted(proposal.x, u), proposal)
    >>> from bgbench.testing import Wide, analytic_task
    >>> estimate = Unweighted().estimate(Wide([0.1, 0.1, 0.1]), analytic_task("analytic:harmonic", 10))
    >>> estimate.ensemble.n_samples
    10
    """

    def check_sampler(self, sampler: AbstractSampler) -> None:
        """Return if the estimator can work with this sampler; with every one, unless this is overridden.

        It is called when a run is planned, before anything is spent.

        Args:
            sampler: the sampler of the run.

        Raises:
            BgbenchError: with what the sampler lacks, such as a density.
        """
        del sampler

    @abstractmethod
    def estimate(self, sampler: AbstractSampler, task: Task) -> Estimate:
        """Spend at most `task.oracle.remaining` evaluations.

        Args:
            sampler: draws the conformers.
            task: the system, the metered energy and the generator to use.

        Returns:
            The weighted ensemble, the proposal it came from, and diagnostics.

        Raises:
            BgbenchError: if the sampler lacks what the estimator needs, such as a density.
            Unsupported: if the sampler lacks a capability that the estimator needs.
        """


@dataclass(frozen=True)
class MetricCase:
    """What a metric judges: an estimate beside the reference.

    Attributes:
        system: the system sampled.
        estimate: what the estimator returned.
        reference: reference conformers of the system.
        n_samples: how many points to compare on each side.
        generator: every random number comes from it.
        options: the protocol's options.

    >>> import torch, bgbench
    >>> system = bgbench.peptide("GG")
    >>> x = system.positions.expand(4, -1, -1)
    >>> estimate = bgbench.Estimate(bgbench.Ensemble.unweighted(x, torch.zeros(4)), bgbench.Proposal(x))
    >>> reference = bgbench.Reference("GG", x, torch.zeros(4), torch.arange(4), {"grade": "bronze"})
    >>> case = bgbench.MetricCase(system, estimate, reference, 4, torch.Generator().manual_seed(0))
    >>> def mean_energy(case):
    ...     ensemble = case.estimate.ensemble
    ...     gap = ensemble.weights @ ensemble.u.double() - case.reference.u.mean()
    ...     return {"mean_energy": float(gap.abs())}
    >>> mean_energy(case)
    {'mean_energy': 0.0}
    """

    system: System
    estimate: Estimate
    reference: Reference
    n_samples: int
    generator: torch.Generator
    options: Mapping[str, Any] = field(default_factory=dict)
