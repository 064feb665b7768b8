"""Verse: each atom's dihedral, angle and bond length given the atoms already placed, in local frames."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bgbench_verse import mixtures
from bgbench_verse.chemistry import LONGEST, NARROW, RANKS

RADIAL, REACH = 16, 1.2
"""Radial functions and the largest of their centres, nm."""

SHAPE = 6 + RADIAL
BROAD = 3.0
"""Width of the broad component of each mixture, in usual widths."""


@dataclass(frozen=True)
class Config:
    """Sizes; `names` is how many atom names there are, the unknown one included."""

    names: int
    width: int = 96
    n_layers: int = 3
    heads: int = 4
    geometry: int = 24
    turns: int = 8
    stretches: int = 3


class Atoms(nn.Module):
    """What an atom is, from its codes `(…, 9)`, as `(…, width)`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        rows = (config.names, config.names, config.names, 3, 21, 21, 3, RANKS, LONGEST + 1)
        self.tables = nn.ModuleList(nn.Embedding(n, config.width) for n in rows)
        for table in self.tables:
            for weight in table.parameters():
                nn.init.normal_(weight, std=0.3)
        self.mix = mlp(config.width, config.width, config.width)

    def forward(self, codes: Tensor) -> Tensor:
        total = sum(table(codes[..., k]) for k, table in enumerate(self.tables))
        return total + self.mix(total)


