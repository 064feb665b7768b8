"""Drawing on a GPU, rehearsed on the CPU: steps of fixed shape, batches by memory, and too little of it."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from bgbench import peptide
from bgbench.core.elsewhere import elsewhere
from bgbench.testing import peptide_task
from bgbench_prose import cuda
from bgbench_prose.cuda import Decoder, Decoders
from bgbench_prose.decode import invert
from bgbench_prose.network import Config, Prose, tokens
from bgbench_prose.sampler import ProseSampler
from bgbench_training import memory

SMALL = Config(channels=16, n_blocks=2, n_layers=2, head_dim=8)


def small(config=SMALL, width=0.03):
    flow = Prose(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in flow.parameters():
        parameter += width * torch.randn(parameter.shape, generator=generator)
    return flow


@pytest.fixture(scope="module")
def flow():
    return small()


def noise(n, name):
    system = peptide(name)
    return torch.randn(n, system.n_atoms, 3, generator=torch.Generator().manual_seed(1)), system.atoms


@pytest.mark.parametrize("conditioning", ["adaptive", "additive"])
def test_steps_of_fixed_shape_give_the_conformers_of_steps_that_grow(conditioning):
    """GW has 41 atoms, more than one window; the decoder has places and samples to spare."""
    config = replace(SMALL, conditioning=conditioning)
    flow = small(config).double()
    decoder = Decoder(flow, 6, 50, torch.float64)
    for name in ("GW", "GG"):
        z, atoms = noise(4, name)
        z, t = z.double(), tokens([atoms], config)
        x, log_det = invert(flow, z, t)
        with torch.inference_mode():
            there, log_det_there = decoder.invert(z, t)
        assert torch.allclose(there, x, atol=1e-9)
        assert torch.allclose(log_det_there, log_det, atol=1e-9)


def test_what_an_overflow_left_behind_does_not_reach_the_next_samples(flow):
    z, atoms = noise(3, "GG")
    t = tokens([atoms], flow.config)
    decoder = Decoder(flow, 3, z.shape[1], torch.float32)
    with torch.inference_mode():
        x, _ = decoder.invert(z, t)
        decoder.invert(torch.full_like(z, torch.inf), t)
        assert not torch.isfinite(decoder.cache).all()
        again, _ = decoder.invert(z, t)
    assert torch.equal(again, x)


def test_bfloat16_is_that_of_the_plain_way(flow):
    """Weights, keys and values are stored in bfloat16, log-determinants are not."""
    z, atoms = noise(4, "GG")
    t = tokens([atoms], flow.config)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        x, log_det = invert(flow, z, t)
        there, log_det_there = Decoders(flow).invert(z, t)
    exact, _ = invert(flow, z, t)
    assert there.dtype == log_det_there.dtype == torch.float32
    assert not torch.equal(log_det_there, log_det_there.bfloat16().float())
    assert float((there - x).abs().max()) <= 2 * float((x - exact).abs().max())
    assert torch.allclose(log_det_there, log_det, atol=0.5)


@pytest.fixture
def little_memory(monkeypatch):
    """A device on which more than three samples at a time end in an error."""
    sizes = []
    original = Decoder.invert

    def limited(self, z, t):
        sizes.append(len(z))
        if len(z) > 3:
            raise torch.cuda.OutOfMemoryError
        return original(self, z, t)

    monkeypatch.setattr(Decoder, "invert", limited)
    return sizes


def test_where_memory_runs_out_the_same_conformers_come_in_smaller_batches(flow, little_memory):
    z, atoms = noise(10, "GG")
    t = tokens([atoms], flow.config)
    x, log_det = invert(flow, z, t)
    with torch.inference_mode():
        there, log_det_there = Decoders(flow).invert(z, t)
    assert little_memory == [10, 5, 3, 3, 3, 1]
    assert torch.allclose(there, x, atol=1e-3)
    assert torch.allclose(log_det_there, log_det, atol=1e-3)


def test_a_single_sample_that_does_not_fit_is_an_error():
    def compute(rows):
        raise torch.cuda.OutOfMemoryError(f"{rows.stop - rows.start}")

    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"^1$"):
        memory.in_parts(compute, 5, 5)


def test_one_decoder_serves_equal_parts_of_a_batch(flow, monkeypatch):
    made = []
    original = Decoder.__init__

    def counted(self, flow, samples, tokens, dtype):
        made.append(samples)
        original(self, flow, samples, tokens, dtype)

    monkeypatch.setattr(Decoder, "__init__", counted)
    each = cuda.sample_bytes(SMALL, 32, torch.float32)
    weights = 4 * sum(parameter.numel() for parameter in flow.blocks[0].parameters())
    free = round((6.5 * each + weights) / memory.SHARE)
    monkeypatch.setattr(cuda, "free_bytes", lambda device: free)
    z, atoms = noise(10, "GG")
    t = tokens([atoms], flow.config)
    decoders = Decoders(flow)
    for _ in range(2):
        with torch.inference_mode():
            decoders.invert(z, t)
    assert made == [5]


def test_samples_by_memory():
    fitting = memory.samples_that_fit
    assert fitting(None, 10, 512) == 512
    assert fitting(10**9, 10**6, 512) == 512
    assert fitting(10**8, 10**6, 512) == 64
    assert fitting(10**8, 10**6, 512, fixed=60 * 10**6) == 10
    assert fitting(10**8, 10**9, 512) == 1
    assert memory.free_bytes(torch.device("cpu")) is None


def test_bytes_of_a_decoder_are_those_that_it_has(flow):
    decoder = Decoder(flow, 4, 17, torch.bfloat16)
    held = sum(t.numel() * t.element_size() for t in (decoder.cache, decoder.z, decoder.x))
    working = 4 * 4 * cuda.WORKING_ROWS * SMALL.channels
    assert 4 * cuda.sample_bytes(SMALL, decoder.width, torch.bfloat16) == held + working


def test_a_stream_on_another_device_is_the_sequence_of_batches():
    """Several batches are decoded at once there; their noise is that of one after the other."""
    sampler = ProseSampler(small())
    sampler.chunk = 3
    here = sampler.sample(peptide_task("GG"), 8)
    with elsewhere() as device:
        task = replace(peptide_task("GG"), device=device)
        parts = list(sampler.stream(task, 8))
    assert [len(part.x) for part in parts] == [8]
    assert torch.allclose(parts[0].x, here.x, atol=1e-5)
    assert torch.allclose(parts[0].log_q, here.log_q, atol=1e-3)


@pytest.mark.parametrize("most", [2, 5])
def test_densities_in_parts_have_the_gradients_of_the_whole(most):
    x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = []

    def density(part, rows):
        sizes.append(len(part))
        assert torch.equal(part, x[rows])
        return -(part**4).sum((1, 2)).exp().log1p()

    at, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    scale = torch.arange(1.0, 6.0, dtype=torch.float64)
    (scale * density(at, slice(None))).sum().backward()
    sizes.clear()
    (scale * memory.density_in_parts(density, other, most)).sum().backward()
    assert max(sizes) == most
    assert torch.allclose(other.grad, at.grad)
    with torch.no_grad():
        assert torch.equal(memory.density_in_parts(density, x, most), density(x, slice(None)))


class RecordedGraph:
    """Calls again what was called while it was recorded, as a CUDA graph launches what was launched."""

    def __init__(self):
        self.calls = []

    def replay(self):
        for call in self.calls:
            call()


@pytest.fixture
def pretended_graphs(monkeypatch):
    """CUDA's streams and graphs for tensors of the CPU; a step that is being recorded is not executed."""
    recording, execute = [], Decoder.step

    @contextmanager
    def record(graph):
        recording.append(graph)
        yield
        recording.pop()

    def step(self, length):
        if recording:
            recording[-1].calls.append(lambda: execute(self, length))
        else:
            execute(self, length)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, value in {
        "device": lambda device: nullcontext(),
        "stream": lambda stream: nullcontext(),
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "CUDAGraph": RecordedGraph,
        "graph": record,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(Decoder, "step", step)

    def capture(self, length):
        return self._capture(lambda: self.step(length))

    monkeypatch.setattr(Decoder, "_record", capture)


def test_recorded_steps_are_launched_for_every_token_and_block(flow, pretended_graphs):
    """Warming up leaves nothing behind, and peptides of like size are served by the same graphs."""
    decoder = Decoder(flow, 3, 17, torch.float32)
    for name in ("GG", "AA"):
        z, atoms = noise(3, name)
        t = tokens([atoms], flow.config)
        x, log_det = invert(flow, z, t)
        with torch.inference_mode():
            there, log_det_there = decoder.invert(z, t)
        assert torch.allclose(there, x, atol=1e-4)
        assert torch.allclose(log_det_there, log_det, atol=1e-3)
    assert list(decoder._steps) == [32]


def test_where_no_graph_can_be_recorded_steps_are_called(flow, monkeypatch):
    z, atoms = noise(2, "GG")
    t = tokens([atoms], flow.config)
    decoder = Decoder(flow, 2, 17, torch.float32)
    with torch.inference_mode():
        x, _ = decoder.invert(z, t)
    decoder._steps.clear()

    def broken(self, step):
        raise RuntimeError("capture is not permitted")

    monkeypatch.setattr(Decoder, "_capture", broken)
    monkeypatch.setattr(cuda, "has_graphs", lambda device: True)
    with (
        torch.inference_mode(),
        pytest.warns(RuntimeWarning, match=r"could not be recorded \(capture is not permitted\)"),
    ):
        there, _ = decoder.invert(z, t)
    assert torch.equal(there, x)
