"""Proposals with likelihood a second: Prose against ECNF++ at published size, beside the paper's 4,000 ×.

Weights are random: time does not depend on them, but for the steps an adaptive solver takes. So the field is
asked for what one evaluation costs, and a proposal is counted at a fixed number of evaluations, `STAGES`, as
well as at what dopri5 took here with these weights at the published tolerance.
"""

import time

import pytest
import torch
from torchdiffeq import odeint

from bgbench import System, peptide
from bgbench_prose.decode import invert
from bgbench_prose.network import Config as ProseConfig
from bgbench_prose.network import Prose, tokens
from bgbench_prose.sampler import log_prior
from bgbench_tbg.flow import exact_divergence, hutchinson_divergence
from bgbench_tbg.network import Field, FieldConfig, encode_peptides
from bgbench_tbg.quadrature import n_initial_nodes

STAGES = 120
"""Evaluations a proposal at a fixed number: 20 steps of dopri5."""

CLAIM = 4_000
PROSE_BLOCKS, PROSE_DRAWS = 1, 8
"""Of the 8 blocks one is timed and counted 8 times: all cost the same."""


def seconds(call) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def prose_seconds(system: System) -> float:
    """CPU seconds a proposal of Prose, likelihood included: it comes with the draw."""
    flow = Prose(ProseConfig(n_blocks=PROSE_BLOCKS)).eval().requires_grad_(False)
    t = tokens([system.atoms], flow.config)
    z = torch.randn(PROSE_DRAWS, system.n_atoms, 3)

    def draw() -> None:
        x, log_det = invert(flow, z, t)
        assert x.shape == z.shape
        assert torch.isfinite(log_prior(z, 1.0) - log_det).all()

    return seconds(draw) * 8 / PROSE_BLOCKS / PROSE_DRAWS


def tbg_seconds(system: System) -> tuple[float, float, float, int]:
    """CPU seconds of one evaluation: exact trace, stochastic trace, velocity alone; dopri5's evaluations."""
    field = Field(FieldConfig()).eval().requires_grad_(False)
    m = encode_peptides([system.atoms], field.config)
    z = torch.randn(1, system.n_atoms, 3)
    z = z - z.mean(1, keepdim=True)
    whole, guess = exact_divergence(field, m), hutchinson_divergence(field, m, torch.ones_like(z))
    evaluations = 0

    def velocity(t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        return field(x, t, m)

    odeint(velocity, z, torch.tensor([0.0, 1.0]), method="dopri5", rtol=1e-4, atol=1e-4)
    calls = (lambda: whole(z, 0.5)), (lambda: guess(z, 0.5)), (lambda: field(z, torch.tensor(0.5), m))
    return (*map(seconds, calls), evaluations)


@pytest.mark.parametrize("sequence", ["AA", "GGGG"])
@torch.no_grad()
def test_proposals_with_likelihood_a_second(sequence):
    system = peptide(sequence)
    prose = prose_seconds(system)
    whole, guess, alone, evaluations = tbg_seconds(system)
    print(
        f"\n{sequence}, {system.n_atoms} atoms, random weights, CPU: Prose {1 / prose:.3g} proposals/s; "
        f"one evaluation of ECNF++ {whole:.2f} s with exact, {guess:.2f} s with stochastic trace"
    )
    for solver, stages in (
        (f"{STAGES} evaluations", STAGES),
        (f"dopri5 at 1e-4, {evaluations}", evaluations),
    ):
        for trace, cost in (("exact", whole), ("stochastic", guess)):
            rate, ratio = 1 / (cost * stages), cost * stages / prose
            print(f"  {solver}, {trace}: ECNF++ {rate:.3g}/s, Prose {ratio:.3g} × as fast; paper: {CLAIM} ×")
    nodes = n_initial_nodes()
    here = evaluations * alone + nodes * whole
    print(f"  as this package does it, {nodes} divergences a path: Prose {here / prose:.3g} × as fast")
    assert prose > 0
    assert whole > alone
