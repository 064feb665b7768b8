"""Noise → data on a GPU: one-token steps of fixed shape, each of them one launch of a CUDA graph.

Token by token a flow is hundreds of small kernels, and a GPU waits for the processor that launches them. Here
a step reads and writes memory that stays where it is: weights of the block at work, what it needs of the
system, keys and values, coordinates, and the number of the token, which the step itself moves on. It is
recorded once and launched again for every token, every block and every peptide of like size. Recorded steps
differ only in how many tokens they look back on, in multiples of `WINDOW`; places that are not filled yet are
masked. Where there are no CUDA graphs the same steps are simply called.

Precision follows autocast: with bfloat16 the weights of linear maps, keys and values are stored in it,
and positions, layer norms, sums along the layers and log-determinants stay in float32.
"""

import copy
import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bgbench_prose.layers import AbstractLayer, M, Modulation
from bgbench_prose.network import Block, Config, Prose, Tokens
from bgbench_training.devices import device_of
from bgbench_training.memory import free_bytes, in_parts, samples_that_fit

WINDOW = 32
"""Tokens by which what a step looks back on grows."""

MOST = 4096
"""Samples of one run at most: the matrix products of a step are then as fast as larger ones."""

WARM_UP = 3
"""Steps before one is recorded, in which libraries allocate and choose what they need."""

WORKING_ROWS = 96
"""Times channels: numbers of one sample in the temporaries of a step, those of warm-up and graph together."""


def can_decode(z: Tensor) -> bool:
    """Whether these steps are meant for the device of z: for every one but the CPU."""
    return z.device.type != "cpu"


def has_graphs(device: torch.device) -> bool:
    """Whether steps can be recorded on a device."""
    return device.type == "cuda"


class Decoder:
    """Inverts a flow for a fixed number of samples and up to `width` tokens.

    Args:
        flow: the flow, on the device where to compute.
        samples: samples of one run.
        tokens: atoms of the largest peptide; rounded up to a multiple of `WINDOW`.
        dtype: of products, keys and values.
    """

    def __init__(self, flow: Prose, samples: int, tokens: int, dtype: torch.dtype) -> None:
        config, device = flow.config, device_of(flow)
        numbers = next(flow.parameters()).dtype
        self.flow, self.samples, self.width, self.dtype = flow, samples, padded(tokens), dtype
        self.block = working_copy(next(iter(flow.blocks)), dtype)
        heads, c = config.channels // config.head_dim, config.channels
        shape = (config.n_layers, 2, samples, heads, self.width, config.head_dim)
        self.cache = torch.zeros(shape, dtype=dtype, device=device)
        self.modulations = torch.zeros(config.n_layers, 6, self.width, c, dtype=numbers, device=device)
        self.added = torch.zeros(self.width, c, dtype=numbers, device=device)
        self.z = torch.zeros(samples, self.width, 3, dtype=numbers, device=device)
        self.x, self.log_det = torch.zeros_like(self.z), self.z.new_zeros(samples)
        self.token = torch.zeros(1, dtype=torch.long, device=device)
        self.places = torch.arange(self.width, device=device)
        self._steps: dict[int, Callable[[], None]] = {}

    def invert(self, z: Tensor, t: Tokens) -> tuple[Tensor, Tensor]:
        """As `decode.invert`, of at most `samples` samples."""
        n, tokens = z.shape[:2]
        condition = self.flow.conditioning(t)
        # Places of a run before may hold infinities: weighted with zero they would still make NaN.
        self.cache.zero_()
        log_det = z.new_zeros(n)
        for block, order in zip(reversed(list(self.flow.blocks)), t.orders.flip(0), strict=True):
            self._load(block, condition, order)
            steps = self._recorded_steps(tokens)
            self.z.zero_()
            self.z[:n, :tokens] = z[:, order[0]]
            self.x.copy_(self.z)
            self.log_det.zero_()
            self.token.zero_()
            for i in range(tokens - 1):
                steps[padded(i + 1)]()
            z = self.x[:n, :tokens][:, torch.argsort(order[0])]
            log_det += self.log_det[:n]
        return z, log_det

    def step(self, length: int) -> None:
        """One token through the block: its coordinates to those of the next, looking back on `length` places.

        Nothing here depends on a number that the processor would have to wait for.
        """
        i, block = self.token, self.block
        h = block.proj_in(self.x.index_select(1, i)) + self.added.index_select(0, i)
        filled = self.places[:length] <= i
        for k, layer in enumerate(block.layers):
            m = None if block.additive else Modulation(*self.modulations[k].index_select(1, i)[:, None])
            h = self._decode_token(layer, h, m, self.cache[k], filled)
        a, b = block.project_out(h[:, 0]).chunk(2, dim=-1)
        i += 1
        z = self.z.index_select(1, i)[:, 0]
        self.x.index_copy_(1, i, torch.addcmul(b, z, torch.exp(a))[:, None])
        self.log_det += a.sum(-1)

    def _decode_token(
        self, layer: AbstractLayer[M], h: Tensor, m: M, cache: Tensor, filled: Tensor
    ) -> Tensor:
        """As `decode` does; `filled (places,)` are those looked back on."""
        v = layer.enter(h, m)
        q, k, value = layer.project(v)
        cache[0].index_copy_(2, self.token, k.to(self.dtype))
        cache[1].index_copy_(2, self.token, value.to(self.dtype))
        keys, values = cache[:, :, :, : len(filled)]
        attended = F.scaled_dot_product_attention(q.to(self.dtype), keys, values, attn_mask=filled[None])
        return layer.finish(h, v, attended, m)

    def _load(self, block: Block, condition: Tensor, order: Tensor) -> None:
        """Put a block's weights, and what it needs of the system, where steps read them."""
        for ours, theirs in zip(self.block.parameters(), block.parameters(), strict=True):
            ours.copy_(theirs)
        prepared = block.prepare(condition, order)
        tokens = prepared.added.shape[1]
        self.added[:tokens] = prepared.added[0]
        for k, modulation in enumerate(prepared.modulations):
            if modulation is not None:
                self.modulations[k, :, :tokens] = torch.cat(modulation)

    def _recorded_steps(self, tokens: int) -> dict[int, Callable[[], None]]:
        """A step for each length up to `tokens`, recorded where there are CUDA graphs."""
        for length in range(WINDOW, padded(tokens) + 1, WINDOW):
            if length not in self._steps:
                self._steps[length] = self._record(length)
        return self._steps

    def _record(self, length: int) -> Callable[[], None]:
        def step() -> None:
            self.step(length)

        if not has_graphs(self.x.device):
            return step
        try:
            return self._capture(step)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            warnings.warn(
                f"prose: a CUDA graph could not be recorded ({error}); going on without, which is slower",
                RuntimeWarning,
                stacklevel=2,
            )
            return step

    def _capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """Record a step. What it changes is set before it is used."""
        device = self.x.device
        with torch.cuda.device(device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP):
                    self.token.zero_()
                    step()
                self.token.zero_()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
        replay: Callable[[], None] = graph.replay
        return replay


