"""Temperature, and the faster paths: the same density, or the record says it is not."""

import copy
import warnings

import pytest
import torch

from bgbench import BgbenchError, Task, peptide
from bgbench.core.plugins import energy
from bgbench.energies.meter import MeteredEnergy
from bgbench.evaluation.audit import audit_quickly
from bgbench_prose import build
from bgbench_prose.network import Config, Prose
from bgbench_prose.sampler import CACHE_BYTES, ProseSampler, cache_bytes


@pytest.fixture(scope="module")
def flow():
    return changed(Prose(Config(channels=16, n_blocks=2, n_layers=1, head_dim=8)))


def changed(flow):
    """Its parameters a little other than those of the start, which map nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    return flow


def task(temperature=310.0, seed=0):
    system = peptide("GG", temperature)
    oracle = MeteredEnergy(energy(system, "batched"), 100)
    return Task(system, oracle, torch.Generator().manual_seed(seed), 50)


@pytest.mark.parametrize("temperature", [280.0, 310.0, 500.0])
def test_density_is_exact_at_every_temperature(flow, temperature):
    checks = audit_quickly(ProseSampler(flow), peptide("GG", temperature), 64)
    assert all(check.passed for check in checks), checks


def test_a_hotter_prior_is_wider_by_the_root_of_the_ratio(flow):
    sampler, spread, n = ProseSampler(flow), {}, 400 * 17 * 3
    for temperature in (310.0, 620.0):
        x = sampler.draw(task(temperature), 400).x
        # Noise is standard at any temperature: mapped back as if it were of 310 K, that of 620 K is wider.
        z, _ = sampler.latent(task(310.0), x.float())
        own, _ = sampler.latent(task(temperature), x.float())
        spread[temperature] = float(z.std())
        assert abs(float(own.std()) - 1) < 5 / (2 * n) ** 0.5
    assert abs(spread[620.0] / spread[310.0] - 2**0.5) < 5 * 2**0.5 / n**0.5


def test_target_energies_are_those_of_the_temperature():
    cold, hot = peptide("GG", 310.0), peptide("GG", 350.0)
    x = cold.positions[None]
    ratio = float(energy(cold, "batched").energy(x) / energy(hot, "batched").energy(x))
    assert ratio == pytest.approx(350 / 310, rel=1e-4)


def test_compiled_and_plain_agree(monkeypatch):
    """One block: of further ones the compiler makes more of the same, and takes its time."""
    flow = changed(Prose(Config(channels=16, n_blocks=1, n_layers=1, head_dim=8)))
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # else it starts processes
    plain, fast = ProseSampler(flow), ProseSampler(flow, "compile")
    x = plain.draw(task(), 8).x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "prose: torch.compile failed")
        log_q = fast.log_prob(task(), x)
    assert torch.allclose(plain.log_prob(task(), x), log_q, atol=1e-3)


def test_where_compiling_fails_the_plain_way_is_taken(flow, monkeypatch):
    def broken(*_):
        raise RuntimeError("no compiler")

    sampler = ProseSampler(flow, "compile")
    monkeypatch.setattr(sampler._fast, "_compiled", broken)
    x = sampler.draw(task(), 4).x
    with pytest.warns(RuntimeWarning, match=r"torch\.compile failed \(RuntimeError\); going on without it"):
        log_q = sampler.log_prob(task(), x)
    assert torch.equal(log_q, ProseSampler(flow).log_prob(task(), x))
    sampler.log_prob(task(), x)


def test_half_precision_is_found_by_the_audit(flow):
    """Eight bits of mantissa give no log-density to a thousandth of a nat an atom where layers matter."""
    flow = copy.deepcopy(flow)
    with torch.no_grad():
        for block in flow.blocks:
            block.proj_out.weight *= 2
    sampler = ProseSampler(flow, "bfloat16")
    proposal = sampler.draw(task(), 8)
    assert proposal.x.dtype == torch.float32
    assert torch.isfinite(proposal.log_q).all()
    checks = {check.name: check for check in audit_quickly(sampler, peptide("GG"), 64)}
    assert not checks["map"].passed


def test_unknown_paths_and_options_are_refused(flow):
    with pytest.raises(BgbenchError, match="path must be one of plain, bfloat16, tf32, compile, got 'warp'"):
        ProseSampler(flow, "warp")
    with pytest.raises(BgbenchError, match="prose has no option 'speed'; its options are weights, path"):
        build({"speed": "2"})


def test_streaming_gives_the_samples_of_one_piece(flow):
    sampler = ProseSampler(flow)
    sampler.chunk = 16
    whole = sampler.sample(task(), 40)
    parts = list(sampler.stream(task(), 40))
    assert [len(part.x) for part in parts] == [16, 16, 8]
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
    assert torch.equal(torch.cat([part.log_q for part in parts]), whole.log_q)


def test_batches_shrink_where_keys_and_values_are_large():
    published, system = Config(), peptide("ANKSMIEA")
    assert cache_bytes(published, system.n_atoms) == 8 * 2 * system.n_atoms * 384 * 4
    with torch.device("meta"):
        sampler = ProseSampler(Prose(published))
    n = sampler.batch_size(system)
    assert 0 < n < sampler.chunk
    assert n * cache_bytes(published, system.n_atoms) <= CACHE_BYTES
    assert sampler.batch_size(peptide("GG")) == sampler.chunk
