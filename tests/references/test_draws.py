"""Training files of a sampler's own draws: reweighted by the target, resampled, and what they cost."""

import io
import time

import numpy as np
import pytest
import torch
from rich.console import Console

from bgbench import BgbenchError, peptide
from bgbench.cli.progress import steps
from bgbench.core.abstract import AbstractDensitySampler
from bgbench.core.types import Proposal
from bgbench.data import evaluations_of, read_frames
from bgbench.energies.batched import BatchedEnergy
from bgbench.references.certificates import certificate_path
from bgbench.references.draws import ReweightingPlan, reweight_draws

WIDTH = 0.002
"""nm. Narrow enough that the weights of shaken start structures leave some effective samples."""


class Shaken(AbstractDensitySampler):
    """The start structure with Gaussian noise on every coordinate."""

    def draw(self, task, n_samples):
        start = task.system.positions
        noise = torch.randn(n_samples, *start.shape, generator=task.generator, dtype=torch.float64)
        x = start + WIDTH * noise
        return Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        return -0.5 * ((x - task.system.positions) / WIDTH).square().sum((1, 2))


@pytest.fixture(scope="module")
def plan():
    return ReweightingPlan("prior", draws=400, frames=100, least=1.5, seed=3)


@pytest.fixture(scope="module")
def reweighted(plan, tmp_path_factory):
    path = tmp_path_factory.mktemp("reweighted") / "GG.npz"
    return path, reweight_draws(peptide("GG"), Shaken(), plan, path)


def test_frames_are_draws_in_proportion_to_their_weights(plan, reweighted):
    path, _ = reweighted
    system = peptide("GG")
    generator = torch.Generator().manual_seed(plan.seed)
    x = system.positions + WIDTH * torch.randn(
        plan.draws, system.n_atoms, 3, generator=generator, dtype=torch.float64
    )
    log_q = -0.5 * ((x - system.positions) / WIDTH).square().sum((1, 2))
    log_w = -BatchedEnergy(system).energy(x) - log_q
    # 0.2 % of 400 draws, rounded up, is one: it is lowered to the next.
    log_w = log_w.clamp_max(float(log_w.sort().values[-2]))
    expected = torch.softmax(log_w, 0) * plan.frames
    _, frames = read_frames(path)
    centred = (x - x.mean(1, keepdim=True)).float()
    owner = torch.cdist(frames.flatten(1), centred.flatten(1)).argmin(1)
    counts = torch.bincount(owner, minlength=plan.draws)
    assert len(frames) == plan.frames
    assert float((counts - expected).abs().max()) < 1.0 + 1e-6


def test_the_certificate_tells_where_frames_come_from_and_what_they_cost(plan, reweighted):
    path, result = reweighted
    certificate = result.reference.certificate
    assert evaluations_of(path) == plan.draws
    assert certificate["engine"] == "snis of prior"
    assert certificate["grade"] == "bronze"
    assert certificate["weights"]["effective_samples"] == result.effective_samples
    assert plan.least <= result.effective_samples <= plan.draws
    assert certificate["weights"]["uncut_ess"] * plan.draws <= result.effective_samples + 1e-9


def test_too_few_effective_samples_make_no_file(plan, tmp_path):
    path = tmp_path / "GG.npz"
    demanding = ReweightingPlan("prior", draws=400, frames=100, least=399)
    result = reweight_draws(peptide("GG"), Shaken(), demanding, path)
    assert result.reference is None
    assert 1 <= result.effective_samples < 399
    assert not list(tmp_path.iterdir())


def test_test_and_validation_peptides_are_refused(cli):
    code, _, complaint = cli("data", "weigh", "verse", "AA", "GG")
    assert code == 2
    assert "AA: test or validation peptides" in complaint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nonesuch", "GG"], "unknown sampler 'nonesuch'"),
        (["md", "GG"], "density"),
        (["verse", "GG", "--draws", "10"], "640 frames cannot be made of 10 draws"),
        (["verse", "GG", "--frames", "16"], "16 frames are too few to certify; ask for 64 or more"),
    ],
)
def test_mistakes_are_one_line(cli, tmp_path, words, message):
    code, _, complaint = cli("data", "weigh", *words, "--out", str(tmp_path))
    assert code == 2
    assert message in complaint


def test_cost_of_a_file_from_before_it_was_written_down(tmp_path, make_reference):
    make_reference(tmp_path, "GG")
    path = tmp_path / "GG.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["certificate"] = np.array(
        '{"replicas": 32, "temperatures": [310, 400], "steps": 15000, "settings": {"anneal_steps": 10000}}'
    )
    np.savez(path, **arrays)
    certificate_path(path).unlink()
    assert evaluations_of(path) == 32 * 2 * 15_000 + 32 * 10_000
    arrays["certificate"] = np.array('{"replicas": 32}')
    np.savez(path, **arrays)
    with pytest.raises(BgbenchError, match="does not say how many evaluations it cost"):
        evaluations_of(path)
    path.write_bytes(b"no archive")
    with pytest.raises(BgbenchError, match="not readable as a reference"):
        evaluations_of(path)


def test_the_command_tells_what_became_of_each_peptide(cli, tmp_path):
    words = ["data", "weigh", "verse", "GG", "--draws", "96", "--frames", "64", "--out", str(tmp_path)]
    code, printed, complaint = cli(*words, "--least", "95.9")
    assert code == 0, complaint
    assert "effective samples of 96, fewer than 95.9: no file written" in printed
    code, printed, complaint = cli(*words, "--least", "1")
    assert code == 0, complaint
    assert "GG: " in printed
    assert f"→ {tmp_path / 'GG.npz'}" in printed
    assert cli(*words, "--least", "1") == (0, "", "")


def test_too_few_whole_frames_are_reported(monkeypatch, tmp_path):
    def torn(system, x):
        return {"torn": torch.arange(len(x)) < 3}

    monkeypatch.setattr("bgbench.references.draws.broken", torn)
    plan = ReweightingPlan("prior", draws=400, frames=66, least=1)
    with pytest.raises(BgbenchError, match="GG: 63 of 66 frames are whole, too few to certify"):
        reweight_draws(peptide("GG"), Shaken(), plan, tmp_path / "GG.npz")
    assert not (tmp_path / "GG.npz").exists()


def test_a_bar_of_steps_tells_how_many_there_are_and_how_fast():
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    with steps(screen, "reweighting", False, 3) as advance:
        for name in ("GG", "GS", "SG"):
            advance(name)
            time.sleep(0.01)
    shown = screen.file.getvalue()
    assert "reweighting SG" in shown
    assert "2/3" in shown
    assert "3/3" not in shown, "the third is not done while it runs"
    assert "/min" in shown
    silent = Console(file=io.StringIO(), force_terminal=True)
    with steps(silent, "reweighting", True, 3) as advance:
        advance("GG")
    assert silent.file.getvalue() == ""
