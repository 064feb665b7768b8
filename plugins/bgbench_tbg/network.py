"""The vector field: an EGNN over all pairs of atoms (arXiv 2102.09844), as in arXiv 2406.14426."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bgbench

ATOM_KINDS, RESIDUE_KINDS = 54, 20
REACH = 15.0
"""Sum over layers of the longest step along a pair, as tanh bounds it."""
EPSILON = 1e-8


@dataclass(frozen=True)
class Config:
    """Sizes; peptides of `shortest` to `longest` residues; `scale` in nm. The default is ECNF++."""

    channels: int = 256
    n_layers: int = 9
    shortest: int = 2
    longest: int = 4
    scale: float = 0.35

    def __post_init__(self) -> None:
        if min(self.channels, self.n_layers, self.shortest) < 1 or self.shortest > self.longest:
            raise bgbench.BgbenchError(f"no such vector field: {self}")
        if not self.scale > 0:
            raise bgbench.BgbenchError(f"scale is a length in nm, not {self.scale}")

    @property
    def lengths(self) -> int:
        """Numbers of residues that are told apart; a single one needs no telling."""
        return self.longest - self.shortest + 1 if self.longest > self.shortest else 0

    @property
    def n_features(self) -> int:
        """Numbers that an atom is known by, time left out."""
        return ATOM_KINDS + self.longest + RESIDUE_KINDS + self.lengths


@dataclass(frozen=True)
class Molecules:
    """What the field knows of b peptides: one-hot `features (b, atoms, n_features)`, `mask (b, atoms)`.

    b divides the batch: row k stands for the k-th of b equal runs of samples. Padding is at the end.
    """

    features: Tensor
    mask: Tensor


def molecules(peptides: Sequence[tuple[bgbench.Atom, ...]], config: Config) -> Molecules:
    """Peptides of one batch.

    Raises:
        BgbenchError: for a peptide longer than the field knows, or an atom without a code.
    """
    rows = [features(atoms, config) for atoms in peptides]
    width = max(len(row) for row in rows)
    mask = torch.tensor([[k < len(row) for k in range(width)] for row in rows])
    return Molecules(torch.stack([F.pad(row, (0, 0, 0, width - len(row))) for row in rows]), mask)


def features(atoms: tuple[bgbench.Atom, ...], config: Config) -> Tensor:
    """`(atoms, n_features)`: one-hot atom type, residue position, residue type and sequence length.

    A fragment shorter than any peptide the field knows is told no length.
    """
    codes = bgbench.encode_atoms(atoms)
    length = codes.sequence_length
    if length > config.longest:
        raise bgbench.BgbenchError(
            f"a peptide of {length} residues: this field knows {config.shortest} to {config.longest}"
        )
    parts = [
        F.one_hot(codes.atom_type - 1, ATOM_KINDS),
        F.one_hot(codes.residue_position - 1, config.longest),
        F.one_hot(codes.residue_type - 1, RESIDUE_KINDS),
    ]
    if config.lengths:
        told = torch.arange(config.shortest, config.longest + 1) == length
        parts.append(told.expand(len(atoms), -1))
    return torch.cat(parts, dim=1).float()


@dataclass(frozen=True)
class Pairs:
    """Geometry of all pairs: `d = x_i − x_j (b, n, n, 3)`, `r = ‖d‖² (b, n, n)`, and which pairs count."""

    d: Tensor
    r: Tensor
    mask: Tensor

    @classmethod
    def of(cls, x: Tensor, mask: Tensor) -> "Pairs":
        """Pairs of `x (b, n, 3)`; none of an atom with itself or with padding `~mask (b, n)`."""
        d = x[:, :, None] - x[:, None]
        both = mask[:, :, None] & mask[:, None] & ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return cls(d, d.square().sum(-1), both.to(x))


@dataclass(frozen=True)
class Edges:
    """A layer at every pair `(b, n, n, …)`, from the sum before the first SiLU to the step `along` d.

    `m` is the message, `gate` its attention, zero for pairs that do not count; `length` is tanh times the
    layer's reach, and `along` that over √r + 1.
    """

    first: Tensor
    second: Tensor
    gate: Tensor
    m: Tensor
    third: Tensor
    length: Tensor
    along: Tensor


class Layer(nn.Module):
    """One round of messages: states `h (b, n, channels)` and positions `x (b, n, 3)` move.

    The last layer of a field moves positions only: nobody reads its states.
    """

    def __init__(self, channels: int, reach: float, last: bool) -> None:
        super().__init__()
        self.reach = reach
        self.edge_in = nn.Linear(2 * channels + 2, channels)
        self.edge_out = nn.Linear(channels, channels)
        self.attention = nn.Linear(channels, 1)
        self.step_in = nn.Linear(channels, channels)
        self.step_out = nn.Linear(channels, 1, bias=False)
        nn.init.xavier_uniform_(self.step_out.weight, gain=0.001)
        self.node_in = None if last else nn.Linear(2 * channels, channels)
        self.node_out = None if last else nn.Linear(channels, channels)

    @property
    def blocks(self) -> tuple[Tensor, Tensor, Tensor]:
        """`edge_in` by what it reads: h_i and h_j `(channels, channels)`, r and r₀ `(channels, 2)`."""
        c = self.edge_out.in_features
        here, there, distances = self.edge_in.weight.split((c, c, 2), dim=1)
        return here, there, distances

    def edges(self, h: Tensor, pairs: Pairs, r0: Tensor) -> Edges:
        """Messages and steps; the products with h are taken once an atom, not once a pair."""
        here, there, distances = self.blocks
        first = F.linear(torch.stack([pairs.r, r0], dim=-1), distances, self.edge_in.bias)
        first = first + F.linear(h, here)[:, :, None] + F.linear(h, there)[:, None]
        second = self.edge_out(F.silu(first))
        plain = F.silu(second)
        gate = torch.sigmoid(self.attention(plain)) * pairs.mask[..., None]
        m = plain * gate
        third = self.step_in(m)
        length = self.reach * torch.tanh(self.step_out(F.silu(third)))[..., 0] * pairs.mask
        return Edges(first, second, gate, m, third, length, length * shorter(pairs.r))

    def forward(self, h: Tensor, x: Tensor, pairs: Pairs, r0: Tensor) -> tuple[Tensor, Tensor]:
        """h and x after the layer."""
        e = self.edges(h, pairs, r0)
        return self.states(h, e), x + (pairs.d * e.along[..., None]).sum(2)

    def states(self, h: Tensor, e: Edges) -> Tensor:
        """h after the layer."""
        if self.node_in is None or self.node_out is None:
            return h
        return h + self.node_out(F.silu(self.node_in(torch.cat([h, e.m.sum(2)], dim=-1))))


def shorter(r: Tensor) -> Tensor:
    """1 / (√(r + 1e-8) + 1)."""
    return 1 / (torch.sqrt(r + EPSILON) + 1)


class Field(nn.Module):
    """v(x, t) of atoms in units of `config.scale`: turns with x, moves with exchanged atoms, has no mean."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Linear(config.n_features + 1, config.channels)
        reach, last = REACH / config.n_layers, config.n_layers - 1
        self.layers = nn.ModuleList(
            Layer(config.channels, reach, last=k == last) for k in range(config.n_layers)
        )

    @property
    def rounds(self) -> list[Layer]:
        """The layers in turn."""
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def n_parameters(self) -> int:
        """Numbers to learn."""
        return sum(parameter.numel() for parameter in self.parameters())

    def embed(self, t: Tensor, m: Molecules, n: int) -> Tensor:
        """States before the first layer `(n, atoms, channels)` at times `t`, one or `(n,)`."""
        known, of_time = self.embedding.weight.split((self.config.n_features, 1), dim=1)
        h = F.linear(m.features, known, self.embedding.bias).repeat_interleave(n // len(m.mask), 0)
        return h + of_time[:, 0] * t.reshape(-1, 1, 1)

    def forward(self, x: Tensor, t: Tensor, m: Molecules) -> Tensor:
        """`x (n, atoms, 3)`, `t` one or `(n,)` → `v (n, atoms, 3)`, zero on padding."""
        mask = m.mask.repeat_interleave(len(x) // len(m.mask), 0)
        h, moved, r0 = self.embed(t, m, len(x)), x, None
        for layer in self.rounds:
            pairs = Pairs.of(moved, mask)
            r0 = pairs.r if r0 is None else r0
            h, moved = layer(h, moved, pairs, r0)
        return without_mean(moved - x, mask)


def without_mean(v: Tensor, mask: Tensor) -> Tensor:
    """`v (n, atoms, 3)` less its mean over the atoms that are there; zero elsewhere."""
    there = mask.to(v)[..., None]
    v = v * there
    return v - there * v.sum(1, keepdim=True) / there.sum(1, keepdim=True)
