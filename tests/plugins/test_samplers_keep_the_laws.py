"""Every shipped sampler against the law book that plugin authors get."""

import pytest
import torch

from bgbench import BgbenchError, Card
from bgbench.testing import DensitySamplerLaws, SamplerLaws, peptide_task
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
    ("build", "options", "complaint"),
    [
        (Prior.from_options, {"width": "-1"}, "-1"),
        (Prior.from_options, {"widht": "1"}, "widht"),
        (Prior.from_options, {"width": "wide"}, "wide"),
        (ParallelTempering.from_options, {"rungs": "1"}, "rungs"),
        (ParallelTempering.from_options, {"rung": "4"}, "rung"),
        (ReferenceDraws.from_options, {"variant": "best"}, "best"),
    ],
)
def test_wrong_options_say_so(build, options, complaint):
    with pytest.raises(BgbenchError, match=complaint):
        build(options)


def test_cards_of_samplers_without_training_are_empty():
    from bgbench.core.plugins import plugins

    assert plugins().samplers["md"].card({}) == Card("md")
