"""TBG's flow: noise and back, a density that integrates to one, the solver, traces, conventions, options."""

import math
import sys
from dataclasses import replace

import pytest
import torch

from bgbench import BgbenchError, Conventions, System, Unsupported, peptide
from bgbench.core.elsewhere import elsewhere
from bgbench.evaluation.audit import audit
from bgbench.testing import DensitySamplerLaws, peptide_task
from bgbench_tbg import TBGSampler, build
from bgbench_tbg.divergence import velocity_and_divergence
from bgbench_tbg.flow import Solver, exact_divergence, integrate_flow, log_prior, samples_at_once
from bgbench_tbg.network import EncodedPeptides, Field, FieldConfig
from bgbench_tbg.quadrature import INITIAL_PANELS, KRONROD_7, KRONROD_15, integrate
from bgbench_tbg.weights import save


def random_field(config=None, size=0.25, step=0.02, seed=0):
    """Random weights; steps of atoms wide enough to matter, small enough for few steps of the solver."""
    field = Field(config or FieldConfig(channels=8, n_layers=2))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
        for layer in field.layers:
            layer.step_out.weight.mul_(step)
    return field.requires_grad_(False)


class TestTBG(DensitySamplerLaws):
    n_samples, audit_draws = 8, 16

    @pytest.fixture
    def sampler(self):
        return TBGSampler(random_field())

    @pytest.fixture
    def coarse(self, monkeypatch):
        """A sampler of few operations: every one of them costs time on a device that is not there."""
        monkeypatch.setattr("bgbench_tbg.quadrature.INITIAL_PANELS", ((0.0, 1.0, KRONROD_7),))
        return TBGSampler(random_field(), Solver(steps=1))

    def test_computes_on_any_device(self, coarse):
        super().test_computes_on_any_device(coarse)

    def test_density_is_the_same_on_any_device(self, coarse):
        super().test_density_is_the_same_on_any_device(coarse)

    def test_adaptive_paths_and_estimated_divergences_are_the_same_on_any_device(self, monkeypatch):
        monkeypatch.setattr("bgbench_tbg.quadrature.INITIAL_PANELS", ((0.0, 1.0, KRONROD_7),))
        super().test_computes_on_any_device(TBGSampler(random_field(), Solver(1e-3), "hutchinson"))


def particles(n, field):
    """n particles that differ by their one-hot type alone."""
    features = torch.zeros(1, n, field.config.n_features)
    features[0, torch.arange(n), torch.arange(n)] = 1.0
    return EncodedPeptides(features, torch.ones(1, n, dtype=torch.bool))


@pytest.mark.parametrize("convention", ["two particles, by quadrature", "three particles, by sampling"])
def test_log_q_integrates_to_one(convention, generator):
    """∫ q over the conformers without mean, in an orthonormal basis of them.

    Of two particles there is one distance s = ‖x₁ − x₂‖/√2, and q turns with x: ∫ 4π s² q ds, Gauss–Legendre.
    Of three, q against a Gaussian g somewhat wider than the noise: E_g[q/g] = 1 within 5 standard errors.
    """
    field = random_field(size=0.3, step=0.1)
    n = 2 if convention.startswith("two") else 3
    m, solver = particles(n, field), Solver()
    if n == 2:
        grid, weight = (torch.from_numpy(part) for part in legendre(200, 0.0, 12.0))
        x = torch.zeros(200, 2, 3)
        x[:, 0, 2], x[:, 1, 2] = grid / math.sqrt(2), -grid / math.sqrt(2)
        total = float((4 * math.pi * grid**2 * log_q(field, x, m, solver).double().exp() * weight).sum())
        assert total == pytest.approx(1.0, abs=2e-4)
    else:
        x = 1.2 * torch.randn(2000, 3, 3, generator=generator)
        x = x - x.mean(1, keepdim=True)
        w = torch.exp(log_q(field, x, m, solver).double() - log_prior(x, 1.2**-2).double())
        assert abs(float(w.mean()) - 1.0) < 5 * float(w.std()) / math.sqrt(len(w))
        assert float(w.std()) / math.sqrt(len(w)) < 0.1
    moved = carry(field, x, m, solver, (1.0, 0.0))
    assert float((moved - x).abs().max()) > 0.2, "a flow that hardly moves would prove nothing"


def legendre(n, low, high):
    """Points and weights of Gauss and Legendre."""
    import numpy as np

    at, weight = np.polynomial.legendre.leggauss(n)
    return (low + high) / 2 + (high - low) / 2 * at, (high - low) / 2 * weight


def carry(field, x, m, solver, times):
    """`x` at the last of `times`, carried along the field from the first."""
    return solver.path(field, x, m, torch.tensor(times, dtype=torch.float64))[-1]


def log_q(field, x, m, solver):
    z, integral = integrate_flow(field, x, m, solver, exact_divergence(field, m), backward=True)
    return log_prior(z, 1.0) - integral


