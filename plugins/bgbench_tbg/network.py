"""The vector field: an EGNN over all pairs of atoms (arXiv 2102.09844), as in arXiv 2406.14426.

States h_i start from what atom i is and from the time. A layer sends messages along every pair, with
d = x_i − x_j, r = ‖d‖² and r₀ the same before the first layer:

    m_ij = SiLU(W₂ SiLU(W₁ e_ij)),           e_ij = [h_i, h_j, r, r₀]
    m_ij ← m_ij σ(w·m_ij)                    attention
    x_i  ← x_i + Σ_j d / (√(r + 1e-8) + 1) · reach · tanh(MLP(m_ij)),   reach = 15 / layers
    h_i  ← h_i + MLP([h_i, Σ_j m_ij])

and the velocity is x after the last layer minus x before the first, without its mean. It turns with x, moves
with exchanged atoms, and does not see where x is. Positions are in units of `scale` (nm), t in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bgbench
from bgbench_training.modules import ModulesOf

ATOM_TYPES, RESIDUE_TYPES = 54, 20
TOTAL_REACH = 15.0
"""Sum over layers of the longest step along a pair, as tanh bounds it."""
EPSILON = 1e-8


@dataclass(frozen=True)
class FieldConfig:
    """Sizes of a vector field; the default is ECNF++. The fields' names are those in weights files.

    Attributes:
        channels: Of states and messages.
        n_layers: Layers.
        shortest: Residues of the shortest peptide.
        longest: Residues of the longest peptide.
        scale: nm, the unit of positions.

    Raises:
        BgbenchError: for sizes that no field can have.
    """

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
    def n_lengths(self) -> int:
        """Peptide lengths with a code of their own; none if there is a single one."""
        return self.longest - self.shortest + 1 if self.longest > self.shortest else 0

    @property
    def n_features(self) -> int:
        """Features of an atom, time left out."""
        return ATOM_TYPES + self.longest + RESIDUE_TYPES + self.n_lengths


@dataclass(frozen=True)
class EncodedPeptides:
    """b peptides as the field reads them: one-hot `features (b, atoms, n_features)`, `mask (b, atoms)`.

    b divides the number of samples: peptide k belongs to the k-th of b equal runs. Padding is at the end.
    """

    features: Tensor
    mask: Tensor


def encode_peptides(peptides: Sequence[tuple[bgbench.Atom, ...]], config: FieldConfig) -> EncodedPeptides:
    """The peptides of one batch, padded.

    Raises:
        BgbenchError: for a peptide longer than the field knows, or an atom without a code.
    """
    rows = [atom_features(atoms, config) for atoms in peptides]
    width = max(len(row) for row in rows)
    mask = torch.tensor([[k < len(row) for k in range(width)] for row in rows])
    return EncodedPeptides(torch.stack([F.pad(row, (0, 0, 0, width - len(row))) for row in rows]), mask)


def atom_features(atoms: tuple[bgbench.Atom, ...], config: FieldConfig) -> Tensor:
    """`(atoms, n_features)`: one-hot atom type, residue position, residue type and sequence length.

    The length of a fragment shorter than `config.shortest` is all zeros.

    Raises:
        BgbenchError: for more residues than `config.longest`, or an atom without a code.
    """
    codes = bgbench.encode_atoms(atoms)
    length = codes.sequence_length
    if length > config.longest:
        raise bgbench.BgbenchError(
            f"a peptide of {length} residues: this field knows {config.shortest} to {config.longest}"
        )
    parts = [
        F.one_hot(codes.atom_type - 1, ATOM_TYPES),
        F.one_hot(codes.residue_position - 1, config.longest),
        F.one_hot(codes.residue_type - 1, RESIDUE_TYPES),
    ]
    if config.n_lengths:
        one_hot_length = torch.arange(config.shortest, config.longest + 1) == length
        parts.append(one_hot_length.expand(len(atoms), -1))
    return torch.cat(parts, dim=1).float()


@dataclass(frozen=True)
class PairGeometry:
    """All pairs of atoms.

    Attributes:
        d: x_i − x_j, `(b, n, n, 3)`.
        squared_distance: r = ‖d‖², `(b, n, n)`.
        mask: `(b, n, n)`, 1 for pairs that count and 0 for an atom with itself or with padding.
    """

    d: Tensor
    squared_distance: Tensor
    mask: Tensor

    @classmethod
    def of(cls, x: Tensor, mask: Tensor) -> "PairGeometry":
        """The pairs of `x (b, n, 3)`, `mask (b, n)` being true of atoms that are there."""
        d = x[:, :, None] - x[:, None]
        both = mask[:, :, None] & mask[:, None] & ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        return cls(d, d.square().sum(-1), both.to(x))


@dataclass(frozen=True)
class PairActivations:
    """What a layer computes at every pair `(b, n, n, …)`.

    Attributes:
        edge_input: W₁ e_ij with its bias, before the first SiLU; `channels`.
        edge_output: Before the second SiLU; `channels`.
        gate: σ of attention, zero for masked pairs; 1.
        message: m_ij after the gate; `channels`.
        step_input: Before the SiLU of the step's MLP; `channels`.
        step_length: reach · tanh, `(b, n, n)`.
        step: `step_length` / (√(r + 1e-8) + 1), the factor of d, `(b, n, n)`.
    """

    edge_input: Tensor
    edge_output: Tensor
    gate: Tensor
    message: Tensor
    step_input: Tensor
    step_length: Tensor
    step: Tensor


class EquivariantLayer(nn.Module):
    """One round of messages: states `h (b, n, channels)` and positions `x (b, n, 3)` are updated.

    The last layer of a field updates positions only, for nothing reads its states.
    """

    def __init__(self, channels: int, reach: float, *, is_last: bool) -> None:
        super().__init__()
        self.reach = reach
        self.edge_in = nn.Linear(2 * channels + 2, channels)
        self.edge_out = nn.Linear(channels, channels)
        self.attention = nn.Linear(channels, 1)
        self.step_in = nn.Linear(channels, channels)
        self.step_out = nn.Linear(channels, 1, bias=False)
        nn.init.xavier_uniform_(self.step_out.weight, gain=0.001)
        self.node_in = None if is_last else nn.Linear(2 * channels, channels)
        self.node_out = None if is_last else nn.Linear(channels, channels)

    @property
    def edge_input_blocks(self) -> tuple[Tensor, Tensor, Tensor]:
        """W₁ by what it multiplies: h_i and h_j `(channels, channels)`, r and r₀ `(channels, 2)`."""
        c = self.edge_out.in_features
        by_h_i, by_h_j, by_distances = self.edge_in.weight.split((c, c, 2), dim=1)
        return by_h_i, by_h_j, by_distances

    def pair_activations(self, h: Tensor, pairs: PairGeometry, r_first: Tensor) -> PairActivations:
        """Messages and steps; products with h are taken once an atom, not once a pair."""
        by_h_i, by_h_j, by_distances = self.edge_input_blocks
        distances = torch.stack([pairs.squared_distance, r_first], dim=-1)
        edge_input = F.linear(distances, by_distances, self.edge_in.bias)
        edge_input = edge_input + F.linear(h, by_h_i)[:, :, None] + F.linear(h, by_h_j)[:, None]
        edge_output = self.edge_out(F.silu(edge_input))
        ungated = F.silu(edge_output)
        gate = torch.sigmoid(self.attention(ungated)) * pairs.mask[..., None]
        message = ungated * gate
        step_input = self.step_in(message)
        step_length = self.reach * torch.tanh(self.step_out(F.silu(step_input)))[..., 0] * pairs.mask
        step = step_length * distance_damping(pairs.squared_distance)
        return PairActivations(edge_input, edge_output, gate, message, step_input, step_length, step)

    def forward(self, h: Tensor, x: Tensor, pairs: PairGeometry, r_first: Tensor) -> tuple[Tensor, Tensor]:
        """h and x after the layer; `r_first (b, n, n)` is r before the first layer."""
        activations = self.pair_activations(h, pairs, r_first)
        moved = x + (pairs.d * activations.step[..., None]).sum(2)
        return self.update_states(h, activations), moved

    def update_states(self, h: Tensor, pairs: PairActivations) -> Tensor:
        """h after the layer; h itself after the last one."""
        if self.node_in is None or self.node_out is None:
            return h
        return h + self.node_out(F.silu(self.node_in(torch.cat([h, pairs.message.sum(2)], dim=-1))))


def distance_damping(squared_distance: Tensor) -> Tensor:
    """1 / (√(r + 1e-8) + 1), which keeps steps along distant pairs short."""
    return 1 / (torch.sqrt(squared_distance + EPSILON) + 1)


class Field(nn.Module):
    """The vector field v(x, t) of peptides.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Linear(config.n_features + 1, config.channels)
        reach, last = TOTAL_REACH / config.n_layers, config.n_layers - 1
        self.layers = ModulesOf(
            EquivariantLayer,
            [EquivariantLayer(config.channels, reach, is_last=k == last) for k in range(config.n_layers)],
        )

    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def embed(self, t: Tensor, peptides: EncodedPeptides, n: int) -> Tensor:
        """States before the first layer `(n, atoms, channels)`, at times `t`, one or `(n,)`."""
        by_features, by_time = self.embedding.weight.split((self.config.n_features, 1), dim=1)
        h = F.linear(peptides.features, by_features, self.embedding.bias)
        h = h.repeat_interleave(n // len(peptides.mask), 0)
        return h + by_time[:, 0] * t.reshape(-1, 1, 1)

    def forward(self, x: Tensor, t: Tensor, peptides: EncodedPeptides) -> Tensor:
        """The velocity.

        Args:
            x: `(n, atoms, 3)` in units of `config.scale`.
            t: One time or `(n,)`.
            peptides: Whose number divides n.

        Returns:
            `(n, atoms, 3)`, without mean and zero on padding.
        """
        mask = peptides.mask.repeat_interleave(len(x) // len(peptides.mask), 0)
        h, moved, r_first = self.embed(t, peptides, len(x)), x, None
        for layer in self.layers:
            pairs = PairGeometry.of(moved, mask)
            r_first = pairs.squared_distance if r_first is None else r_first
            h, moved = layer(h, moved, pairs, r_first)
        return remove_mean(moved - x, mask)


def remove_mean(v: Tensor, mask: Tensor) -> Tensor:
    """`v (n, atoms, 3)` minus its mean over the atoms where `mask (n, atoms)` is true; zero elsewhere."""
    present = mask.to(v)[..., None]
    v = v * present
    return v - present * v.sum(1, keepdim=True) / present.sum(1, keepdim=True)
