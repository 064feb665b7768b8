"""Exact log-likelihood of TBG against one pass backward a coordinate, at equal solver settings.

Weights are random: time does not depend on them, and the steps of the solver are fixed.
"""

import time

import pytest
import torch

from bgbench import System
from bgbench_tbg.divergence import velocity_and_divergence
from bgbench_tbg.flow import Solver, exact, flown
from bgbench_tbg.network import Config, Field, molecules

STEPS = 2
"""Steps of the Runge–Kutta rule, 4 evaluations each; 15 points of the integral."""


def plain(field, m):
    """∇·v by one pass backward a coordinate."""

    def divergence(x: torch.Tensor, t: float) -> torch.Tensor:
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            v = field(x, x.new_tensor(t), m)
            total = torch.zeros(len(x))
            for i in range(x.shape[1]):
                for k in range(3):
                    (row,) = torch.autograd.grad(v[:, i, k].sum(), x, retain_graph=True)
                    total += row[:, i, k]
        return total

    return divergence


def timed(call):
    """CPU seconds and result of one call: other processes of the machine count less than in wall time."""
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


@pytest.mark.parametrize(
    ("sequence", "channels", "n_layers", "batch"),
    [("AA", 32, 3, 4), ("WS", 32, 3, 4), ("AA", 64, 5, 2), ("WS", 64, 5, 2), ("AA", 128, 9, 1)],
)
def test_exact_log_likelihood_against_one_pass_a_coordinate(sequence, channels, n_layers, batch):
    system = System.from_sequence(sequence)
    field = Field(Config(channels, n_layers)).requires_grad_(False)
    m = molecules([system.atoms], field.config)
    z = torch.randn(batch, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    z = z - z.mean(1, keepdim=True)
    velocity_and_divergence(field, z, torch.tensor(0.5), m)
    solver = Solver(steps=STEPS)
    ours, (x, grown) = timed(lambda: flown(field, z, m, solver, exact(field, m)))
    theirs, (same, expected) = timed(lambda: flown(field, z, m, solver, plain(field, m)))
    assert torch.equal(x, same)
    assert torch.allclose(grown, expected, rtol=1e-3, atol=1e-3)
    print(
        f"\n{sequence}, {system.n_atoms} atoms, {channels} channels, {n_layers} layers, batch {batch}: "
        f"ours {ours:.2f} s, one pass a coordinate {theirs:.2f} s, {theirs / ours:.1f} ×"
    )
