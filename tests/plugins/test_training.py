"""What the trained plugins share: the paired optimiser, starting from weights at hand."""

import pytest
import torch
from torch import nn

from bgbench import BgbenchError
from bgbench.core.plugins import build_sampler
from bgbench_training.optimizers import MuonAdamW, matrices_of, optimizer_of
from bgbench_verse.recipe import VerseRecipe
from bgbench_verse.training import train
from bgbench_verse.weights import load

PAIRED = VerseRecipe(config="verse-tiny", optimizer="muon", lr=1e-2, matrix_lr=0.02)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.wide, self.narrow = nn.Embedding(10, 12), nn.Linear(12, 16), nn.Linear(16, 3)

    def forward(self, index):
        return self.narrow(torch.tanh(self.wide(self.table(index))))


def made(seed):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        net = Net()
    return net, optimizer_of(net, PAIRED, (0.9, 0.99), 0.0)[0]


def steps(net, optimizer, seeds):
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        index = torch.randint(0, 10, (32,), generator=generator)
        target = torch.stack([index % 2, index % 3, index % 5], dim=1).float()
        optimizer.zero_grad()
        loss = (net(index) - target).square().mean()
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_matrices_are_wide_linear_weights_alone():
    net = Net()
    assert [weight is net.wide.weight for weight in matrices_of(net)] == [True]


def test_muon_moves_every_weight_and_lowers_the_loss(seed):
    net, optimizer = made(seed)
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    first = steps(net, optimizer, [0])
    assert steps(net, optimizer, range(1, 150)) < first / 4
    assert all(not torch.equal(before[name], weight) for name, weight in net.named_parameters())


def test_state_saved_and_loaded_goes_on_to_the_same_bits(seed):
    whole, optimizer = made(seed)
    steps(whole, optimizer, range(3))
    half, state = {k: v.clone() for k, v in whole.state_dict().items()}, optimizer.state_dict()
    state = torch.utils._pytree.tree_map(lambda v: v.clone() if torch.is_tensor(v) else v, state)
    steps(whole, optimizer, range(3, 6))
    resumed, other = made(seed + 1)
    resumed.load_state_dict(half)
    other.load_state_dict(state)
    steps(resumed, other, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_schedule_moves_both_rates():
    _, optimizer = made(0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [0.02, 0.01], total_steps=10, pct_start=0.5, div_factor=10.0, cycle_momentum=False
    )
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.002, 0.001])
    for _ in range(4):
        optimizer.step()
        cycle.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.01])
    assert [part.param_groups[0]["lr"] for part in optimizer._parts] == pytest.approx([0.02, 0.01])


def test_checkpoints_of_another_optimiser_and_unknown_names_are_refused():
    _, optimizer = made(0)
    adam = torch.optim.AdamW(Net().parameters())
    with pytest.raises(BgbenchError, match="is of a run with optimizer=adamw"):
        optimizer.load_state_dict(adam.state_dict())
    assert isinstance(optimizer, MuonAdamW)
    with pytest.raises(BgbenchError, match="--set optimizer=sgd: 'sgd' is not one of adamw, muon"):
        VerseRecipe.build({"optimizer": "sgd"})


def test_training_starts_from_weights_at_hand(tmp_path, make_training_file):
    for name in ("GS", "GG"):
        make_training_file(tmp_path / "data", name)
    options = {"config": "verse-tiny", "data": str(tmp_path / "data"), "batch": "8", "optimizer": "muon"}
    first = train({**options, "out": str(tmp_path / "first"), "steps": "3"})
    (tmp_path / "data" / "GS.npz").unlink()
    make_training_file(tmp_path / "data", "SG")
    # A rate of nearly nothing leaves the weights where they started.
    still = {"lr": "1e-12", "matrix_lr": "1e-12", "steps": "2", "start": str(first)}
    second = train({**options, **still, "out": str(tmp_path / "second")})
    one, two = load(first), load(second)
    assert two.vocabulary == one.vocabulary
    assert two.card["start"] == str(first)
    # What the weights had seen before counts as theirs, its time too.
    assert two.card["training_sequences"] == ["GG", "GS", "SG"]
    assert two.card["training_hours"] > one.card["training_hours"] > 0
    assert two.card["before"]["steps"] == 3
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    with pytest.raises(BgbenchError, match="does not fit verse-mini"):
        train({**options, "config": "verse-mini", "start": str(first), "out": str(tmp_path / "third")})


@pytest.mark.parametrize("name", ["model.ckpt", "model.pt", "some/prose-mini", "nosuch"])
@pytest.mark.parametrize("sampler", ["prose", "tbg", "verse"])
def test_weights_that_are_none_are_refused_by_name(sampler, name):
    with pytest.raises(BgbenchError, match=f"weights={name}: neither packaged weights nor a file that"):
        build_sampler(sampler, {"weights": name})
