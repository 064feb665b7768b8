"""Exact log-likelihood of TBG against one pass backward a coordinate, at equal solver settings.

The reference is the usual loop: one torch.autograd.grad a coordinate, the graph kept. It is run twice:
over this package's field, whose products with states are taken once an atom, and over the layers as they are
published, with [h_i, h_j, r, r₀] joined for every pair. The second is what people use.

A whole log-likelihood is also timed as it is published: position and log-density are one state of the
solver, so each evaluation needs a trace. Ours follows the path with the same solver at the same settings, and
asks for traces at 29 times.

At published sizes one evaluation of velocity and divergence is timed too: what the closed form alone gains.

Counted in products for n atoms, C channels, L layers: the loop needs 12 n³C² L floating-point operations over
this package's field, the closed form 6 n³C² (L − 4) + 4 n³C²: its first and last layer need none, the second
and the last but one a third. So where products are all that costs, it can win 3.2 × at 9 layers over it.

Weights are random: time does not depend on them, and the steps of the solver are fixed.
"""

import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torchdiffeq import odeint

from bgbench import peptide
from bgbench.core.abstract import Task
from bgbench.core.plugins import energy, plugins
from bgbench.energies.meter import MeteredEnergy
from bgbench_tbg import build
from bgbench_tbg.divergence import velocity_and_divergence
from bgbench_tbg.flow import Solver, exact_divergence, integrate_flow, log_prior
from bgbench_tbg.network import (
    Field,
    FieldConfig,
    PairGeometry,
    distance_damping,
    encode_peptides,
    remove_mean,
)

STEPS = 2
"""Steps of the Runge–Kutta rule, 4 evaluations each; 29 points of the integral."""


def published(field, m):
    """The velocity `(x, t)` of the same weights, layers written as published."""

    def velocity(x, t):
        h, moved, r0 = field.embed(t, m, len(x)), x, None
        for layer in field.layers:
            pairs = PairGeometry.of(moved, m.mask)
            r0 = pairs.squared_distance if r0 is None else r0
            here = h[:, :, None].expand(-1, -1, h.shape[1], -1)
            joined = torch.cat(
                [here, here.transpose(1, 2), pairs.squared_distance[..., None], r0[..., None]], dim=-1
            )
            message = F.silu(layer.edge_out(F.silu(layer.edge_in(joined))))
            message = message * torch.sigmoid(layer.attention(message)) * pairs.mask[..., None]
            length = layer.reach * torch.tanh(layer.step_out(F.silu(layer.step_in(message))))
            moved = moved + (pairs.d * length * distance_damping(pairs.squared_distance)[..., None]).sum(2)
            if layer.node_in is not None:
                h = h + layer.node_out(F.silu(layer.node_in(torch.cat([h, message.sum(2)], dim=-1))))
        return remove_mean(moved - x, m.mask)

    return velocity


