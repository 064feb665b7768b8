"""The same energy in plain torch operations, for any device: no compiler, analytic forces, in chunks.

Layout (…, batch): the batch is innermost; pair terms run over the upper triangle.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bgbench.energies.parameters import BornTerms, Parameters

SMALLEST = 1e-3
"""Distances below this (nm) are treated as this: energies of overlapping atoms stay finite."""

BYTES = 64e6
"""Memory one temporary may take; it sets the number of conformers in a chunk."""


class EagerEngine:
    """Energies in kJ/mol and forces in kJ/mol/nm of `x (n, atoms, 3)` nm, in the precision of x.

    What is computed lies on the device of x.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._pairs = torch.triu_indices(parameters.n_atoms, parameters.n_atoms, 1)

    def place_on(self, device: torch.device, dtype: torch.dtype) -> "EagerEngine":
        """The same energy, its numbers on a device: no call for positions of this kind copies them there.

        A CUDA graph of a call can then be recorded, in which nothing may be copied from the CPU.
        """
        placed = EagerEngine(_tensors(self.parameters, device, dtype))
        placed._pairs = self._pairs.to(device)
        return placed

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
        width = max(1, int(BYTES / (8 * max(1, self._pairs.shape[1]))))
        return list(x.split(width)) if x.shape[0] else []

    @staticmethod
    def _nothing(x: Tensor) -> Tensor:
        return torch.zeros(0, dtype=torch.float64, device=x.device)

    def _sum(self, batch: "_Batch") -> Tensor:
        """Energies `(n,)` of a chunk; its force is added to the batch's, if that has one."""
        p = self.parameters
        i, j = self._pairs.to(batch.x.device)
        pairs = _Pairs(i, j, _norm2(batch.x[i] - batch.x[j]))
        terms = [
            _bonds(batch, p),
            _angles(batch, p),
            _torsions(batch, p),
            _exceptions(batch, p),
            _nonbonded(batch, pairs, p),
        ]
        return torch.stack([term.double() for term in terms]).sum(0) + p.torsion_constant


