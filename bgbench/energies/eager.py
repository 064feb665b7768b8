"""The same energy in plain torch operations, for any device: no compiler, analytic forces, in chunks.

Layout (…, batch): the batch is innermost; pair terms run over the upper triangle.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bgbench.energies.parameters import Parameters

SMALLEST = 1e-3
"""Distances below this (nm) are treated as this: energies of overlapping atoms stay finite."""

BYTES = 64e6
"""Memory one temporary may take; it sets the number of conformers in a chunk."""


class EagerEngine:
    """Energies in kJ/mol and forces in kJ/mol/nm of `x (n, atoms, 3)` nm, in the precision of x.

    What is computed lies on the device of x. Parameters are sent there once, not with every chunk: a GPU
    would wait for each of them.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._tables: dict[tuple[type, torch.device, torch.dtype], _Tables] = {}

    def energy(self, x: Tensor) -> Tensor:
        """`(n,)` float64; no force is computed."""
        parts = [self._sum(_Batch(chunk)) for chunk in self._chunks(x)]
        return torch.cat(parts) if parts else self._nothing(x)

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(n,)` float64 and `(n, atoms, 3)`."""
        batches = [_Batch(chunk, torch.zeros_like(chunk.permute(1, 2, 0))) for chunk in self._chunks(x)]
        if not batches:
            return self._nothing(x), torch.zeros_like(x)
        u = torch.cat([self._sum(batch) for batch in batches])
        return u, torch.cat([batch.force.permute(2, 0, 1) for batch in batches if batch.force is not None])

    def _chunks(self, x: Tensor) -> list[Tensor]:
        n = self.parameters.n_atoms
        width = max(1, int(BYTES / (8 * max(1, n * (n - 1) // 2))))
        return list(x.split(width)) if x.shape[0] else []

    @staticmethod
    def _nothing(x: Tensor) -> Tensor:
        return torch.zeros(0, dtype=torch.float64, device=x.device)

    def _sum(self, batch: "_Batch") -> Tensor:
        """Energies `(n,)` of a chunk; its force is added to the batch's, if that has one."""
        t = self._tables_of(batch.x)
        i, j = t.pairs
        pairs = _Pairs(i, j, _norm2(batch.x[i] - batch.x[j]))
        terms = [
            _bonds(batch, t),
            _angles(batch, t),
            _torsions(batch, t),
            _exceptions(batch, t),
            _nonbonded(batch, pairs, t),
        ]
        return torch.stack([term.double() for term in terms]).sum(0) + self.parameters.torsion_constant

    def _tables_of(self, x: Tensor) -> "_Tables":
        # A tensor of `elsewhere` claims the device of another kind of tensor.
        key = type(x), x.device, x.dtype
        if key not in self._tables:
            self._tables[key] = _tables(self.parameters, x)
        return self._tables[key]


class _Batch:
    """Positions `(atoms, 3, batch)` of one chunk and, where it is asked for, their force to be added to."""

    def __init__(self, x: Tensor, force: Tensor | None = None) -> None:
        self.x = x.permute(1, 2, 0)
        self.force = force


@dataclass(frozen=True)
class _Tables:
    """Parameters on the device and in the dtype of positions.

    Atoms are rows `(terms,)`, values columns `(terms, 1)`. The names are those of `Parameters`, `pairs` being
    the atoms of its `pair_*`.
    """

    bonds: tuple[Tensor, ...]
    bond_values: tuple[Tensor, ...]
    angles: tuple[Tensor, ...]
    angle_values: tuple[Tensor, ...]
    torsions: tuple[Tensor, ...]
    torsion_values: tuple[Tensor, ...]
    exceptions: tuple[Tensor, ...]
    exception_values: tuple[Tensor, ...]
    pairs: tuple[Tensor, ...]
    pair_values: tuple[Tensor, ...]
    cutoff: float
    reaction_k: float
    reaction_c: float
    born: "_BornTables | None"


@dataclass(frozen=True)
class _BornTables:
    """`BornTerms` as columns `(atoms, 1)`; `pair_*`, of first and second atoms of pairs, `(pairs, 1)`."""

    own: Tensor
    radius: Tensor
    self_energy: Tensor
    surface: Tensor
    pair_own: tuple[Tensor, Tensor]
    pair_scaled: tuple[Tensor, Tensor]
    pair_charge: Tensor
    tanh: tuple[float, ...]
    shift: float
    cutoff: float


def _tables(p: Parameters, x: Tensor) -> _Tables:
    """Parameters beside positions x."""

    def columns(values: Any, n: int) -> tuple[Tensor, ...]:
        return torch.as_tensor(values).reshape(-1, n).to(x)[..., None].unbind(1)

    def rows(values: Any) -> tuple[Tensor, ...]:
        return torch.as_tensor(values, device=x.device).unbind(1)

    def column(values: Any) -> Tensor:
        return columns(values, 1)[0]

    i, j = torch.triu_indices(p.n_atoms, p.n_atoms, 1)
    born = None
    if p.born is not None:
        b = p.born
        own, scaled, charge = (torch.from_numpy(v) for v in (b.offset_radius, b.scaled_radius, b.charge))
        born = _BornTables(
            own=column(own),
            radius=column(b.radius),
            self_energy=column(b.self_energy),
            surface=column(b.surface),
            pair_own=(column(own[i]), column(own[j])),
            pair_scaled=(column(scaled[i]), column(scaled[j])),
            pair_charge=column(b.pair_scale * charge[i]) * column(charge[j]),
            tanh=tuple(float(t) for t in b.tanh),
            shift=b.shift,
            cutoff=b.cutoff,
        )
    return _Tables(
        bonds=rows(p.bonds),
        bond_values=columns(p.bond_values, 2),
        angles=rows(p.angles),
        angle_values=columns(p.angle_values, 2),
        torsions=rows(p.torsions),
        torsion_values=columns(p.torsion_coefficients, 12),
        exceptions=rows(p.exceptions),
        exception_values=columns(p.exception_values, 3),
        pairs=(i.to(x.device), j.to(x.device)),
        pair_values=(column(p.pair_charge), column(p.pair_c12), column(p.pair_c6)),
        cutoff=p.cutoff,
        reaction_k=p.reaction_k,
        reaction_c=p.reaction_c,
        born=born,
    )


class _Pairs(NamedTuple):
    """All pairs of atoms, upper triangle: their numbers `(pairs,)` and squared distances `(pairs, batch)`."""

    i: Tensor
    j: Tensor
    r2: Tensor


def _norm2(v: Tensor) -> Tensor:
    return v.square().sum(1).clamp_min(SMALLEST**2)


def _bonds(batch: _Batch, t: _Tables) -> Tensor:
    (i, j), (r0, strength) = t.bonds, t.bond_values
    d = batch.x[i] - batch.x[j]
    r = _norm2(d).sqrt()
    if batch.force is not None:
        push = (strength * (r - r0) / r)[:, None] * d
        batch.force.index_add_(0, i, -push).index_add_(0, j, push)
    return (0.5 * strength * (r - r0).square()).sum(0)


def _angles(batch: _Batch, t: _Tables) -> Tensor:
    (i, j, k), (t0, strength) = t.angles, t.angle_values
    u, v = batch.x[i] - batch.x[j], batch.x[k] - batch.x[j]
    ui, vi = _norm2(u).rsqrt(), _norm2(v).rsqrt()
    cosine = ((u * v).sum(1) * ui * vi).clamp(-1.0, 1.0)
    bend = torch.acos(cosine) - t0
    if batch.force is not None:
        edge = 1.0 - 1e-6
        s = strength * bend * (1 - cosine.clamp(-edge, edge).square()).rsqrt()
        on_i = (s * ui * vi)[:, None] * v - (s * ui * ui * cosine)[:, None] * u
        on_k = (s * ui * vi)[:, None] * u - (s * vi * vi * cosine)[:, None] * v
        batch.force.index_add_(0, i, on_i).index_add_(0, k, on_k).index_add_(0, j, -on_i - on_k)
    return (0.5 * strength * bend.square()).sum(0)


def _torsions(batch: _Batch, t: _Tables) -> Tensor:
    (i, j, k, m), rows = t.torsions, t.torsion_values
    x, periodicities = batch.x, range(1, 7)
    u, v, w = x[i] - x[j], x[k] - x[j], x[k] - x[m]
    a, b = torch.linalg.cross(u, v, dim=1), torch.linalg.cross(v, w, dim=1)
    a2, b2, v2 = (d.square().sum(1).clamp_min(s) for d, s in ((a, 1e-12), (b, 1e-12), (v, SMALLEST**2)))
    norm = (a2 * b2).rsqrt()
    cosine, sine = (a * b).sum(1) * norm, (u * b).sum(1) * norm * v2.sqrt()
    energy, waves = torch.zeros_like(cosine), []
    cn, sn = torch.ones_like(cosine), torch.zeros_like(cosine)
    for n in periodicities:
        cn, sn = cn * cosine - sn * sine, sn * cosine + cn * sine
        energy = energy + rows[n - 1] * cn + rows[n + 5] * sn
        waves.append((cn, sn))
    if batch.force is not None:
        slope = torch.zeros_like(cosine)
        for n, (cn, sn) in zip(periodicities, waves, strict=True):
            slope = slope + n * (rows[n + 5] * cn - rows[n - 1] * sn)
        on_i = -(slope * v2.sqrt() / a2)[:, None] * a
        on_m = (slope * v2.sqrt() / b2)[:, None] * b
        on_u, on_w = ((u * v).sum(1) / v2)[:, None], ((w * v).sum(1) / v2)[:, None]
        batch.force.index_add_(0, i, on_i).index_add_(0, m, on_m)
        batch.force.index_add_(0, j, on_i * (on_u - 1) - on_m * on_w)
        batch.force.index_add_(0, k, on_m * (on_w - 1) - on_i * on_u)
    return energy.sum(0)


def _exceptions(batch: _Batch, t: _Tables) -> Tensor:
    (i, j), (qq, c12, c6) = t.exceptions, t.exception_values
    d = batch.x[i] - batch.x[j]
    ri = _norm2(d).rsqrt()
    e12, e6, eq = c12 * ri**12, c6 * ri**6, qq * ri
    if batch.force is not None:
        push = ((12 * e12 - 6 * e6 + eq) * ri.square())[:, None] * d
        batch.force.index_add_(0, i, push).index_add_(0, j, -push)
    return (e12 - e6 + eq).sum(0)


def _nonbonded(batch: _Batch, pairs: _Pairs, t: _Tables) -> Tensor:
    """Lennard-Jones, reaction-field Coulomb and generalised Born."""
    i, j, r2 = pairs
    near = (r2 <= t.cutoff**2).to(r2)
    qq, c12, c6 = t.pair_values
    ri = r2.rsqrt()
    e12, e6 = c12 * ri**12, c6 * ri**6
    energy = (near * (qq * (ri + t.reaction_k * r2 - t.reaction_c) + e12 - e6)).sum(0)
    scale = None
    if batch.force is not None:
        scale = near * ((12 * e12 - 6 * e6 + qq * ri) * ri.square() - 2 * t.reaction_k * qq)
    if t.born is not None:
        solvation, through_born = _generalised_born(batch, pairs, t.born)
        energy = energy + solvation
        if scale is not None and through_born is not None:
            scale = scale + through_born
    if batch.force is not None and scale is not None:
        push = scale[:, None] * (batch.x[i] - batch.x[j])
        batch.force.index_add_(0, i, push).index_add_(0, j, -push)
    return energy


def _generalised_born(batch: _Batch, pairs: _Pairs, born: _BornTables) -> tuple[Tensor, Tensor | None]:
    """Energy `(batch,)` and, with a force, −(∂E/∂r)/r `(pairs, batch)` of the OBC model, radii included."""
    i, j, r2 = pairs
    inside = (r2 <= born.cutoff**2).to(r2)
    r = r2.sqrt()
    own, radius = born.own, born.radius
    on_i, on_j = (_BornIntegral(r, born.pair_own[k], born.pair_scaled[1 - k]) for k in (0, 1))
    integral = torch.zeros(own.shape[0], r.shape[1], dtype=r.dtype, device=r.device)
    integral = integral.index_add(0, i, inside * on_i.value()).index_add(0, j, inside * on_j.value())

    t1, t2, t3 = born.tanh
    psi = integral * own
    t = torch.tanh(psi * (t1 + psi * (t2 + psi * t3)))
    b = 1 / (1 / own - t / radius)
    own_charge, surface = born.self_energy / b, born.surface / b**6

    bb = b[i] * b[j]
    x = 0.25 * r2 / bb
    ex = torch.exp(-x)
    fi = (r2 + bb * ex).rsqrt()
    qb = inside * born.pair_charge
    energy = (own_charge + surface).sum(0) + (qb * (fi - born.shift)).sum(0)
    if batch.force is None:
        return energy, None
    g = 0.5 * qb * fi**3
    h = -g * ex * (1 + x)
    slope_b = -(own_charge + 6 * surface) / b
    slope_b = slope_b.index_add(0, i, h * b[j]).index_add(0, j, h * b[i])
    chain = slope_b * b.square() * (1 - t.square()) * (t1 + psi * (2 * t2 + 3 * t3 * psi)) * own / radius
    through = inside * (chain[i] * on_i.slope() + chain[j] * on_j.slope()) / r
    return energy, 2 * g * (1 - 0.25 * ex) - through


class _BornIntegral:
    """Born integral I(r) of atoms of radius `own` over neighbours of radius `scaled`, and dI/dr."""

    def __init__(self, r: Tensor, own: Tensor, scaled: Tensor) -> None:
        gap = r - scaled
        self._r = r
        self._side = torch.where(gap.abs() > own, gap.sign(), torch.zeros_like(gap))
        self._lo, self._up = 1 / torch.maximum(gap.abs(), own), 1 / (r + scaled)
        self._log = torch.log(self._up / self._lo) / r
        self._q = scaled.square() / r
        self._difference = self._up.square() - self._lo.square()
        self._touching = r + scaled >= own

    def value(self) -> Tensor:
        value = self._lo - self._up + 0.25 * (self._r - self._q) * self._difference + 0.5 * self._log
        return torch.where(self._touching, 0.5 * value, torch.zeros_like(value))

    def slope(self) -> Tensor:
        r, q, lo, up, side = self._r, self._q, self._lo, self._up, self._side
        slope = up.square() - side * lo.square() + 0.25 * (1 + q / r) * self._difference
        slope = slope + 0.5 * (r - q) * (side * lo**3 - up**3) + 0.5 * (side * lo - up - self._log) / r
        return torch.where(self._touching, 0.5 * slope, torch.zeros_like(slope))