class Attention(nn.Module):
    """One look of the atoms to come at those placed: scores and values see the geometry."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        c, self.heads = config.width, config.heads
        self.norm_query, self.norm_key = nn.LayerNorm(c), nn.LayerNorm(c)
        self.query, self.key_value = nn.Linear(c, c), nn.Linear(c, 2 * c)
        self.bias = nn.Linear(config.geometry, self.heads)
        self.out = nn.Linear(c + self.heads * config.geometry, c)
        self.norm_mlp, self.mlp = nn.LayerNorm(c), mlp(c, 2 * c, c)

    def keys(self, token: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values `(n, heads, T, ·)` of placed atoms' tokens `(n, T, width)`."""
        key, value = self.key_value(self.norm_key(token)).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def forward(
        self, state: Tensor, keys: tuple[Tensor, Tensor], geometry: Tensor, hidden: Tensor | None
    ) -> Tensor:
        """`state (n, Q, width)` looks at T placed atoms; `geometry (n, Q, T, ·)`; `hidden (Q, T)`: unseen."""
        query = self._split(self.query(self.norm_query(state)))
        score = query @ keys[0].transpose(-1, -2) / math.sqrt(query.shape[-1])
        score = score + self.bias(geometry).permute(0, 3, 1, 2)
        if hidden is not None:
            score = score.masked_fill(hidden, -torch.inf)
        weight = torch.softmax(score, dim=-1)
        seen = (weight @ keys[1]).transpose(1, 2).flatten(2)
        shape = (weight.transpose(1, 2) @ geometry).flatten(2)
        state = state + self.out(torch.cat([seen, shape], dim=-1))
        return state + self.mlp(self.norm_mlp(state))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Verse(nn.Module):
    """The three conditionals of every atom. Training asks all atoms at once, sampling one after another."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        c = config.width
        self.atoms = Atoms(config)
        self.measured = nn.Linear(4, c)
        self.nothing = nn.Parameter(torch.zeros(1, 1, c))
        self.shape = nn.Sequential(
            nn.Linear(SHAPE, config.geometry), nn.SiLU(), nn.Linear(config.geometry, config.geometry)
        )
        self.layers = nn.ModuleList(Attention(config) for _ in range(config.n_layers))
        self.turn = head(c, 3 * config.turns)
        self.bend = head(c + 6, 3 * config.stretches)
        self.stretch = head(c + 7, 3 * config.stretches)

    def token(self, atom: Tensor, r: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
        """Token of placed atoms: what they are `(…, width)` and their standardised coordinates `(…,)`."""
        return atom + self.measured(torch.stack([r, theta, torch.sin(phi), torch.cos(phi)], dim=-1))

    def geometry(self, x: Tensor, p: Tensor, local: Tensor) -> Tensor:
        """Placed atoms `x (n, T, 3)` in the frames of Q atoms, `p (n, Q, 3)`, `local (n, Q, 3, 3)`.

        `(n, Q, 1 + T, geometry)`: the first stands for nothing, which can always be seen.
        """
        gap = (x[:, None] - p[:, :, None]) @ local.transpose(-1, -2)
        distance = (gap.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        centres = torch.linspace(0.0, REACH, RADIAL, dtype=x.dtype, device=x.device)
        radial = torch.exp(-(((distance - centres) * RADIAL / REACH) ** 2))
        seen = self.shape(torch.cat([gap / 0.3, gap / distance, radial], dim=-1))
        return F.pad(seen, (0, 0, 1, 0))

    def states(
        self, atom: Tensor, tokens: list[tuple[Tensor, Tensor]], geometry: Tensor, hidden: Tensor | None
    ) -> Tensor:
        """What the conditionals of Q atoms are made of, `(n, Q, width)`, from the keys of each layer."""
        state = atom
        for layer, keys in zip(self.layers, tokens, strict=True):
            state = layer(state, keys, geometry, hidden)
        return state

    def keys(self, token: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of every layer."""
        return [layer.keys(token) for layer in self.layers if isinstance(layer, Attention)]

    def dihedral(self, state: Tensor, usual: Tensor) -> mixtures.Circular:
        """p(φ | placed atoms); `usual (…, 7)` rows of the table."""
        logit, shift, width = self.turn(state).chunk(3, dim=-1)
        n = self.config.turns
        narrow = (usual[..., 5] < NARROW)[..., None]
        grid = torch.arange(n, dtype=logit.dtype, device=logit.device) * (2 * math.pi / n)
        spread = torch.where(narrow, usual[..., 5:6].clamp(0.03, NARROW), 2 * math.pi / n)
        centre = torch.where(narrow, usual[..., 4:5], grid) + 2 * spread * torch.tanh(shift / 2)
        widths = spread * torch.exp(1.5 * torch.tanh(width / 1.5))
        broad = torch.where(narrow[..., 0], BROAD * spread[..., 0], torch.inf)
        return mixtures.Circular(logit, centre, widths, broad)

    def angle(self, state: Tensor, phi: Tensor) -> mixtures.Line:
        """p(θ | φ, placed atoms), θ standardised."""
        return self._line(self.bend(torch.cat([state, waves(phi)], dim=-1)))

    def length(self, state: Tensor, phi: Tensor, theta: Tensor) -> mixtures.Line:
        """p(r | θ, φ, placed atoms), r and θ standardised."""
        return self._line(self.stretch(torch.cat([state, waves(phi), theta[..., None]], dim=-1)))

    def _line(self, raw: Tensor) -> mixtures.Line:
        logit, centre, width = raw.chunk(3, dim=-1)
        return mixtures.Line(logit, 2 * centre, 1.5 * torch.tanh(width / 1.5), BROAD)

    def n_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())


def mlp(wide_in: int, hidden: int, wide_out: int) -> nn.Sequential:
    """Two linear maps with a SiLU between."""
    return nn.Sequential(nn.Linear(wide_in, hidden), nn.SiLU(), nn.Linear(hidden, wide_out))


def head(wide_in: int, wide_out: int) -> nn.Sequential:
    """A normalised two-layer head that starts at zero."""
    layers = nn.Sequential(nn.LayerNorm(wide_in), nn.Linear(wide_in, 96), nn.SiLU(), nn.Linear(96, wide_out))
    last = layers[-1]
    if isinstance(last, nn.Linear):
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
    return layers


def waves(phi: Tensor) -> Tensor:
    """sin and cos of φ, 2φ, 3φ: `(…, 6)`."""
    turns = phi[..., None] * torch.arange(1, 4, dtype=phi.dtype, device=phi.device)
    return torch.cat([torch.sin(turns), torch.cos(turns)], dim=-1)
