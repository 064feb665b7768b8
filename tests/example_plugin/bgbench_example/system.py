"""The system: a water molecule. Its distribution under `Springs` is known, so that its reference is drawn."""

from functools import cache

import torch

import bgbench

from .energy import WIDTH, Springs

NAME = "example:water"

FRAMES = 400
"""In the reference."""


def build_water() -> bgbench.System:
    """Oxygen and two hydrogens at the distances and the angle of TIP3P."""
    positions = torch.tensor([[0.0, 0.0, 0.0], [0.0757, 0.0586, 0.0], [-0.0757, 0.0586, 0.0]])
    atoms = tuple(bgbench.Atom(0, "HOH", name, name[0]) for name in ("O", "H1", "H2"))
    return bgbench.System(NAME, positions.double(), atoms, bonds=((0, 1), (0, 2)))


@cache
def draw_reference() -> bgbench.Reference:
    """Independent exact samples, the same at every call."""
    water = build_water()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(FRAMES, *water.positions.shape, generator=generator, dtype=torch.float64)
    x = water.positions + WIDTH * noise
    certificate = {"grade": "gold", "engine": "exact samples"}
    return bgbench.Reference(NAME, x, Springs(water).energy(x), torch.arange(FRAMES) % 8, certificate)
