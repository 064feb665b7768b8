"""The network of Verse: three conditional densities of every atom, given the atoms placed before it.

    q(x) = Π_i p(φ_i | x_<i) p(θ_i | φ_i, x_<i) p(r_i | θ_i, φ_i, x_<i) / (r_i² sin θ_i)

Placed atoms are tokens: what they are and their standardised internal coordinates. The atom to be placed is
the query. In each attention layer the position of token j in the local frame of atom i enters twice, as a
bias on the score and as a value of its own, so that everything the network sees is invariant to rotation and
translation. Attention over placed atoms is causal: one pass gives the conditionals of all atoms for the
density, and the same layers give those of one atom after the other for sampling.

Shapes: n samples, Q atoms to be placed, T placed atoms, `width` channels. Lengths in nm, angles in rad.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bgbench_training.modules import ModulesOf
from bgbench_verse.mixtures import GaussianMixture, WrappedNormalMixture
from bgbench_verse.molecule import LONGEST_PEPTIDE, SIBLING_RANKS
from bgbench_verse.reference_geometry import FIXED_DIHEDRAL, ReferenceGeometry

N_RADIAL, RADIAL_CUTOFF = 16, 1.2
"""Radial basis functions of a distance, and the largest of their centres, nm."""

LENGTH_UNIT = 0.3
"""nm. Positions in local frames are divided by it before they enter the network."""

N_PAIR_FEATURES = 6 + N_RADIAL
"""Of a pair of atoms: position in the local frame, direction, radial functions."""

BROAD_WIDTH = 3.0
"""Width of the broad component of each mixture, in widths of the reference geometry."""

HEAD_WIDTH = 96
"""Hidden channels of each conditional's head."""


@dataclass(frozen=True)
class VerseConfig:
    """Sizes of the network; the fields' names are those in weights files.

    Attributes:
        names: Atom names, the unknown one included.
        width: Channels of tokens and states.
        n_layers: Attention layers.
        heads: Attention heads.
        geometry: Channels of the geometry of a pair.
        turns: Components of p(φ), the broad one included.
        stretches: Components of p(θ) and of p(r), the broad one included.
    """

    names: int
    width: int = 96
    n_layers: int = 3
    heads: int = 4
    geometry: int = 24
    turns: int = 8
    stretches: int = 3


@dataclass(frozen=True)
class KeysValues:
    """Keys and values of T tokens in one attention layer, `(n, heads, T, width / heads)` each."""

    keys: Tensor
    values: Tensor


class AtomEmbedding(nn.Module):
    """What an atom is: `(…, width)` from its codes `(…, 9)`, see `molecule`."""

    def __init__(self, config: VerseConfig) -> None:
        super().__init__()
        sizes = (config.names, config.names, config.names, 3, 21, 21, 3, SIBLING_RANKS, LONGEST_PEPTIDE + 1)
        self.tables = nn.ModuleList(nn.Embedding(n, config.width) for n in sizes)
        for table in self.tables:
            for weight in table.parameters():
                nn.init.normal_(weight, std=0.3)
        self.mix = two_layers(config.width, config.width, config.width)

    def forward(self, codes: Tensor) -> Tensor:
        """Sum of the embeddings of the nine codes, mixed once."""
        total = sum(table(codes[..., k]) for k, table in enumerate(self.tables))
        return total + self.mix(total)


