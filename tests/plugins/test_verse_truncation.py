"""Bond lengths and angles stay within their bounds, in samples and in the density alike."""

from dataclasses import replace

import pytest
import torch

from bgbench import peptide
from bgbench_verse.density import MIN_LENGTH, log_density
from bgbench_verse.internal_coordinates import to_internal
from bgbench_verse.mixtures import GaussianMixture
from bgbench_verse.molecule import batch_molecules, build_molecule
from bgbench_verse.network import Verse, VerseConfig
from bgbench_verse.peptides import TrainingPeptide
from bgbench_verse.prochiral import to_canonical_names
from bgbench_verse.reference_geometry import ReferenceGeometry
from bgbench_verse.sampling import sample_conformers
from bgbench_verse.survey import survey_geometry
from bgbench_verse.truncation import Bounds, TruncatedMixture
from bgbench_verse.zmatrix import build_zmatrix, pad_zmatrices

LOW, HIGH = -1.0, 2.5


def truncated(generator, shift=0.0, n=1):
    logit, centre = torch.randn(3, generator=generator).double(), torch.randn(3, generator=generator).double()
    mixture = GaussianMixture(
        logit.expand(n, 3), (centre + shift).expand(n, 3), torch.zeros(n, 3).double(), 3.0
    )
    ends = torch.tensor([LOW, HIGH]).double()
    return TruncatedMixture(mixture, Bounds(ends[0].expand(n), ends[1].expand(n)))


@pytest.mark.parametrize("shift", [0.0, 1.0, 60.0])
def test_the_density_integrates_to_one_within_the_bounds(shift, generator):
    one = truncated(generator, shift)
    at = torch.linspace(LOW, HIGH, 20_001).double()
    density = torch.exp(one.log_prob(at))
    assert float(torch.trapezoid(density, at)) == pytest.approx(1.0, abs=1e-6)
    slope = (one.cdf(at[10_001]) - one.cdf(at[9_999])) / (at[10_001] - at[9_999])
    assert float(slope) == pytest.approx(float(density[10_000]), rel=1e-4)
    assert [float(one.cdf(at[k : k + 1])) for k in (0, -1) if k == 0] == pytest.approx([0.0], abs=1e-9)
    assert float(one.cdf(at[-1:])) == pytest.approx(1.0, abs=1e-9)
    assert bool(torch.isinf(one.log_prob(torch.tensor([LOW - 0.1, HIGH + 0.1]).double())).all())


@pytest.mark.parametrize("shift", [0.0, 60.0])
def test_samples_stay_within_the_bounds_and_follow_the_density(shift, generator):
    n = 20_000
    many = truncated(generator, shift, n)
    samples = many.sample(generator)
    assert float(samples.min()) >= LOW
    assert float(samples.max()) <= HIGH
    # The cumulative distribution of draws is uniform: mean 1/2, variance 1/12.
    place = many.cdf(samples)
    assert abs(float(place.mean()) - 0.5) < 5 / (12 * n) ** 0.5
    assert abs(float(place.square().mean()) - 1 / 3) < 5 * (4 / 45 / n) ** 0.5


def test_log_q_of_samples_is_their_density_where_frames_were_distorted():
    """Noise of 0.03 nm: widths so large that r and θ would leave their range without bounds."""
    system = peptide("GS")
    noise = torch.randn(200, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    zmatrix = build_zmatrix([atom.element for atom in system.atoms], system.bonds)
    frames = (system.positions.float() + 0.03 * noise)[:, zmatrix.order]
    frames = to_canonical_names(frames, pad_zmatrices([zmatrix]))[:, zmatrix.step_of_atom]
    peptide_frames = TrainingPeptide("GS", frames, torch.zeros(200), system.atoms, system.bonds, (), ())
    vocabulary, table = survey_geometry([peptide_frames])
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        net = Verse(VerseConfig(len(vocabulary) + 1, width=32, n_layers=2, geometry=8)).double()
    one = build_molecule(system.atoms, system.bonds, vocabulary, table)
    m = batch_molecules([one])
    m = replace(m, geometry=ReferenceGeometry(m.geometry.rows.double()))
    with torch.no_grad():
        x, log_q = sample_conformers(net, m, 4000, torch.Generator().manual_seed(1))
        again = log_density(net, x, m)
    r, _, _ = to_internal(x, m.zmatrix)
    assert float(r[:, 1:].min()) >= MIN_LENGTH
    assert float(r[:, 1:].min()) < MIN_LENGTH + 0.01
    # Angles near 0 and π, and atoms nearly on each other, cost digits; a wrong measure costs whole nats.
    assert float((log_q - again).abs().quantile(0.99)) < 1e-6
    assert float((log_q - again).abs().max()) < 1e-2