def plain(velocity):
    """∇·v by one pass backward a coordinate."""

    def divergence(x: torch.Tensor, t: float, _: object = None) -> torch.Tensor:
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            v = velocity(x, x.new_tensor(t))
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
    [
        ("AA", 32, 3, 4),
        ("WS", 32, 3, 4),
        ("AA", 64, 5, 2),
    ],
)
def test_exact_log_likelihood_against_one_pass_a_coordinate(sequence, channels, n_layers, batch):
    system = peptide(sequence)
    field = Field(FieldConfig(channels, n_layers)).requires_grad_(False)
    m = encode_peptides([system.atoms], field.config)
    z = torch.randn(batch, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    z = z - z.mean(1, keepdim=True)
    velocity_and_divergence(field, z, torch.tensor(0.5), m)
    solver = Solver(steps=STEPS)
    ours, (x, integral) = timed(lambda: integrate_flow(field, z, m, solver, exact_divergence(field, m)))
    report = f"\n{sequence}, {channels} channels, {n_layers} layers, batch {batch}: {ours:.2f} s"
    for name, velocity in (
        ("this field", lambda x, t: field(x, t, m)),
        ("as published", published(field, m)),
    ):
        theirs, (same, expected) = timed(lambda v=velocity: integrate_flow(field, z, m, solver, plain(v)))
        assert torch.equal(x, same)
        assert torch.allclose(integral, expected, rtol=1e-3, atol=1e-3)
        report += f"; one pass a coordinate, {name}: {theirs:.2f} s, {theirs / ours:.1f} ×"
    print(report)


def together(velocity, z, solver):
    """x and ∫ ∇·v as published: one state `(n, atoms, 3)` and `(n,)`, a trace at every evaluation."""
    divergence, evaluations = plain(velocity), 0

    def slope(t, state):
        nonlocal evaluations
        evaluations += 1
        return velocity(state[0], t.to(z)), divergence(state[0], float(t))

    settings = {"method": "dopri5", "rtol": solver.tolerance, "atol": solver.tolerance}
    if solver.steps:
        settings = {"method": "rk4", "options": {"step_size": 1 / solver.steps}}
    x, integral = odeint(slope, (z, torch.zeros(len(z))), torch.tensor([0.0, 1.0]), **settings)
    return x[-1], integral[-1], evaluations


@pytest.mark.parametrize(
    ("what", "solver"),
    [
        ("tbg-mini", Solver(tolerance=1e-4)),
        ("tbg-mini", Solver(tolerance=1e-5)),
        ("ecnf", Solver(steps=8)),
        ("ecnf++", Solver(steps=8)),
    ],
    ids=["tbg-mini-1e-4", "tbg-mini-1e-5", "ecnf", "ecnf++"],
)
@torch.no_grad()
def test_whole_log_likelihood_as_published(what, solver):
    system = peptide("AL" if what == "tbg-mini" else "AA")
    sizes = {"ecnf": FieldConfig(128, 9), "ecnf++": FieldConfig(256, 9)}
    field = build({}).field if what == "tbg-mini" else Field(sizes[what])
    field.requires_grad_(False)
    m = encode_peptides([system.atoms], field.config)
    z = torch.randn(
        2 if what == "tbg-mini" else 1, system.n_atoms, 3, generator=torch.Generator().manual_seed(0)
    )
    z = z - z.mean(1, keepdim=True)
    velocity_and_divergence(field, z, torch.tensor(0.5), m)
    ours, (x, integral) = timed(lambda: integrate_flow(field, z, m, solver, exact_divergence(field, m)))
    theirs, (_, expected, evaluations) = timed(lambda: together(published(field, m), z, solver))
    end, true = integrate_flow(
        field, z, m, replace(solver, tolerance=1e-7, nats=0.005), exact_divergence(field, m)
    )
    off, published_off = (float((value - true).abs().max()) for value in (integral, expected))
    print(
        f"\n{what}, {len(z)} × {system.n_atoms} atoms, {evaluations} evaluations: ours {ours:.2f} s, "
        f"as published {theirs:.2f} s, {theirs / ours:.1f} ×; log-density off by {off:.4f} nats, "
        f"as published by {published_off:.4f}"
    )
    assert torch.allclose(x, end, atol=1e-2)
    assert off <= 1.5 * published_off + 0.02, "not a likelihood as good as the one it is timed against"
    assert theirs / ours >= 5


@pytest.mark.parametrize("sequence", ["AL", "HV"])
@torch.no_grad()
def test_there_and_back_by_tolerance(sequence):
    """Noise → conformer → noise, 24 paths of `tbg-mini`; x in units of `scale`."""
    field = build({}).field
    m = encode_peptides([peptide(sequence).atoms], field.config)
    z = torch.randn(24, m.mask.shape[1], 3, generator=torch.Generator().manual_seed(0))
    z = z - z.mean(1, keepdim=True)
    for tolerance in (1e-4, 1e-5, 1e-6, Solver().tolerance):
        solver = Solver(tolerance)
        x, there = integrate_flow(field, z, m, solver, exact_divergence(field, m))
        again, back = integrate_flow(field, x, m, solver, exact_divergence(field, m), backward=True)
        in_x = float((again - z).abs().max())
        nats = float((log_prior(z, 1.0) - there - log_prior(again, 1.0) + back).abs().max())
        print(f"\n{sequence} at {tolerance:.0e}: {in_x:.1e} in x, {nats:.1e} nats")
    fine = integrate_flow(field, z, m, replace(solver, nats=0.005), exact_divergence(field, m))[1]
    print(f"{sequence}: quadrature off by {float((there - fine).abs().max()):.1e} nats at most")
    assert in_x <= 2e-3
    assert nats <= 1e-2, "the default tolerance does not keep the law"
    assert float((there - fine).abs().max()) <= 1e-2


@pytest.mark.parametrize("channels", [128, 256])
@torch.no_grad()
def test_one_evaluation_at_published_size_against_one_pass_a_coordinate(channels):
    system = peptide("AA")
    field = Field(FieldConfig(channels, n_layers=9)).requires_grad_(False)
    m = encode_peptides([system.atoms], field.config)
    x = torch.randn(1, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(1, keepdim=True)
    t = torch.tensor(0.5)
    velocity_and_divergence(field, x, t, m)
    ours, (_, divergence) = timed(lambda: velocity_and_divergence(field, x, t, m))
    report = f"\nAA, {channels} channels, 9 layers, one evaluation: {ours:.2f} s"
    for name, velocity in (
        ("this field", lambda x, t: field(x, t, m)),
        ("as published", published(field, m)),
    ):
        theirs, expected = timed(lambda v=velocity: plain(v)(x, 0.5))
        assert torch.allclose(divergence, expected, rtol=1e-3)
        report += f"; one pass a coordinate, {name}: {theirs:.2f} s, {theirs / ours:.1f} ×"
    print(report)


def test_a_draw_of_a_tetrapeptide_against_verse():
    """CPU seconds of a draw of GGRS with its log q, packaged weights; core hours of 30 × 10⁴ such draws."""
    system = peptide("GGRS")
    seconds = {}
    for name, n in (("verse", 256), ("tbg", 4)):
        sampler = plugins().samplers[name].build({})
        oracle = MeteredEnergy(energy(system, "batched"), n)
        task = Task(system, oracle, torch.Generator().manual_seed(0), n)
        sampler.draw(task, 2)
        seconds[name] = timed(lambda s=sampler, t=task, n=n: s.draw(t, n))[0] / n
        hours = seconds[name] * 30 * 1e4 / 3600
        print(f"\n{name}: {seconds[name]:.4f} CPU s a draw, 30 peptides at 10⁴: {hours:.1f} core hours")
    print(f"tbg / verse: {seconds['tbg'] / seconds['verse']:.0f} ×")
    assert seconds["tbg"] > 50 * seconds["verse"], "tbg has become affordable: run it on tetrapeptides30"
