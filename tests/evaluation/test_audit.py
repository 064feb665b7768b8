"""The density audit passes what is right and finds what is wrong."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch

import bgbench
from bgbench import Proposal
from bgbench.core.plugins import plugins
from bgbench.core.types import Reference
from bgbench.evaluation.audit import audit, audit_for_record, audit_quickly, cut_fragment, summarise
from bgbench.evaluation.diagnostics import look_forward
from bgbench_controls import Prior
from bgbench_md import LangevinMD


class Wrong(Prior):
    """A prior whose claims are off: log q by `shift` nats, or tilted along z, or its log-determinant."""

    def __init__(self, shift=0.0, tilt=0.0, log_det=0.0, forgetful=0.0):
        super().__init__()
        self.shift, self.tilt, self.log_det, self.forgetful = shift, tilt, log_det, forgetful

    def draw(self, task, n_samples):
        proposal = super().draw(task, n_samples)
        return Proposal(proposal.x, proposal.log_q + self.forgetful)

    def log_prob(self, task, x):
        z = (x - task.system.positions.to(x)) / self.width
        return super().log_prob(task, x) + self.shift + self.tilt * z[:, 0, 0]

    def latent(self, task, x):
        z, log_det = super().latent(task, x)
        return z, log_det + self.log_det


class Listening(Prior):
    """Keeps what its density was asked about."""

    def log_prob(self, task, x):
        self.frames = x
        return super().log_prob(task, x)


@pytest.mark.parametrize(("frames", "draws"), [(5120, 5120), (2000, 2000), (100, 100), (5120, 200)])
def test_the_forward_view_meets_every_replica_and_as_many_frames_as_draws(peptide, frames, draws):
    """Files interleave 16 replicas; a stride that shares a factor with 16 would meet some of them alone."""
    replica = torch.arange(frames) % 16
    x = peptide.positions.float() + replica[:, None, None]
    reference = Reference(peptide.name, x, torch.zeros(frames), replica, {}, None)
    sampler = Listening()
    task = SimpleNamespace(system=peptide, n_samples=draws, device=torch.device("cpu"))
    forward = look_forward(sampler, task, reference)["forward"]
    met = torch.bincount((sampler.frames[:, 0, 0] - peptide.positions[0, 0]).round().long(), minlength=16)
    assert forward["frames"] == len(sampler.frames) == min(512, frames, draws)
    assert met.max() - met.min() <= 1


@pytest.fixture(scope="module")
def peptide():
    return bgbench.peptide("AA")


def test_a_right_density_passes(peptide):
    checks = audit(Prior(), peptide)
    assert [check.name for check in checks] == [
        *("round trip, gaussian", "map", "noise", "moves", "normalisation", "Jacobian")
    ]
    assert summarise(checks)["verified"]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"shift": 1.0}, "normalisation"),
        ({"tilt": 2.0}, "normalisation"),
        ({"tilt": 0.1}, "map"),
        ({"log_det": 0.1}, "Jacobian"),
        ({"forgetful": 0.1}, "round trip, gaussian"),
    ],
)
def test_a_wrong_density_is_found_by_its_check(peptide, fault, expected):
    failed = [check.name for check in audit(Wrong(**fault), peptide) if not check.passed]
    assert expected in failed


def test_an_estimate_of_log_q_says_so_in_the_record_and_is_not_verified(peptide):
    class Estimated(Prior):
        exact = False

    assert audit_for_record(Prior(), peptide, 100)["density"]["verified"]
    density = audit_for_record(Estimated(), peptide, 100)["density"]
    assert not density["verified"]
    assert list(density["checks"]) == ["exact"]


def test_nan_fails(peptide):
    assert not summarise(audit(Wrong(shift=math.nan), peptide))["verified"]


def test_records_say_what_could_not_be_audited(peptide):
    class Broken(Prior):
        def log_prob(self, task, x):
            raise RuntimeError("no density today")

    assert audit_for_record(LangevinMD(), peptide, 100) == {}
    density = audit_for_record(Broken(), peptide, 100)["density"]
    assert density == {"verified": False, "error": "RuntimeError: no density today"}


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (
            lambda: torch.manual_seed(0),
            "BrokenContract: the sampler drew from or seeded the global generator",
        ),
        (lambda: print("look at me"), "BrokenContract: the sampler wrote 'look at me"),
        (lambda: sys.exit(3), "SystemExit: 3"),
    ],
)
def test_a_density_that_touches_what_it_may_not_is_not_verified(peptide, fault, cause):
    class Loud(Prior):
        def log_prob(self, task, x):
            fault()
            return super().log_prob(task, x)

    density = audit_for_record(Loud(), peptide, 100)["density"]
    assert not density["verified"]
    assert density["error"].startswith(cause)


def test_an_audited_sampler_may_not_ask_for_energies(peptide):
    class Cheat(Prior):
        def draw(self, task, n_samples):
            task.oracle.energy(task.system.positions[None])
            return super().draw(task, n_samples)

    assert "must not" in audit_for_record(Cheat(), peptide, 100)["density"]["error"]


class Frames(bgbench.AbstractDensitySampler):
    """A cheat: frames of the reference, shaken, with log_q = −u, so that every weight is the same."""

    measure = "internal"

    def __init__(self, noise):
        self.noise = noise

    def check_supports(self, system):
        if system.n_atoms < 3:
            raise bgbench.Unsupported("a whole peptide only")

    def draw(self, task, n_samples):
        x = bgbench.find_reference(task.system).x
        x = x[torch.randint(len(x), (n_samples,), generator=task.generator)]
        x = x + self.noise * torch.randn(x.shape, generator=task.generator)
        return Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        return -bgbench.energy(task.system, "batched").energy(x.double())


def test_arbitrary_frames_with_the_log_q_of_the_target_are_not_verified(peptide):
    """Their mean energy lies 4 kT above that of the target."""
    checks = {check.name: check for check in audit_quickly(Frames(0.001), peptide, 256)}
    assert not checks["Stein's identity"].passed
    assert not checks["normalisation"].passed
    assert "refuses 2 atoms of AA" in checks["normalisation"].note


def test_frames_that_are_the_target_s_own_pass_but_for_the_check_that_could_not_be_made(peptide):
    checks = audit_quickly(Frames(0.0), peptide, 256)
    assert [check.name for check in checks if not check.passed] == ["normalisation"]


class Biased(bgbench.AbstractDensitySampler, bgbench.Invertible):
    """Verse, dishonest: another log_q than that of its draws, or the better of two draws."""

    measure, base = "internal", "uniform"

    def __init__(self, change=lambda log_q, x: log_q, draws=1):
        self.honest, self.change, self.draws = plugins().samplers["verse"].build({}), change, draws

    def draw(self, task, n_samples):
        tries = [self.honest.draw(task, n_samples) for _ in range(self.draws)]
        best = torch.stack([proposal.log_q for proposal in tries]).argmax(0)
        x = torch.stack([proposal.x for proposal in tries])[best, torch.arange(n_samples)]
        return Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        return self.change(self.honest.log_prob(task, x), x)

    def latent(self, task, x):
        return self.honest.latent(task, x)


@pytest.mark.parametrize(
    ("cheat", "expected"),
    [
        (lambda: Biased(), None),
        (lambda: Biased(lambda log_q, x: log_q + 2 * (x[:, 0] - x[:, -1]).norm(dim=-1)), "map"),
        (lambda: Biased(lambda log_q, x: 0.5 * log_q), "moves"),
        (lambda: Biased(lambda log_q, x: 0.0 * log_q), "moves"),
        (lambda: Biased(draws=2), "noise"),
    ],
)
def test_a_flow_that_claims_another_density_is_found_by_a_cheap_check(peptide, cheat, expected):
    failed = [check.name for check in audit_quickly(cheat(), peptide, 256) if not check.passed]
    assert expected in failed if expected else not failed


def test_a_fragment_is_whole_in_itself(peptide):
    part = cut_fragment(peptide)
    assert part.n_atoms == len(part.atoms) == 2
    assert all(max(pair) < 2 for pair in part.bonds)
    assert torch.equal(part.positions, peptide.positions[:2])