def test_conformers_return_from_noise_to_where_they_were(generator):
    sampler, task = TBGSampler(random_field()), peptide_task()
    proposal = sampler.draw(task, 16)
    again = sampler.log_prob(task, proposal.x)
    assert float((again - proposal.log_q).abs().max()) < 1e-2
    x = proposal.x / sampler.field.config.scale
    x = x - x.mean(1, keepdim=True)
    m = sampler._encode(task.system.atoms, task.device)
    z = carry(sampler.field, x, m, sampler.solver, (1.0, 0.0))
    back = carry(sampler.field, z, m, sampler.solver, (0.0, 1.0))
    assert float((back - x).abs().max()) < 1e-3
    assert float((z - x).abs().max()) > 0.1


def test_integral_along_the_path_is_that_of_both_together(generator):
    """Quadrature of ∇·v against dopri5 of x and log q as one state."""
    from torchdiffeq import odeint

    field = random_field()
    m = TBGSampler(field)._encode(peptide("GG").atoms, torch.device("cpu"))
    z = torch.randn(4, m.mask.shape[1], 3, generator=generator)
    z = z - z.mean(1, keepdim=True)
    _, integral = integrate_flow(field, z, m, Solver(), exact_divergence(field, m))
    together = odeint(
        lambda t, state: velocity_and_divergence(field, state[0], t, m),
        (z, torch.zeros(4)),
        torch.tensor([0.0, 1.0]),
        method="dopri5",
        rtol=1e-6,
        atol=1e-6,
    )[1][-1]
    assert torch.allclose(integral, together, atol=1e-2)


@pytest.mark.parametrize(("rule", "fine", "coarse"), [(KRONROD_7, 11, 5), (KRONROD_15, 23, 13)])
def test_kronrods_nodes_and_weights_are_right(rule, fine, coarse):
    """Each rule is exact up to its degree, and not beyond."""
    degree = torch.arange(fine + 2, dtype=torch.float64)[:, None]
    powers = rule.times(-1.0, 1.0) ** degree
    exact = (1 + (-1) ** degree[:, 0]) / (degree[:, 0] + 1)
    for integral, limit in zip(rule.integrals(powers.T, -1.0, 1.0), (fine, coarse), strict=True):
        assert torch.allclose(integral[: limit + 1], exact[: limit + 1], atol=1e-14)
        assert abs(float(integral[limit + 1] - exact[limit + 1])) > 1e-10


def test_panels_are_halved_where_needed_and_for_those_rows_only(seed):
    rows_by_call = []

    def spikes(panels):
        rows_by_call.append([panel.rows.tolist() for panel in panels])
        times = torch.cat([panel.times for panel in panels])
        assert bool((times.diff() > 0).all())
        widths = torch.tensor([1e-4, 1e2, 1e-3], dtype=torch.float64)
        return [1e-2 / ((p.times[:, None] - 0.7) ** 2 + widths[p.rows]) for p in panels]

    truth = [1e-2 / w * (math.atan(0.3 / w) + math.atan(0.7 / w)) for w in (1e-2, 1e1, math.sqrt(1e-3))]
    assert integrate(spikes, 3, 1e-6).tolist() == pytest.approx(truth, abs=1e-6)
    assert rows_by_call[0] == [[0, 1, 2]] * len(INITIAL_PANELS)
    assert {row for call in rows_by_call[1:] for rows in call for row in rows} == {0, 2}
    with pytest.raises(ArithmeticError, match="did not converge"):
        integrate(random_values, 2, 1e-9)


def random_values(panels):
    return [torch.rand(len(p.times), len(p.rows), dtype=torch.float64) for p in panels]


@pytest.mark.slow
def test_hutchinson_is_right_on_average_and_says_that_it_is_no_density(generator):
    field = random_field()
    task = peptide_task("GG")
    truth = TBGSampler(field)
    x = truth.draw(task, 4).x
    guess = TBGSampler(field, trace="hutchinson")
    log_q = torch.stack([guess.log_prob(task, x) for _ in range(40)])
    error = log_q.std(0) / math.sqrt(40)
    assert bool(((log_q.mean(0) - truth.log_prob(task, x)).abs() < 5 * error + 1e-2).all())
    assert float(error.max()) > 0.0
    assert truth.exact
    assert not guess.exact
    (finding,) = audit(guess, task.system)
    assert not finding.passed


def test_conventions_add_what_they_should():
    sampler, task = TBGSampler(random_field()), peptide_task()
    x = sampler.draw(task, 3).x
    plain, folded, whole = (
        sampler.log_prob(replace(task, conventions=conventions), x)
        for conventions in (Conventions(), Conventions(handedness="fold"), Conventions("none"))
    )
    assert torch.allclose(folded, torch.logaddexp(plain, sampler.log_prob(task, -x)), atol=1e-2)
    centre = torch.distributions.Normal(0.0, 0.1).log_prob(x.mean(1)).sum(-1)
    assert torch.allclose(whole, plain + centre, atol=1e-3)
    assert torch.allclose(sampler.log_prob(task, x + 0.3), plain, atol=1e-2)