class Decoders:
    """The decoder of a flow, made for the size at hand and used again while that stays.

    Args:
        flow: the flow.
    """

    def __init__(self, flow: Prose) -> None:
        self.flow = flow
        self._decoder: Decoder | None = None
        self._sizes: dict[tuple[int, int], int] = {}

    def invert(self, z: Tensor, t: Tokens) -> tuple[Tensor, Tensor]:
        """As `decode.invert`, for any number of samples; where memory runs out, with fewer at a time."""
        n, tokens = z.shape[:2]
        # A single token passes unchanged: there is no step.
        if tokens < 2:
            return z.clone(), z.new_zeros(n)
        size, dtype = (n, padded(tokens)), product_dtype(self.flow, z)
        if size not in self._sizes:
            self._decoder = None
            self._sizes[size] = self._samples(n, tokens, dtype)

        def compute(rows: slice) -> tuple[Tensor, Tensor]:
            part = z[rows]
            try:
                return self._fitting(len(part), tokens, dtype).invert(part, t)
            except torch.cuda.OutOfMemoryError:
                self._decoder = None
                self._sizes.pop(size, None)
                raise

        parts = in_parts(compute, n, self._sizes[size])
        return torch.cat([x for x, _ in parts]), torch.cat([total for _, total in parts])

    def _samples(self, n: int, tokens: int, dtype: torch.dtype) -> int:
        """How many of n samples at a time: equal parts, which one decoder serves."""
        each = sample_bytes(self.flow.config, padded(tokens), dtype)
        fixed = sum(p.numel() for p in next(iter(self.flow.blocks)).parameters()) * dtype.itemsize
        most = samples_that_fit(free_bytes(device_of(self.flow)), each, min(n, MOST), fixed)
        return math.ceil(n / math.ceil(n / most))

    def _fitting(self, n: int, tokens: int, dtype: torch.dtype) -> Decoder:
        """A decoder for n samples: the one at hand, unless most of its samples would be padding."""
        decoder = self._decoder
        wanted = device_of(self.flow), padded(tokens), dtype
        if (
            decoder is None
            or (decoder.x.device, decoder.width, decoder.dtype) != wanted
            or not n <= decoder.samples <= 2 * n
        ):
            # The old one goes before the new one comes.
            self._decoder = decoder = None
            decoder = self._decoder = Decoder(self.flow, n, tokens, dtype)
        return decoder


def product_dtype(flow: Prose, z: Tensor) -> torch.dtype:
    """In which numbers the products of a flow are computed for z: autocast's, else those of its weights."""
    kind = z.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return next(flow.parameters()).dtype


def padded(tokens: int) -> int:
    """Tokens rounded up to a multiple of `WINDOW`."""
    return math.ceil(tokens / WINDOW) * WINDOW


def sample_bytes(config: Config, width: int, dtype: torch.dtype) -> int:
    """Bytes that a decoder needs for each sample: keys and values, coordinates, temporaries of a step."""
    cache = config.n_layers * 2 * width * config.channels * dtype.itemsize
    return cache + 4 * (2 * 3 * width + WORKING_ROWS * config.channels)


def working_copy(block: Block, dtype: torch.dtype) -> Block:
    """A copy of the block for weights to be loaded into; linear maps are in `dtype`, but the last."""
    made = copy.deepcopy(block).requires_grad_(False)
    for module in made.modules():
        if isinstance(module, nn.Linear) and module is not made.proj_out:
            module.to(dtype)
    return made
