"""The device that is not there sees what a GPU would refuse, and nothing else."""

import math

import pytest
import torch

import bgbench
from bgbench.core.calls import call_sample
from bgbench.core.elsewhere import elsewhere
from bgbench.testing import DensitySamplerLaws, SamplerLaws, peptide_task

MIXED = "expected all tensors to be on the same device"


@pytest.mark.parametrize(
    "operation",
    [
        lambda there, here: there + here,
        lambda there, here: here + there,
        lambda there, here: torch.where(there > 0, there, here),
        lambda there, here: torch.cat([there, here]),
        lambda there, here: there @ here,
        lambda there, here: torch.nn.functional.linear(there[None], here[None]),
        lambda there, here: there.gather(0, here.long()),
        lambda there, here: here[there.long()],
        lambda there, here: here.index_put_((torch.zeros(1, dtype=torch.long),), there[:1]),
        lambda there, here: there.new_zeros(3).add_(here),
        lambda there, here: torch.nn.functional.embedding(there.long(), here[:, None]),
    ],
)
def test_a_tensor_of_the_cpu_is_refused_beside_one_of_the_device(operation):
    with elsewhere() as device, pytest.raises(RuntimeError, match=MIXED):
        operation(torch.zeros(3, device=device), torch.zeros(3))


def test_what_is_not_moved_back_cannot_reach_numpy():
    with elsewhere() as device, pytest.raises(RuntimeError, match="numpy"):
        torch.zeros(3, device=device).numpy()


def test_a_generator_of_the_cpu_makes_no_numbers_of_the_device():
    with elsewhere() as device, pytest.raises(RuntimeError, match="expected a generator of the device"):
        torch.randn(3, device=device, generator=torch.Generator())


def test_what_a_gpu_allows_is_allowed_with_the_same_numbers():
    values = [3.0, 1.0, 2.0]
    with elsewhere() as device:
        a = torch.tensor(values, device=device)
        assert a.device == device
        assert a.new_tensor(values).tolist() == torch.as_tensor(values, device=device).tolist() == values
        assert (a * torch.tensor(2.0)).tolist() == [6.0, 2.0, 4.0]
        assert torch.where(a > 1, a, 0.0).tolist() == [3.0, 0.0, 2.0]
        assert a[torch.tensor([1])].tolist() == [1.0]
        assert bool((a > 2).any())
        assert float(a.sum()) == 6.0
        assert torch.arange(3, device=device).to(a).tolist() == [0.0, 1.0, 2.0]
        table = torch.zeros(2, 3, device=device)
        table[:, 0], table[torch.tensor([1])] = 5.0, a
        assert table.tolist() == [[5.0, 0.0, 0.0], values]
        into = torch.zeros(3)
        into.copy_(a)
    assert into.tolist() == values
    assert type(a.cpu()) is torch.Tensor
    assert a.cpu().tolist() == values


def test_lists_pick_the_rows_that_they_name():
    """PyTorch makes index tensors of lists by itself: they would hold no numbers there."""
    with elsewhere() as device:
        x = torch.arange(12.0).view(3, 4).to(device)
        assert x[:, [2, 0]].tolist() == [[2.0, 0.0], [6.0, 4.0], [10.0, 8.0]]
        assert x[[1], [3]].tolist() == [7.0]
        x[[0, 2]] = 1.0
        assert x.sum().item() == 8.0 + 22.0


def test_gradients_and_optimisers_work_there():
    network = torch.nn.Linear(3, 2)
    x, start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), network.weight.detach().clone()
    expected = torch.autograd.grad(network(x).square().sum(), network.weight)[0]
    with elsewhere() as device:
        network.to(device)
        adam = torch.optim.Adam(network.parameters())
        network(x.to(device)).square().sum().backward()
        assert network.weight.grad is not None
        assert network.weight.grad.device == device
        assert torch.allclose(network.weight.grad.cpu(), expected)
        adam.step()
        network.to("cpu")
    assert float((network.weight.detach() - start).abs().max()) == pytest.approx(1e-3, rel=1e-3)


class Cloud(bgbench.AbstractDensitySampler):
    """A normal around the start structure whose width is a weight; `faulty` forgets to move one tensor."""

    def __init__(self, faulty=""):
        self.faulty = faulty
        self.width = torch.full((3,), 0.01)

    def start(self, task):
        positions = task.system.positions.float()
        return positions if self.faulty == "positions" else positions.to(task.device)

    def draw(self, task, n_samples):
        self.width = self.width.to(task.device)
        shape = (n_samples, task.system.n_atoms, 3)
        if self.faulty == "noise":
            noise = torch.randn(shape, device=task.device, generator=task.generator)
        elif self.faulty == "unmoved noise":
            noise = torch.randn(shape, generator=task.generator)
        elif self.faulty == "own noise" and task.device.type != "cpu":
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(task.device)
        else:
            noise = task.normal(*shape)
        x = self.start(task) + self.width * noise
        if self.faulty == "numpy":
            x = torch.from_numpy(x.numpy())
        return bgbench.Proposal(x, self.log_prob(task, x))

    def log_prob(self, task, x):
        width = self.width = self.width.to(task.device)
        x = x if self.faulty == "log_prob" else x.to(task.device)
        z = (x - self.start(task)) / width
        constant = torch.arange(3) if self.faulty == "constant" else torch.zeros(3, device=task.device)
        return (-0.5 * z.square() - width.log() - 0.5 * math.log(2 * math.pi) + 0 * constant).sum((1, 2))


class Stranger(bgbench.AbstractSampler):
    """Has never heard of devices."""

    def sample(self, task, n_samples):
        noise = torch.randn(n_samples, task.system.n_atoms, 3, generator=task.generator)
        return bgbench.Proposal(task.system.positions + 0.01 * noise)


class TestCloud(DensitySamplerLaws):
    @pytest.fixture
    def sampler(self):
        return Cloud()


class TestStranger(SamplerLaws):
    @pytest.fixture
    def sampler(self):
        return Stranger()


@pytest.mark.parametrize("faulty", ["positions", "noise", "unmoved noise", "numpy", "constant"])
def test_the_law_sees_a_tensor_on_the_wrong_device(faulty):
    """Each of these works on the CPU, and ends in an error on a GPU."""
    sampler = Cloud(faulty)
    assert torch.isfinite(call_sample(sampler, peptide_task(), 2).x).all()
    with pytest.raises(RuntimeError, match=r"device|numpy"):
        DensitySamplerLaws().test_computes_on_any_device(sampler)


def test_the_law_sees_conformers_that_stay_where_they_came_from():
    """`log_prob` of its own draws works: what the core hands over is on the CPU."""
    with pytest.raises(RuntimeError, match=MIXED):
        DensitySamplerLaws().test_density_is_the_same_on_any_device(Cloud("log_prob"))


def test_the_law_sees_noise_that_depends_on_the_device():
    with pytest.raises(AssertionError, match="on another device conformers lie"):
        SamplerLaws().test_computes_on_any_device(Cloud("own noise"))
