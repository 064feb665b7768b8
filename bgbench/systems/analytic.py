"""Systems whose log Z and moments are known in closed form: to judge samplers and estimators by.

`analytic:harmonic` is one particle in an anisotropic well; `analytic:double-well` has a quartic axis;
`analytic:torus-mixture` lives on angles of a particle, through coordinates wrapped at ±π;
`analytic:correlated` is a normal density with correlated axes.
"""

import math
from abc import ABC, abstractmethod
from functools import cache

import torch
from torch import Tensor

from bgbench.core.abstract import AbstractEnergy
from bgbench.core.errors import BgbenchError
from bgbench.core.options import describe_known
from bgbench.core.types import Reference, System

N_REFERENCE = 10_000


class AbstractAnalytic(ABC):
    """A density over one particle's coordinates `(n, 3)` with known answers."""

    @abstractmethod
    def u(self, y: Tensor) -> Tensor:
        """Reduced energy `(n,)` of `y (n, 3)`."""

    @property
    @abstractmethod
    def log_z(self) -> float:
        """log ∫ exp(−u)."""

    @property
    @abstractmethod
    def second_moments(self) -> Tensor:
        """E[y²] `(3,)`."""

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact independent samples `(n, 3)`."""


class Harmonic(AbstractAnalytic):
    """u = Σ y²/(2 s²), s = 0.1, 0.2, 0.4."""

    scales = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)

    def u(self, y: Tensor) -> Tensor:
        return 0.5 * (y / self.scales.to(y)).square().sum(-1)

    @property
    def log_z(self) -> float:
        return 1.5 * math.log(2 * math.pi) + float(self.scales.log().sum())

    @property
    def second_moments(self) -> Tensor:
        return self.scales.square()

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.scales * torch.randn(n, 3, generator=generator, dtype=torch.float64)


class DoubleWell(AbstractAnalytic):
    """u = 8 (y₁² − 1)² + 0.5 y₁ in the first coordinate, harmonic (s = 0.3) in the others."""

    scale = 0.3

    def u(self, y: Tensor) -> Tensor:
        return self._first(y[..., 0]) + 0.5 * (y[..., 1:] / self.scale).square().sum(-1)

    @staticmethod
    def _first(y: Tensor) -> Tensor:
        return 8.0 * (y.square() - 1.0).square() + 0.5 * y

    def _moment(self, power: int) -> float:
        from scipy.integrate import quad

        def integrand(y: float) -> float:
            return float(y**power * math.exp(-8.0 * (y * y - 1.0) ** 2 - 0.5 * y))

        return float(quad(integrand, -3, 3, points=[-1, 0, 1], epsabs=1e-12)[0])

    @property
    def log_z(self) -> float:
        return math.log(self._moment(0)) + math.log(2 * math.pi * self.scale**2)

    @property
    def second_moments(self) -> Tensor:
        first = self._moment(2) / self._moment(0)
        return torch.tensor([first, self.scale**2, self.scale**2], dtype=torch.float64)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        grid = torch.linspace(-2.5, 2.5, 200_001, dtype=torch.float64)
        edges = torch.cumsum(torch.exp(-self._first(grid)), 0)
        at = torch.rand(n, generator=generator, dtype=torch.float64) * edges[-1]
        first = grid[torch.searchsorted(edges, at).clamp_max(len(grid) - 1)]
        rest = self.scale * torch.randn(n, 2, generator=generator, dtype=torch.float64)
        return torch.cat([first[:, None], rest], dim=1)


class TorusMixture(AbstractAnalytic):
    """Two product von Mises densities (κ = 4) on the first two angles, weights 0.7 and 0.3; third normal."""

    centres = torch.tensor([[-1.0, 2.5], [1.0, -0.5]], dtype=torch.float64)
    fractions = torch.tensor([0.7, 0.3], dtype=torch.float64)
    kappa, scale = 4.0, 0.5

    def u(self, y: Tensor) -> Tensor:
        gap = y[..., None, :2] - self.centres.to(y)
        component = self.kappa * torch.cos(gap).sum(-1) + self.fractions.log().to(y)
        inside = (y[..., :2].abs() <= math.pi).all(-1)
        u = -torch.logsumexp(component, -1) + 0.5 * (y[..., 2] / self.scale).square()
        return torch.where(inside, u, torch.inf)

    @property
    def log_z(self) -> float:
        bessel = float(torch.special.i0(torch.tensor(self.kappa, dtype=torch.float64)))
        return 2 * math.log(2 * math.pi * bessel) + 0.5 * math.log(2 * math.pi * self.scale**2)

    @property
    def second_moments(self) -> Tensor:
        grid = torch.linspace(-math.pi, math.pi, 4001, dtype=torch.float64)
        values = []
        for axis in range(2):
            parts = torch.exp(self.kappa * torch.cos(grid[:, None] - self.centres[:, axis]))
            density = (parts / parts.sum(0) * self.fractions).sum(1)
            values.append(float((density * grid.square()).sum()))
        return torch.tensor([*values, self.scale**2], dtype=torch.float64)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        which = (torch.rand(n, generator=generator, dtype=torch.float64) > self.fractions[0]).long()
        grid = torch.linspace(-math.pi, math.pi, 100_001, dtype=torch.float64)
        edges = torch.cumsum(torch.exp(self.kappa * torch.cos(grid)), 0)
        at = torch.rand(n, 2, generator=generator, dtype=torch.float64) * edges[-1]
        angles = self.centres[which] + grid[torch.searchsorted(edges, at).clamp_max(len(grid) - 1)]
        wrapped = torch.remainder(angles + math.pi, 2 * math.pi) - math.pi
        normal = self.scale * torch.randn(n, 1, generator=generator, dtype=torch.float64)
        return torch.cat([wrapped, normal], dim=1)


class Correlated(AbstractAnalytic):
    """u = ½ yᵀ Σ⁻¹ y with Σ = L Lᵀ: neighbouring axes are correlated."""

    factor = torch.tensor([[0.3, 0.0, 0.0], [0.24, 0.18, 0.0], [0.0, 0.24, 0.1]], dtype=torch.float64)

    def u(self, y: Tensor) -> Tensor:
        z = torch.linalg.solve_triangular(self.factor.to(y), y.mT, upper=False)
        return 0.5 * z.square().sum(0)

    @property
    def log_z(self) -> float:
        return 1.5 * math.log(2 * math.pi) + float(self.factor.diagonal().log().sum())

    @property
    def second_moments(self) -> Tensor:
        return self.factor.square().sum(1)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 3, generator=generator, dtype=torch.float64) @ self.factor.mT


KINDS: dict[str, type[AbstractAnalytic]] = {
    "analytic:harmonic": Harmonic,
    "analytic:double-well": DoubleWell,
    "analytic:torus-mixture": TorusMixture,
    "analytic:correlated": Correlated,
}


def analytic(name: str) -> AbstractAnalytic:
    """The density called `name`.

    Raises:
        BgbenchError: for an unknown name, listing the known ones.
    """
    if name not in KINDS:
        raise BgbenchError(f"unknown analytic system '{name}'{describe_known(name, KINDS)}")
    return KINDS[name]()


def analytic_system(name: str) -> System:
    """One particle at the origin, at the temperature at which u is u."""
    analytic(name)
    return System(name, torch.zeros(1, 3, dtype=torch.float64))


@cache
def analytic_reference(name: str) -> Reference:
    """Exact samples; drawn once a process, with a fixed seed."""
    density = analytic(name)
    y = density.draw(N_REFERENCE, torch.Generator().manual_seed(0))
    certificate = {"grade": "gold", "engine": "exact samples"}
    replica = torch.arange(N_REFERENCE) % 2
    return Reference(name, y[:, None], density.u(y), replica, certificate)


class AnalyticEnergy(AbstractEnergy):
    """Energy backend `analytic`."""

    any_device = True

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self._density = analytic(system.name)

    def _energy(self, x: Tensor) -> Tensor:
        return self._density.u(x[:, 0].double())

    def _energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = x.detach().double().requires_grad_()
            u = self._density.u(y[:, 0])
            (gradient,) = torch.autograd.grad(u.sum(), y)
        return u.detach(), -gradient.to(x)
