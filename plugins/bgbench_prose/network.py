"""Prose: an autoregressive affine flow over atoms, one token an atom (arXiv 2508.18175, 2412.06329)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bgbench
from bgbench_prose.layers import AbstractLayer, Layer, Modulation, PlainLayer, sinusoid
from bgbench_prose.permutations import NAMES, PROSE, permutation
from bgbench_training.devices import without_autocast
from bgbench_training.modules import ModulesOf

ATOM_ROWS, RESIDUE_ROWS = 128, 64
CONDITION_BASE, POSITION_BASE = 1000.0, 10_000.0


@dataclass(frozen=True)
class Config:
    """Sizes. `scale` in nm; `orders` are used by the blocks in turn. The default is the published size.

    Ablations: `lookahead=False`; one order, or two, in `orders`; `conditioning="additive"`, the plain
    TarFlow, with learned positions for `most_tokens` atoms.
    """

    channels: int = 384
    n_blocks: int = 8
    n_layers: int = 8
    head_dim: int = 64
    scale: float = 0.35
    orders: tuple[str, ...] = PROSE
    lookahead: bool = True
    conditioning: str = "adaptive"
    most_tokens: int = 178

    def __post_init__(self) -> None:
        strange = sorted(set(self.orders) - set(NAMES))
        if strange or not self.orders:
            raise bgbench.BgbenchError(f"unknown atom orders {', '.join(strange) or '(none)'}")
        if self.conditioning not in ("adaptive", "additive"):
            raise bgbench.BgbenchError(f"conditioning is adaptive or additive, not '{self.conditioning}'")
        if self.channels % self.head_dim or self.channels % 2:
            raise bgbench.BgbenchError(
                f"channels ({self.channels}) must be even and a multiple of head_dim ({self.head_dim})"
            )


@dataclass(frozen=True)
class Tokens:
    """What the flow knows of its atoms: codes and `mask (b, tokens)`, `orders (blocks, b, tokens)`.

    b divides the batch: 1 where all samples are of one peptide, else row k stands for the k-th of b equal
    runs of samples. Padding is at the end, with code 0.
    """

    atom_type: Tensor
    residue_type: Tensor
    residue_position: Tensor
    sequence_length: Tensor
    mask: Tensor
    orders: Tensor


def tokens(peptides: Sequence[Sequence[bgbench.Atom]], config: Config) -> Tokens:
    """Tokens of a padded batch of peptides given by their atoms."""
    width = max(len(atoms) for atoms in peptides)
    names = [config.orders[k % len(config.orders)] for k in range(config.n_blocks)]
    rows: list[list[Tensor]] = [[] for _ in range(6)]
    for atoms in peptides:
        code, n = bgbench.encode_atoms(atoms), len(atoms)
        length = torch.full((n,), code.sequence_length)
        present = torch.ones(n, dtype=torch.long)
        columns = (code.atom_type, code.residue_type, code.residue_position, length, present)
        for row, column in zip(rows, columns, strict=False):
            row.append(F.pad(column, (0, width - n)))
        tail = torch.arange(n, width)
        rows[5].append(torch.stack([torch.cat([permutation(atoms, name), tail]) for name in names]))
    atom, residue, position, length, mask, orders = (torch.stack(row) for row in rows)
    return Tokens(atom, residue, position, length, mask.bool(), orders.transpose(0, 1))


class Conditioning(nn.Module):
    """Atom type, residue type, residue position, sequence length → `(b, tokens, channels)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.atom = nn.Embedding(ATOM_ROWS, channels)
        self.residue = nn.Embedding(RESIDUE_ROWS, channels)
        self.inner, self.outer = nn.Linear(4 * channels, channels), nn.Linear(channels, channels)
        self.channels = channels

    def forward(self, t: Tokens) -> Tensor:
        atom = self.atom(t.atom_type)
        waves = [
            sinusoid(value, self.channels, CONDITION_BASE).to(atom)
            for value in (t.residue_position, t.sequence_length)
        ]
        joined = torch.cat([atom, self.residue(t.residue_type), *waves], dim=-1)
        return self.outer(F.gelu(self.inner(joined))) * t.mask[..., None]


class Prepared(NamedTuple):
    """What a block needs of a system: rows added to its tokens `(b, tokens, channels)`, and one modulation a
    layer, None for layers that are not adaptive.
    """

    added: Tensor
    modulations: list[Modulation | None]


class Block(nn.Module):
    """One autoregressive affine map: z = (x − b) e^(−a), a and b from the tokens before."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c = config.channels
        self.proj_in, self.proj_out = nn.Linear(3, c), nn.Linear(c, 6)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)
        self.additive = config.conditioning == "additive"
        if self.additive:
            self.positions = nn.Embedding(config.most_tokens, c)
        else:
            self.position_scale = nn.Parameter(torch.full((1,), 0.01))
        self.lookahead = config.lookahead
        self.inner, self.outer = nn.Linear((2 if config.lookahead else 1) * c, c), nn.Linear(c, c)
        kind = PlainLayer if self.additive else Layer
        layers = (kind(c, config.head_dim) for _ in range(config.n_layers))
        self.layers = ModulesOf[AbstractLayer[Any]](AbstractLayer, layers)  # type: ignore[type-abstract]

    def prepare(self, condition: Tensor, order: Tensor) -> Prepared:
        """Compute what depends on the system alone; `condition` in atom order.

        Raises:
            BgbenchError: for more atoms than there are learned positions.
        """
        c = take(condition, order)
        if self.lookahead:
            c = torch.cat([c, F.pad(c[:, 1:], (0, 0, 0, 1))], dim=-1)
        c = self.outer(F.gelu(self.inner(c)))
        places = torch.arange(c.shape[1], device=c.device)
        modulations = [layer.modulation(c) for layer in self.layers]
        if not self.additive:
            waves = sinusoid(places, c.shape[2], POSITION_BASE).to(c)
            return Prepared(self.position_scale * waves[None], modulations)
        if len(places) > self.positions.num_embeddings:
            raise bgbench.BgbenchError(
                f"{len(places)} atoms, but positions were learned for {self.positions.num_embeddings} only: "
                "a plain TarFlow does not extrapolate"
            )
        return Prepared(c + self.positions(places), modulations)

    def project_out(self, h: Tensor) -> Tensor:
        """a and b side by side, `(…, 6)`, in the precision of the weights whatever autocast says.

        Log-determinants are sums of a.
        """
        with without_autocast(h):
            out: Tensor = self.proj_out(h.to(self.proj_out.weight.dtype))
            return out

    def forward(self, x: Tensor, condition: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """`x (batch, tokens, 3)` in atom order → z in atom order, and a in token order."""
        added, modulations = self.prepare(condition, order)
        order = widen(order, len(x))
        x = take(x, order)
        h = self.proj_in(x) + widen(added, len(x))
        for layer, modulation in zip(self.layers, modulations, strict=True):
            m = None if modulation is None else modulation.apply(lambda rows: widen(rows, len(x)))
            h = layer(h, m)
        a, b = F.pad(self.project_out(h)[:, :-1], (0, 0, 1, 0)).chunk(2, dim=-1)
        z = (x - b) * torch.exp(-a)
        return take(z, torch.argsort(order, dim=-1)), a


class Prose(nn.Module):
    """The flow, data → noise. Coordinates in units of `config.scale`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.conditioning = Conditioning(config.channels)
        self.blocks = ModulesOf(Block, (Block(config) for _ in range(config.n_blocks)))

    def forward(self, x: Tensor, t: Tokens) -> tuple[Tensor, Tensor]:
        """`x (batch, tokens, 3)` → z `(batch, tokens, 3)` and log|det ∂z/∂x| `(batch,)`."""
        condition = self.conditioning(t)
        mask = widen(t.mask[..., None], len(x)).to(x)
        log_det = x.new_zeros(x.shape[0])
        for block, order in zip(self.blocks, t.orders, strict=True):
            x, a = block(x, condition, order)
            x = x * mask
            log_det = log_det - (a * take(mask, widen(order, len(x)))).sum((1, 2))
        return x, log_det

    def n_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())


def log_prior(z: Tensor, beta: float) -> Tensor:
    """log N(z; 0, I/β) `(batch,)` of `z (batch, tokens, 3)`."""
    size = z.shape[1] * z.shape[2]
    return -0.5 * beta * z.square().sum((1, 2)) + 0.5 * size * math.log(beta / (2 * math.pi))


def widen(rows: Tensor, batch: int) -> Tensor:
    """Rows `(b, …)` for `batch` samples: one row serves all, else each serves its run of batch / b."""
    return rows if rows.shape[0] in (1, batch) else rows.repeat_interleave(batch // rows.shape[0], dim=0)


def take(x: Tensor, order: Tensor) -> Tensor:
    """Rows of `x (batch or 1, tokens, k)` in `order (batch or 1, tokens)`."""
    if order.shape[0] == 1:
        return x[:, order[0]]
    if x.shape[0] == 1:
        x = x.expand(order.shape[0], -1, -1)
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))
