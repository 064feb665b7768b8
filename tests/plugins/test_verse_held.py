"""Bond lengths and angles are held where a length and an angle can be, in draws and in the density alike."""

import pytest
import torch

from bgbench import peptide
from bgbench_verse.chemistry import molecule, together
from bgbench_verse.data import Peptide, survey
from bgbench_verse.density import SHORTEST, draw, log_density
from bgbench_verse.held import Held
from bgbench_verse.hydrogens import renamed
from bgbench_verse.internal import internals
from bgbench_verse.mixtures import Line
from bgbench_verse.network import Config, Verse
from bgbench_verse.tree import padded, plan

LOW, HIGH = -1.0, 2.5


def held(generator, shift=0.0, n=1):
    logit, centre = torch.randn(3, generator=generator).double(), torch.randn(3, generator=generator).double()
    line = Line(logit.expand(n, 3), (centre + shift).expand(n, 3), torch.zeros(n, 3).double(), 3.0)
    ends = torch.tensor([LOW, HIGH]).double()
    return Held(line, (ends[0].expand(n), ends[1].expand(n)))


@pytest.mark.parametrize("shift", [0.0, 1.0, 60.0])
def test_the_density_integrates_to_one_between_its_ends(shift, generator):
    one = held(generator, shift)
    at = torch.linspace(LOW, HIGH, 20_001).double()
    density = torch.exp(one.log_prob(at))
    assert float(torch.trapezoid(density, at)) == pytest.approx(1.0, abs=1e-6)
    slope = (one.cdf(at[10_001]) - one.cdf(at[9_999])) / (at[10_001] - at[9_999])
    assert float(slope) == pytest.approx(float(density[10_000]), rel=1e-4)
    assert [float(one.cdf(at[k : k + 1])) for k in (0, -1) if k == 0] == pytest.approx([0.0], abs=1e-9)
    assert float(one.cdf(at[-1:])) == pytest.approx(1.0, abs=1e-9)
    assert bool(torch.isinf(one.log_prob(torch.tensor([LOW - 0.1, HIGH + 0.1]).double())).all())


@pytest.mark.parametrize("shift", [0.0, 60.0])
def test_draws_stay_between_the_ends_and_follow_the_density(shift, generator):
    n = 20_000
    many = held(generator, shift, n)
    drawn = many.draw(generator)
    assert float(drawn.min()) >= LOW
    assert float(drawn.max()) <= HIGH
    # The cumulative distribution of draws is uniform: mean 1/2, variance 1/12.
    place = many.cdf(drawn)
    assert abs(float(place.mean()) - 0.5) < 5 / (12 * n) ** 0.5
    assert abs(float(place.square().mean()) - 1 / 3) < 5 * (4 / 45 / n) ** 0.5


def test_log_q_of_draws_is_their_density_where_frames_were_torn_apart():
    """Frames shaken by 0.03 nm: widths so large that r and θ would leave their range without ends."""
    system = peptide("GS")
    noise = torch.randn(200, system.n_atoms, 3, generator=torch.Generator().manual_seed(0))
    tree = plan([atom.element for atom in system.atoms], system.bonds)
    torn = renamed((system.positions.float() + 0.03 * noise)[:, tree.order], padded([tree]))[:, tree.place]
    vocabulary, table = survey([Peptide("GS", torn, torch.zeros(200), system.atoms, (), (), system.bonds)])
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(0)
        net = Verse(Config(len(vocabulary) + 1, width=32, n_layers=2, geometry=8)).double()
    one = molecule(system.atoms, system.bonds, vocabulary, table)
    m = together([one])
    m = type(m)(m.tree, m.codes, m.usual.double(), m.mask)
    with torch.no_grad():
        x, log_q = draw(net, m, 4000, torch.Generator().manual_seed(1))
        again = log_density(net, x, m)
    r, _, _ = internals(x, m.tree)
    assert float(r[:, 1:].min()) >= SHORTEST
    assert float(r[:, 1:].min()) < SHORTEST + 0.01
    # Angles near 0 and π, and atoms nearly on each other, cost digits; a wrong measure costs whole nats.
    assert float((log_q - again).abs().quantile(0.99)) < 1e-6
    assert float((log_q - again).abs().max()) < 1e-2