def test_density_is_per_nm_at_a_fixed_centre():
    """A field that does nothing leaves a Gaussian of width `scale`, with the centre of mass divided out."""
    field = Field(FieldConfig(channels=4, n_layers=1))
    with torch.no_grad():
        field.layers[0].step_out.weight.zero_()
    sampler, task = TBGSampler(field), peptide_task()
    proposal = sampler.draw(task, 5)
    n, scale = task.system.n_atoms, field.config.scale
    one = torch.distributions.Normal(0.0, scale)
    centre = torch.distributions.Normal(0.0, scale / math.sqrt(n))
    x = proposal.x
    expected = one.log_prob(x).sum((1, 2)) - centre.log_prob(x.mean(1)).sum(-1)
    assert torch.allclose(proposal.log_q, expected, atol=1e-3)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tbg") / "w.safetensors"
    save(path, random_field(), {"name": "random"})
    return str(path)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"trace": "guess"}, "--set trace=guess: 'guess' is not one of exact, hutchinson"),
        ({"tolerance": "tight"}, "--set tolerance=tight: 'tight' is not a number"),
        ({"tolerance": "-1"}, "--set tolerance must lie between 0 and 1, got -1"),
        ({"steps": "4"}, "tbg has no option 'steps'; its options are weights, trace, tolerance"),
    ],
)
def test_wrong_options_say_so(file, options, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        build({"weights": file, **options})


def test_options_are_used_and_strange_systems_refused(file):
    sampler = build({"weights": file, "trace": "hutchinson", "tolerance": "1e-3"})
    assert (sampler.trace, sampler.solver.tolerance) == ("hutchinson", 1e-3)
    with pytest.raises(Unsupported, match="a peptide of 5 residues"):
        sampler.check_supports(peptide("GGGGG"))
    with pytest.raises(Unsupported, match="this system has none"):
        sampler.check_supports(System("x", torch.zeros(1, 3)))
    sampler.check_supports(peptide("GGGG"))


def test_lightning_stays_off_the_evaluation_path():
    import subprocess

    code = "import sys, bgbench_tbg.sampler; print('lightning' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"


def test_gradients_in_parts_are_those_of_the_batch_by_the_same_estimate(monkeypatch):
    """On a GPU log_prob takes as many samples as memory holds; Hutchinson's noise stays with its sample."""
    monkeypatch.setattr("bgbench_tbg.quadrature.INITIAL_PANELS", ((0.0, 1.0, KRONROD_7),))
    monkeypatch.setattr("bgbench_tbg.sampler.samples_that_fit", lambda *_: 2)
    field = random_field(FieldConfig(channels=4, n_layers=1))
    sampler = TBGSampler(field, Solver(steps=1), "hutchinson")
    x = sampler.sample(peptide_task("GG"), 3).x
    results = []
    with elsewhere() as device:
        for task in (peptide_task("GG"), replace(peptide_task("GG"), device=device)):
            at = x.to(task.device).requires_grad_()
            log_q = sampler.log_prob(task, at)
            (gradient,) = torch.autograd.grad(log_q.sum(), at)
            results.append((log_q.detach().cpu(), gradient.cpu()))
    (log_q, gradient), (log_q_there, gradient_there) = results
    assert torch.allclose(log_q_there, log_q, atol=1e-3)
    assert torch.allclose(gradient_there, gradient, rtol=1e-3, atol=1e-2)


def test_samples_at_once_follow_caches_on_a_cpu_and_memory_elsewhere(monkeypatch):
    x = torch.zeros(512, 10, 3)
    assert samples_at_once(x, 1000, cached=8000, tensors=4) == 8
    assert samples_at_once(x, 10**6, cached=8000, tensors=4) == 1
    monkeypatch.setattr("bgbench_tbg.flow.free_bytes", lambda device: 10**8)
    assert samples_at_once(x.to("meta"), 10**5, cached=8000, tensors=4) == 32
    assert samples_at_once(x.to("meta"), 100, cached=8000, tensors=4) == 512


def test_a_device_is_waited_for_once_a_round_of_panels(monkeypatch):
    waits, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: waits.append(len(self)) or cpu(self))
    rounds = []

    def evaluate(panels):
        rounds.append(len(panels))
        return [
            torch.stack([1 / (1e-3 + panel.times.double() ** 2)] * len(panel.rows), 1) for panel in panels
        ]

    value = integrate(evaluate, 2, 1e-6)
    assert torch.allclose(value, torch.full((2,), math.atan(1000**0.5) * 1000**0.5, dtype=torch.float64))
    assert len(rounds) > 3
    assert len(waits) == len(rounds)
