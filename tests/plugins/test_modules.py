"""A network keeps every module that it was given, or stops: none is passed over."""

import pytest
import torch
from torch import nn

from bgbench.testing import peptide_task
from bgbench_prose import ProseSampler
from bgbench_prose.network import Config, Prose
from bgbench_training.modules import ModulesOf


def test_a_foreign_module_ends_the_pass():
    modules = ModulesOf(nn.Linear, [nn.Linear(2, 2), nn.Linear(2, 2)])
    assert len(list(modules)) == 2
    modules[1] = nn.Identity()
    with pytest.raises(TypeError, match="a Identity stands among modules of Linear"):
        list(modules)


@pytest.mark.parametrize("place", ["a block", "a layer"])
def test_prose_has_no_density_without_one_of_its_parts(place):
    """Filtered out by its type, as once, it would have given another density in silence."""
    flow = Prose(Config(channels=16, n_blocks=2, n_layers=2, head_dim=8))
    holder = flow.blocks if place == "a block" else flow.blocks[0].layers
    holder[1] = nn.Identity()
    x = peptide_task("GG").system.positions[None].float()
    with pytest.raises(TypeError, match="a Identity stands among modules of"), torch.no_grad():
        ProseSampler(flow).log_prob(peptide_task("GG"), x)
