"""Controls are what they say they are."""

import pytest
import torch

from bgbench import BgbenchError, Task, peptide, torsions
from bgbench.core.plugins import energy, plugins
from bgbench.energies.meter import MeteredEnergy
from bgbench_controls.shuffled import shuffle_torsions


@pytest.mark.parametrize("sequence", ["AA", "WSG", "GPA"])
def test_shuffled_torsions_keep_marginals_and_bonds(sequence, generator):
    system = peptide(sequence)
    x = system.positions + 0.005 * torch.randn(40, *system.positions.shape, generator=generator).double()
    shuffled = shuffle_torsions(system, x, generator)
    before, after = torsions(system, x), torsions(system, shuffled)
    assert not torch.allclose(before.psi, after.psi)
    for old, new in ((before.phi, after.phi), (before.psi, after.psi)):
        for wave in (torch.sin, torch.cos):
            assert torch.allclose(wave(old).sort(0).values, wave(new).sort(0).values, atol=1e-9)
    i, j = torch.tensor(system.bonds).T
    lengths = [(y[:, i] - y[:, j]).norm(dim=-1) for y in (x, shuffled)]
    assert torch.allclose(*lengths, atol=1e-9)


def test_frames_of_a_two_dimensional_histogram_lose_their_correlation(generator):
    """φ and ψ of one middle residue that moved together no longer do."""
    system = peptide("AAA")
    x = system.positions[None].repeat(200, 1, 1)
    from bgbench_controls.shuffled import rotate_about

    index = system.atom_index
    angle = torch.randn(200, generator=generator).double() * 0.5
    x = rotate_about(system, x, (index[1, "N"], index[1, "CA"]), angle)
    x = rotate_about(system, x, (index[1, "CA"], index[1, "C"]), angle)
    before, after = (torsions(system, y) for y in (x, shuffle_torsions(system, x, generator)))

    def correlation(t):
        pair = torch.stack([t.phi[:, 0] - before.phi[0, 0], t.psi[:, 1] - before.psi[0, 1]])
        return float(torch.corrcoef(torch.remainder(pair + torch.pi, 2 * torch.pi))[0, 1])

    assert correlation(before) > 0.9
    assert abs(correlation(after)) < 0.3


def test_short_md_spends_its_fraction_and_gives_every_frame():
    system = peptide("GG")
    oracle = MeteredEnergy(energy(system, "openmm"), 400)
    task = Task(system, oracle, torch.Generator().manual_seed(0), 400)
    proposal = plugins().samplers["md"].build({"fraction": "0.05"}).sample(task, 400)
    assert proposal.n_samples == 400
    assert oracle.used == 20
    with pytest.raises(BgbenchError, match="fraction must be above 0 and at most 1, got 2"):
        plugins().samplers["md"].build({"fraction": "2"})
    with pytest.raises(BgbenchError, match="md has no option 'speed'"):
        plugins().samplers["md"].build({"speed": "2"})


def test_old_runs_of_md_call_the_fraction_share():
    build = plugins().samplers["md"].build
    with pytest.warns(FutureWarning, match=r"--set share=0\.05: md calls this option fraction now"):
        assert build({"share": "0.05"}) == build({"fraction": "0.05"})
    with pytest.raises(BgbenchError, match="set fraction alone"):
        build({"share": "0.05", "fraction": "0.1"})
