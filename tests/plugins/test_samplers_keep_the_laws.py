"""Every shipped sampler against the law book that plugin authors get."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

import bgbench
from bgbench import BgbenchError, BudgetExhausted, Card
from bgbench.core.calls import call_estimate
from bgbench.core.plugins import plugins
from bgbench.testing import DensitySamplerLaws, SamplerLaws, SamplerPluginLaws, elsewhere, peptide_task
from bgbench_controls import Prior, ReferenceDraws
from bgbench_md import LangevinMD, ParallelTempering, Softened
from bgbench_prose import ProseSampler
from bgbench_prose.network import Config, Prose

KERNELS = ("sweep_energies", "sweep_forces")
"""What computes energies in a round of solute scaling, besides the steps."""


def small_prose() -> ProseSampler:
    """Random weights everywhere, so that nothing is trivially zero."""
    flow = Prose(Config(channels=16, n_blocks=2, n_layers=1, head_dim=8))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return ProseSampler(flow)


class TestProse(DensitySamplerLaws):
    @pytest.fixture
    def sampler(self):
        return small_prose()


class TestPrior(DensitySamplerLaws):
    @pytest.fixture
    def sampler(self):
        return Prior()


class TestReference(SamplerLaws):
    device_peptide = "AA"

    @pytest.fixture
    def sampler(self, own_references):
        return ReferenceDraws()

    def test_samples_or_refuses_every_residue(self, sampler):
        """It has frames where a reference is at hand; runs refuse the others when they are planned."""
        with pytest.raises(AssertionError, match="no reference for AC at 310 K is at hand"):
            super().test_samples_or_refuses_every_residue(sampler)


@pytest.mark.parametrize("variant", ["mode-deleted", "shuffled-torsions", "few-points"])
def test_variants_of_the_control_are_the_same_on_any_device(variant, own_references):
    sampler, laws = ReferenceDraws(variant), SamplerLaws()
    laws.device_peptide = "AA"
    laws.test_computes_on_any_device(sampler)


@pytest.mark.parametrize("estimator", ["mcmc", "none", "snis", "smc-mala", "smc-ula", "self-improve"])
def test_estimators_give_the_same_ensemble_on_any_device(estimator):
    """Energies, gradients of both densities, fine-tuning: what crosses is moved, whoever asks for it."""
    options = {"self-improve": {"steps": "1", "batch": "4"}}.get(estimator, {})
    built = plugins().estimators[estimator].build(options)
    sampler = {"self-improve": small_prose, "mcmc": LangevinMD}.get(estimator, Prior)()
    here = call_estimate(built, sampler, peptide_task("GG", budget=60, n_samples=8))
    with elsewhere() as device:
        task = replace(peptide_task("GG", budget=60, n_samples=8), device=device)
        there = call_estimate(built, sampler, task)
    assert there.ensemble.x.device.type == "cpu"
    assert torch.allclose(there.ensemble.x, here.ensemble.x, atol=1e-3)
    assert there.ensemble.n_samples > 1


class TestMD(SamplerLaws):
    @pytest.fixture
    def sampler(self):
        return LangevinMD()


class TestCompiledMD(SamplerLaws):
    @pytest.fixture
    def sampler(self):
        return LangevinMD(engine="compiled")


class TestREMD(SamplerLaws):
    @pytest.fixture
    def sampler(self):
        return ParallelTempering(rungs=2, steps=5)


class TestSoftened(SamplerLaws):
    @pytest.fixture
    def sampler(self):
        return Softened(rungs=2, steps=5, moves=3)


class TestWarmedUpMD(SamplerLaws):
    @pytest.fixture
    def sampler(self):
        return LangevinMD(warm_up=0.02)


@pytest.mark.parametrize("charged", [True, False])
def test_a_warm_up_of_md_is_charged_or_declared(charged):
    task = peptide_task(budget=1000)
    sampler = LangevinMD(warm_up=0.3, charge_warm_up=charged)
    proposal = sampler.sample(task, 20)
    ledger = task.oracle.ledger
    assert task.oracle.remaining == 0
    assert len({frame.numpy().tobytes() for frame in proposal.x}) == 20, "no frame is of the start structure"
    tuned = sum(row["calls"] for row in ledger["tune"].values())
    assert (tuned >= 300) is charged
    assert sampler.card.notes == ("" if charged else "warm-up of 300 evaluations not charged")
    assert sampler.card.uncharged_evaluations == (0 if charged else 300)
    # The first frame has been heated: half of the thermal energy of a vibration a degree of freedom.
    assert float(proposal.u[0] - LangevinMD().sample(peptide_task(budget=1000), 20).u[0]) > 5


def test_a_warm_up_that_the_budget_cannot_pay_is_refused():
    with pytest.raises(BudgetExhausted, match="50 ps of warm-up cost 50,000 evaluations, "):
        LangevinMD(warm_up=50.0).sample(peptide_task(budget=1000), 20)


def test_softened_charges_all_that_its_ladder_evaluates(monkeypatch):
    """Steps, moves, forces around them and exchanges of every rung, counted where they are computed."""
    from bgbench.dynamics import langevin, solute_scaling

    made = Counter()
    advance, energies, forces = langevin.Integrator.advance, *map(solute_scaling.__dict__.get, KERNELS)

    def counted_advance(self, walkers, steps, packed, threads):
        made["steps"] += len(walkers.x) * steps
        return advance(self, walkers, steps, packed, threads)

    def counted(name, kernel):
        def call(x, *rest):
            made[name] += len(x)
            return kernel(x, *rest)

        return call

    monkeypatch.setattr(langevin.Integrator, "advance", counted_advance)
    for name, kernel in zip(KERNELS, (energies, forces), strict=True):
        monkeypatch.setattr(solute_scaling, name, counted(name, kernel))
    task = peptide_task(budget=1000)
    proposal = Softened(rungs=3, steps=7, moves=4, warm_up=0.5).sample(task, 10)
    ledger = {phase: row["energy_and_force"]["calls"] for phase, row in task.oracle.ledger.items()}
    assert task.oracle.remaining < 42
    rounds = made["steps"] // 21
    assert sum(made.values()) == 42 * rounds
    assert ledger["sample"] == 42 * (rounds - rounds // 2)
    assert task.oracle.used - sum(made.values()) <= 100, "the rest is minimisation"
    from bgbench.energies.openmm import OpenMMEnergy

    truth = OpenMMEnergy(task.system, "Reference").energy(proposal.x)
    assert torch.allclose(proposal.u, truth, atol=2e-2)


def test_softened_turns_the_bond_before_proline():
    """Plain dynamics never does: both isomers are what the engine is for."""
    system = bgbench.peptide("AP")
    walk = bgbench.SoluteScaled(system, system.positions, [1.0, 0.7, 0.5], torsion_moves=20, seed=0)
    omega = torch.stack([bgbench.torsions(system, walk.round(5)[0][None]).omega[0, 0] for _ in range(60)])
    assert {bool(value) for value in omega.abs() < 1.5} == {True, False}


@pytest.mark.parametrize("budget", [1, 2, 7, 200])
def test_md_spends_its_budget_to_the_last_step_and_no_further(budget):
    task = peptide_task(budget=budget)
    proposal = LangevinMD().sample(task, min(20, budget))
    assert task.oracle.remaining == 0
    assert proposal.n_samples == min(20, budget)
    assert torch.isfinite(proposal.u).all()


def test_md_reports_the_energies_of_its_frames():
    task = peptide_task(budget=300)
    proposal = LangevinMD().sample(task, 10)
    from bgbench.energies.openmm import OpenMMEnergy

    truth = OpenMMEnergy(task.system, "Reference").energy(proposal.x)
    assert torch.allclose(proposal.u, truth, atol=1e-2)


def test_remd_charges_every_walker_and_its_energies_are_the_frames():
    task = peptide_task(budget=1000)
    proposal = ParallelTempering(rungs=3, steps=9).sample(task, 10)
    ledger = task.oracle.ledger
    assert ledger["sample"]["energy_and_force"]["calls"] % 30 == 0
    assert task.oracle.remaining < 30
    from bgbench.energies.openmm import OpenMMEnergy

    truth = OpenMMEnergy(task.system, "Reference").energy(proposal.x)
    assert torch.allclose(proposal.u, truth, atol=2e-2)


@pytest.mark.parametrize(
    ("sampler", "word", "complaint"),
    [
        ("prior", "width=-1", "--set width must be positive, got -1 nm"),
        ("prior", "width=nan", "--set width=nan: 'nan' is not a number"),
        ("prior", "widht=1", r"prior has no option 'widht'; did you mean 'width'\? Its options are width"),
        ("prior", "width=abc", "--set width=abc: 'abc' is not a number"),
        ("md", "fraction=2", "--set fraction must be above 0 and at most 1, got 2"),
        ("md", "warm_up=-1", "--set warm_up must be 0 ps or more, got -1"),
        ("softened", "rungs=1", "--set rungs must be 2 or more, got 1"),
        ("softened", "warm_up=1", "--set warm_up must be at least 0 and below 1, got 1"),
        ("remd", "rungs=1", "--set rungs must be 2 or more, got 1"),
        ("remd", "rung=4", "remd has no option 'rung'; did you mean 'rungs'"),
        (
            "reference",
            "variant=draw",
            r"'draw' is not one of draws, .*; did you mean 'draws'\?",
        ),
        ("prose", "path=warp", "--set path=warp: 'warp' is not one of plain, bfloat16, tf32, compile"),
        ("tbg", "tolerance=2", "--set tolerance must lie between 0 and 1, got 2"),
        ("verse", "weight=x", "verse has no option 'weight'; did you mean 'weights'"),
    ],
)
def test_wrong_options_say_so(sampler, word, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        plugins().samplers[sampler].build(dict([word.split("=")]))


def test_wrong_options_from_python_say_so():
    with pytest.raises(BgbenchError, match=r"variant must be one of draws, .*, got 'best'"):
        ReferenceDraws("best")


class TestShippedPlugins(SamplerPluginLaws):
    @pytest.fixture(params=["md", "prior", "prose", "reference", "remd", "softened", "tbg", "verse"])
    def plugin(self, request):
        return plugins().samplers[request.param]


def test_cards_of_samplers_without_training_are_empty():
    assert plugins().samplers["md"].build({}).card == Card("md")
