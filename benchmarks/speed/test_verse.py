"""Samples with likelihood a second: Verse against Prose, at published size and as `prose-mini`, one run.

The published Prose has random weights, on which time does not depend; one of its eight blocks is timed and
counted eight times. Every sampler draws one batch in one thread; CPU seconds are compared.
"""

import time

import pytest
import torch

import bgbench
from bgbench_prose import build as build_prose
from bgbench_prose.decode import invert
from bgbench_prose.network import Config, Prose, log_prior, tokens
from bgbench_verse import weights as verse_weights
from bgbench_verse.molecule import batch_molecules, build_molecule
from bgbench_verse.sampling import sample_conformers

SYSTEMS = ("AA", "ARIP")
VERSE_DRAWS, MINI_DRAWS, PUBLISHED_DRAWS, TIMED_BLOCKS = 1024, 512, 32, 1


def rate(n: int, call) -> float:
    """Samples a CPU second of the second of two calls: the first one warms up."""
    call()
    started = time.process_time()
    call()
    return n / (time.process_time() - started)


def verse_rate(system: bgbench.System) -> float:
    trained = verse_weights("verse-mini")
    molecule = build_molecule(system.atoms, system.bonds, trained.vocabulary, trained.table)
    molecules = batch_molecules([molecule])
    generator = torch.Generator().manual_seed(0)
    return rate(VERSE_DRAWS, lambda: sample_conformers(trained.net, molecules, VERSE_DRAWS, generator))


def prose_rate(system: bgbench.System, flow: Prose, n: int) -> float:
    t = tokens([system.atoms], flow.config)
    z = torch.randn(n, system.n_atoms, 3)

    def once() -> None:
        x, log_det = invert(flow, z, t)
        assert x.shape == z.shape
        assert torch.isfinite(log_prior(z, 1.0) - log_det).all()

    return rate(n, once)


@pytest.mark.parametrize("sequence", SYSTEMS)
@torch.no_grad()
def test_samples_with_likelihood_a_second(sequence):
    system = bgbench.peptide(sequence)
    verse = verse_rate(system)
    mini_rate = prose_rate(system, build_prose({}).flow, MINI_DRAWS)
    big = Prose(Config(n_blocks=TIMED_BLOCKS)).eval().requires_grad_(False)
    published = prose_rate(system, big, PUBLISHED_DRAWS) * TIMED_BLOCKS / Config().n_blocks
    print(
        f"\n{sequence}, {system.n_atoms} atoms, samples with likelihood a CPU second, one thread: "
        f"verse-mini {verse:.0f}, prose-mini {mini_rate:.0f} ({verse / mini_rate:.2f} ×), "
        f"Prose at published size {published:.2f} ({verse / published:.0f} ×)"
    )
    assert verse > published