def _tensors(p: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Parameters whose arrays are tensors of the device; three coefficients of a tanh stay plain numbers."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(p):
        value = getattr(p, field.name)
        if isinstance(value, np.ndarray) and field.name != "tanh":
            kind = dtype if value.dtype.kind == "f" else torch.int64
            changes[field.name] = torch.from_numpy(value).to(device, kind)
        if isinstance(value, BornTerms):
            changes[field.name] = _tensors(value, device, dtype)
    return dataclasses.replace(p, **changes)


class _Batch:
    """Positions `(atoms, 3, batch)` of one chunk and, where it is asked for, their force to be added to.

    Numpy parameters become tensors beside the positions, one column a batch.
    """

    def __init__(self, x: Tensor, force: Tensor | None = None) -> None:
        self.x = x.permute(1, 2, 0)
        self.force = force

    def column(self, values: object) -> Tensor:
        return torch.as_tensor(values).to(self.x)[..., None]

    def index(self, values: object) -> Tensor:
        return torch.as_tensor(values, device=self.x.device)


class _Pairs(NamedTuple):
    """All pairs of atoms, upper triangle: their numbers `(pairs,)` and squared distances `(pairs, batch)`."""

    i: Tensor
    j: Tensor
    r2: Tensor


def _norm2(v: Tensor) -> Tensor:
    return v.square().sum(1).clamp_min(SMALLEST**2)


def _bonds(batch: _Batch, p: Parameters) -> Tensor:
    i, j = batch.index(p.bonds).unbind(1)
    r0, strength = batch.column(p.bond_values.reshape(-1, 2)).unbind(1)
    d = batch.x[i] - batch.x[j]
    r = _norm2(d).sqrt()
    if batch.force is not None:
        push = (strength * (r - r0) / r)[:, None] * d
        batch.force.index_add_(0, i, -push).index_add_(0, j, push)
    return (0.5 * strength * (r - r0).square()).sum(0)


def _angles(batch: _Batch, p: Parameters) -> Tensor:
    i, j, k = batch.index(p.angles).unbind(1)
    t0, strength = batch.column(p.angle_values.reshape(-1, 2)).unbind(1)
    u, v = batch.x[i] - batch.x[j], batch.x[k] - batch.x[j]
    ui, vi = _norm2(u).rsqrt(), _norm2(v).rsqrt()
    cosine = ((u * v).sum(1) * ui * vi).clamp(-1.0, 1.0)
    t = torch.acos(cosine) - t0
    if batch.force is not None:
        edge = 1.0 - 1e-6
        s = strength * t * (1 - cosine.clamp(-edge, edge).square()).rsqrt()
        on_i = (s * ui * vi)[:, None] * v - (s * ui * ui * cosine)[:, None] * u
        on_k = (s * ui * vi)[:, None] * u - (s * vi * vi * cosine)[:, None] * v
        batch.force.index_add_(0, i, on_i).index_add_(0, k, on_k).index_add_(0, j, -on_i - on_k)
    return (0.5 * strength * t.square()).sum(0)


def _torsions(batch: _Batch, p: Parameters) -> Tensor:
    i, j, k, m = batch.index(p.torsions).unbind(1)
    rows = batch.column(p.torsion_coefficients)
    x, periodicities = batch.x, range(1, 7)
    u, v, w = x[i] - x[j], x[k] - x[j], x[k] - x[m]
    a, b = torch.linalg.cross(u, v, dim=1), torch.linalg.cross(v, w, dim=1)
    a2, b2, v2 = (t.square().sum(1).clamp_min(s) for t, s in ((a, 1e-12), (b, 1e-12), (v, SMALLEST**2)))
    norm = (a2 * b2).rsqrt()
    cosine, sine = (a * b).sum(1) * norm, (u * b).sum(1) * norm * v2.sqrt()
    energy, waves = torch.zeros_like(cosine), []
    cn, sn = torch.ones_like(cosine), torch.zeros_like(cosine)
    for n in periodicities:
        cn, sn = cn * cosine - sn * sine, sn * cosine + cn * sine
        energy = energy + rows[:, n - 1] * cn + rows[:, n + 5] * sn
        waves.append((cn, sn))
    if batch.force is not None:
        slope = torch.zeros_like(cosine)
        for n, (cn, sn) in zip(periodicities, waves, strict=True):
            slope = slope + n * (rows[:, n + 5] * cn - rows[:, n - 1] * sn)
        on_i = -(slope * v2.sqrt() / a2)[:, None] * a
        on_m = (slope * v2.sqrt() / b2)[:, None] * b
        s, t = ((u * v).sum(1) / v2)[:, None], ((w * v).sum(1) / v2)[:, None]
        batch.force.index_add_(0, i, on_i).index_add_(0, m, on_m)
        batch.force.index_add_(0, j, on_i * (s - 1) - on_m * t)
        batch.force.index_add_(0, k, on_m * (t - 1) - on_i * s)
    return energy.sum(0)


def _exceptions(batch: _Batch, p: Parameters) -> Tensor:
    i, j = batch.index(p.exceptions).unbind(1)
    qq, c12, c6 = batch.column(p.exception_values).unbind(1)
    d = batch.x[i] - batch.x[j]
    ri = _norm2(d).rsqrt()
    e12, e6, eq = c12 * ri**12, c6 * ri**6, qq * ri
    if batch.force is not None:
        push = ((12 * e12 - 6 * e6 + eq) * ri.square())[:, None] * d
        batch.force.index_add_(0, i, push).index_add_(0, j, -push)
    return (e12 - e6 + eq).sum(0)


def _nonbonded(batch: _Batch, pairs: _Pairs, p: Parameters) -> Tensor:
    """Lennard-Jones, reaction-field Coulomb and generalised Born."""
    i, j, r2 = pairs
    near = (r2 <= p.cutoff**2).to(r2)
    qq, c12, c6 = (batch.column(v) for v in (p.pair_charge, p.pair_c12, p.pair_c6))
    ri = r2.rsqrt()
    e12, e6 = c12 * ri**12, c6 * ri**6
    energy = (near * (qq * (ri + p.reaction_k * r2 - p.reaction_c) + e12 - e6)).sum(0)
    scale = None
    if batch.force is not None:
        scale = near * ((12 * e12 - 6 * e6 + qq * ri) * ri.square() - 2 * p.reaction_k * qq)
    if p.born is not None:
        solvation, through_born = _generalised_born(batch, pairs, p.born)
        energy = energy + solvation
        if scale is not None and through_born is not None:
            scale = scale + through_born
    if batch.force is not None and scale is not None:
        push = scale[:, None] * (batch.x[i] - batch.x[j])
        batch.force.index_add_(0, i, push).index_add_(0, j, -push)
    return energy


def _generalised_born(batch: _Batch, pairs: _Pairs, born: BornTerms) -> tuple[Tensor, Tensor | None]:
    """Energy `(batch,)` and, with a force, −(∂E/∂r)/r `(pairs, batch)` of the OBC model, radii included."""
    i, j, r2 = pairs
    inside = (r2 <= born.cutoff**2).to(r2)
    r = r2.sqrt()
    own, scaled, radius = (batch.column(v) for v in (born.offset_radius, born.scaled_radius, born.radius))
    on_i, on_j = _BornIntegral(r, own[i], scaled[j]), _BornIntegral(r, own[j], scaled[i])
    integral = torch.zeros(own.shape[0], r.shape[1], dtype=r.dtype, device=r.device)
    integral = integral.index_add(0, i, inside * on_i.value()).index_add(0, j, inside * on_j.value())

    t1, t2, t3 = (float(t) for t in born.tanh)
    psi = integral * own
    t = torch.tanh(psi * (t1 + psi * (t2 + psi * t3)))
    b = 1 / (1 / own - t / radius)
    own_charge, surface = batch.column(born.self_energy) / b, batch.column(born.surface) / b**6

    bb = b[i] * b[j]
    x = 0.25 * r2 / bb
    ex = torch.exp(-x)
    fi = (r2 + bb * ex).rsqrt()
    qb = inside * batch.column(born.pair_scale * born.charge)[i] * batch.column(born.charge)[j]
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