class GeometricAttention(nn.Module):
    """Attention of atoms to be placed over placed atoms, with the geometry g_ij of each pair.

    score_ij = q_i·k_j / √d + b·g_ij,   out_i = W [Σ_j a_ij v_j, Σ_j a_ij g_ij],   then a two-layer MLP.
    """

    def __init__(self, config: VerseConfig) -> None:
        super().__init__()
        c, self.heads = config.width, config.heads
        self.norm_query, self.norm_key = nn.LayerNorm(c), nn.LayerNorm(c)
        self.query, self.key_value = nn.Linear(c, c), nn.Linear(c, 2 * c)
        self.bias = nn.Linear(config.geometry, self.heads)
        self.out = nn.Linear(c + self.heads * config.geometry, c)
        self.norm_mlp, self.mlp = nn.LayerNorm(c), two_layers(c, 2 * c, c)

    def keys_values(self, token: Tensor) -> KeysValues:
        """Keys and values of tokens `(n, T, width)`."""
        key, value = self.key_value(self.norm_key(token)).chunk(2, dim=-1)
        return KeysValues(self._split_heads(key), self._split_heads(value))

    def forward(self, state: Tensor, tokens: KeysValues, geometry: Tensor, masked: Tensor | None) -> Tensor:
        """States `(n, Q, width)` after the layer.

        Args:
            state: `(n, Q, width)`.
            tokens: Of T placed atoms.
            geometry: `(n, Q, T, config.geometry)`.
            masked: `(Q, T)`, true where an atom must not attend to a token; None where it may to all.
        """
        query = self._split_heads(self.query(self.norm_query(state)))
        score = query @ tokens.keys.transpose(-1, -2) / math.sqrt(query.shape[-1])
        score = score + self.bias(geometry).permute(0, 3, 1, 2)
        if masked is not None:
            score = score.masked_fill(masked, -torch.inf)
        weight = torch.softmax(score, dim=-1)
        attended = (weight @ tokens.values).transpose(1, 2).flatten(2)
        attended_geometry = (weight.transpose(1, 2) @ geometry).flatten(2)
        state = state + self.out(torch.cat([attended, attended_geometry], dim=-1))
        return state + self.mlp(self.norm_mlp(state))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Verse(nn.Module):
    """The conditionals p(φ), p(θ), p(r) of every atom given the atoms placed before it.

    The attributes that hold parameters are called as in weights files: `measured` embeds standardised
    coordinates, `nothing` is the token that stands before the first atom, `shape` embeds the geometry of a
    pair; `turn`, `bend` and `stretch` are the heads of φ, θ and r.
    """

    def __init__(self, config: VerseConfig) -> None:
        super().__init__()
        self.config = config
        c = config.width
        self.atoms = AtomEmbedding(config)
        self.measured = nn.Linear(4, c)
        self.nothing = nn.Parameter(torch.zeros(1, 1, c))
        self.shape = nn.Sequential(
            nn.Linear(N_PAIR_FEATURES, config.geometry),
            nn.SiLU(),
            nn.Linear(config.geometry, config.geometry),
        )
        self.layers = ModulesOf(
            GeometricAttention, [GeometricAttention(config) for _ in range(config.n_layers)]
        )
        self.turn = conditional_head(c, 3 * config.turns)
        self.bend = conditional_head(c + 6, 3 * config.stretches)
        self.stretch = conditional_head(c + 7, 3 * config.stretches)

    def token(self, embedding: Tensor, r: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
        """Tokens of placed atoms `(…, width)`: their embedding, and standardised r, θ and φ `(…,)`."""
        coordinates = torch.stack([r, theta, torch.sin(phi), torch.cos(phi)], dim=-1)
        return embedding + self.measured(coordinates)

    def pair_geometry(self, x: Tensor, parent: Tensor, local: Tensor) -> Tensor:
        """Placed atoms seen from the local frames of atoms to be placed.

        Args:
            x: Placed atoms `(n, T, 3)`.
            parent: Origins of Q local frames, `(n, Q, 3)`.
            local: Their axes, `(n, Q, 3, 3)`.

        Returns:
            `(n, Q, 1 + T, config.geometry)`; the first row belongs to the token `nothing`, and is zero.
        """
        position = (x[:, None] - parent[:, :, None]) @ local.transpose(-1, -2)
        distance = (position.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        centres = torch.linspace(0.0, RADIAL_CUTOFF, N_RADIAL, dtype=x.dtype, device=x.device)
        radial = torch.exp(-(((distance - centres) * N_RADIAL / RADIAL_CUTOFF) ** 2))
        features = torch.cat([position / LENGTH_UNIT, position / distance, radial], dim=-1)
        return F.pad(self.shape(features), (0, 0, 1, 0))

    def states(
        self, embedding: Tensor, tokens: list[KeysValues], geometry: Tensor, masked: Tensor | None
    ) -> Tensor:
        """States `(n, Q, width)` that the conditionals of Q atoms are computed from.

        Args:
            embedding: Of the atoms to be placed, `(n, Q, width)`.
            tokens: Keys and values of each layer.
            geometry: As `pair_geometry` returns it.
            masked: See `GeometricAttention.forward`.
        """
        state = embedding
        for layer, keys_values in zip(self.layers, tokens, strict=True):
            state = layer(state, keys_values, geometry, masked)
        return state

    def keys_values(self, token: Tensor) -> list[KeysValues]:
        """Keys and values of tokens `(n, T, width)` in every layer."""
        return [layer.keys_values(token) for layer in self.layers]

    def dihedral(self, state: Tensor, geometry: ReferenceGeometry) -> WrappedNormalMixture:
        """p(φ | placed atoms), `(…,)`.

        Where the reference geometry fixes the dihedral, the components start about φ₀; elsewhere they start
        evenly around the circle.
        """
        logit, shift, width = self.turn(state).chunk(3, dim=-1)
        n = self.config.turns
        is_fixed = (geometry.dihedral_width < FIXED_DIHEDRAL)[..., None]
        grid = torch.arange(n, dtype=logit.dtype, device=logit.device) * (2 * math.pi / n)
        fixed_width = geometry.dihedral_width[..., None].clamp(0.03, FIXED_DIHEDRAL)
        spread = torch.where(is_fixed, fixed_width, 2 * math.pi / n)
        centre = torch.where(is_fixed, geometry.dihedral[..., None], grid) + 2 * spread * torch.tanh(
            shift / 2
        )
        widths = spread * torch.exp(1.5 * torch.tanh(width / 1.5))
        broad = torch.where(is_fixed[..., 0], BROAD_WIDTH * spread[..., 0], torch.inf)
        return WrappedNormalMixture(logit, centre, widths, broad)

    def angle(self, state: Tensor, phi: Tensor) -> GaussianMixture:
        """p(θ | φ, placed atoms) of the standardised θ, `(…,)`."""
        return self._gaussian_mixture(self.bend(torch.cat([state, fourier_features(phi)], dim=-1)))

    def length(self, state: Tensor, phi: Tensor, theta: Tensor) -> GaussianMixture:
        """p(r | θ, φ, placed atoms) of the standardised r, `(…,)`, θ being standardised, too."""
        return self._gaussian_mixture(
            self.stretch(torch.cat([state, fourier_features(phi), theta[..., None]], dim=-1))
        )

    def _gaussian_mixture(self, parameters: Tensor) -> GaussianMixture:
        logit, centre, width = parameters.chunk(3, dim=-1)
        return GaussianMixture(logit, 2 * centre, 1.5 * torch.tanh(width / 1.5), BROAD_WIDTH)

    def n_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


def two_layers(width_in: int, hidden: int, width_out: int) -> nn.Sequential:
    """Two linear maps with a SiLU between."""
    return nn.Sequential(nn.Linear(width_in, hidden), nn.SiLU(), nn.Linear(hidden, width_out))


def conditional_head(width_in: int, width_out: int) -> nn.Sequential:
    """A normalised two-layer head whose outputs start near zero."""
    first, last = nn.Linear(width_in, HEAD_WIDTH), nn.Linear(HEAD_WIDTH, width_out)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(width_in), first, nn.SiLU(), last)


def fourier_features(phi: Tensor) -> Tensor:
    """sin and cos of φ, 2φ and 3φ: `(…, 6)` of `(…,)` rad."""
    multiples = phi[..., None] * torch.arange(1, 4, dtype=phi.dtype, device=phi.device)
    return torch.cat([torch.sin(multiples), torch.cos(multiples)], dim=-1)
