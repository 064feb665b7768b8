"""The energy: each atom is held at its place in the start structure by a spring."""

import torch

import bgbench

WIDTH = 0.01
"""Standard deviation of every coordinate in the Boltzmann distribution, nm."""


class Springs(bgbench.AbstractEnergy):
    """u = Σ (x − start)² / 2 WIDTH², of any system."""

    def _energy(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * self._pull(x).square().sum((1, 2))

    def _energy_and_force(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._energy(x), -self._pull(x) / WIDTH

    def _pull(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.system.positions.to(x)) / WIDTH
