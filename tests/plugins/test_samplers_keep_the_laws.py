"""Every shipped sampler against the law book that plugin authors get."""

import pytest
import torch

from bgbench import BgbenchError, Card
from bgbench.core.plugins import plugins
from bgbench.testing import DensitySamplerLaws, SamplerLaws, SamplerPluginLaws, peptide_task
from bgbench_controls import Prior, ReferenceDraws
from bgbench_md import LangevinMD, ParallelTempering
from bgbench_prose import ProseSampler
from bgbench_prose.network import Config, Prose


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


class TestMD(SamplerLaws):
    @pytest.fixture
    def sampler(self):
        return LangevinMD()


class TestREMD(SamplerLaws):
    @pytest.fixture
    def sampler(self):
        return ParallelTempering(rungs=2, steps=5)


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
        ("remd", "rungs=1", "--set rungs must be 2 or more, got 1"),
        ("remd", "rung=4", "remd has no option 'rung'; did you mean 'rungs'"),
        (
            "reference",
            "variant=draw",
            r"'draw' is not one of draws, .*; did you mean 'draws'\?",
        ),
        ("prose", "path=warp", "--set path=warp: 'warp' is not one of plain, bfloat16, compile"),
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
    @pytest.fixture(params=["md", "prior", "prose", "reference", "remd", "tbg", "verse"])
    def plugin(self, request):
        return plugins().samplers[request.param]


def test_cards_of_samplers_without_training_are_empty():
    assert plugins().samplers["md"].build({}).card == Card("md")
