"""The same energy in plain torch operations, for any device: no compiler, analytic forces, in chunks.

Layout (…, batch): the batch is innermost; pair terms run over the upper triangle.
"""

import torch
from torch import Tensor

from bgbench.energies.parameters import BornTerms, Parameters

SMALLEST = 1e-3
BYTES = 64e6
"""Memory one temporary may take; it sets the number of conformers in a chunk."""


class EagerEngine:
    """Energies in kJ/mol and forces in kJ/mol/nm of `x (n, atoms, 3)` nm, in the precision of x."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self._pairs = torch.triu_indices(parameters.n_atoms, parameters.n_atoms, 1)

    def energy(self, x: Tensor) -> Tensor:
        """`(n,)` float64."""
        return self.energy_and_force(x)[0]

    def energy_and_force(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(n,)` float64 and `(n, atoms, 3)`."""
        width = max(1, int(BYTES / (8 * max(1, self._pairs.shape[1]))))
        parts = [self._chunk(chunk) for chunk in x.split(width)] if x.shape[0] else []
        if not parts:
            return torch.zeros(0, dtype=torch.float64, device=x.device), torch.zeros_like(x)
        return torch.cat([u for u, _ in parts]), torch.cat([force for _, force in parts])

    def _chunk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p = self.parameters
        tables = _Tables(x)
        positions = x.permute(1, 2, 0)
        force = torch.zeros_like(positions)
        terms = [
            _bonds(positions, force, tables, p),
            _angles(positions, force, tables, p),
            _torsions(positions, force, tables, p),
            _exceptions(positions, force, tables, p),
            _pairs(positions, force, tables, (p, self._pairs.to(x.device))),
        ]
        total = torch.stack([term.double() for term in terms]).sum(0) + p.torsion_constant
        return total, force.permute(2, 0, 1)


class _Tables:
    """Turns numpy parameters into tensors beside x, one column a batch."""

    def __init__(self, x: Tensor) -> None:
        self._like = x

    def column(self, values: object) -> Tensor:
        return torch.as_tensor(values).to(self._like)[..., None]

    def index(self, values: object) -> Tensor:
        return torch.as_tensor(values, device=self._like.device)


def _norm2(v: Tensor) -> Tensor:
    return v.square().sum(1).clamp_min(SMALLEST**2)


def _bonds(x: Tensor, force: Tensor, tables: _Tables, p: Parameters) -> Tensor:
    i, j = tables.index(p.bonds).unbind(1)
    r0, strength = tables.column(p.bond_values.reshape(-1, 2)).unbind(1)
    d = x[i] - x[j]
    r = _norm2(d).sqrt()
    push = (strength * (r - r0) / r)[:, None] * d
    force.index_add_(0, i, -push).index_add_(0, j, push)
    return (0.5 * strength * (r - r0).square()).sum(0)


def _angles(x: Tensor, force: Tensor, tables: _Tables, p: Parameters) -> Tensor:
    i, j, k = tables.index(p.angles).unbind(1)
    t0, strength = tables.column(p.angle_values.reshape(-1, 2)).unbind(1)
    u, v = x[i] - x[j], x[k] - x[j]
    ui, vi = _norm2(u).rsqrt(), _norm2(v).rsqrt()
    cosine = ((u * v).sum(1) * ui * vi).clamp(-1.0, 1.0)
    t = torch.acos(cosine) - t0
    edge = 1.0 - 1e-6
    s = strength * t * (1 - cosine.clamp(-edge, edge).square()).rsqrt()
    on_i = (s * ui * vi)[:, None] * v - (s * ui * ui * cosine)[:, None] * u
    on_k = (s * ui * vi)[:, None] * u - (s * vi * vi * cosine)[:, None] * v
    force.index_add_(0, i, on_i).index_add_(0, k, on_k).index_add_(0, j, -on_i - on_k)
    return (0.5 * strength * t.square()).sum(0)


def _torsions(x: Tensor, force: Tensor, tables: _Tables, p: Parameters) -> Tensor:
    i, j, k, m = tables.index(p.torsions).unbind(1)
    rows = tables.column(p.torsion_coefficients)
    u, v, w = x[i] - x[j], x[k] - x[j], x[k] - x[m]
    a, b = torch.linalg.cross(u, v, dim=1), torch.linalg.cross(v, w, dim=1)
    a2, b2, v2 = (t.square().sum(1).clamp_min(s) for t, s in ((a, 1e-12), (b, 1e-12), (v, SMALLEST**2)))
    norm = (a2 * b2).rsqrt()
    cosine, sine = (a * b).sum(1) * norm, (u * b).sum(1) * norm * v2.sqrt()
    energy, slope = torch.zeros_like(cosine), torch.zeros_like(cosine)
    cn, sn = torch.ones_like(cosine), torch.zeros_like(cosine)
    for n in range(1, 7):
        cn, sn = cn * cosine - sn * sine, sn * cosine + cn * sine
        energy = energy + rows[:, n - 1] * cn + rows[:, n + 5] * sn
        slope = slope + n * (rows[:, n + 5] * cn - rows[:, n - 1] * sn)
    on_i = -(slope * v2.sqrt() / a2)[:, None] * a
    on_m = (slope * v2.sqrt() / b2)[:, None] * b
    s, t = ((u * v).sum(1) / v2)[:, None], ((w * v).sum(1) / v2)[:, None]
    force.index_add_(0, i, on_i).index_add_(0, m, on_m)
    force.index_add_(0, j, on_i * (s - 1) - on_m * t).index_add_(0, k, on_m * (t - 1) - on_i * s)
    return energy.sum(0)


def _exceptions(x: Tensor, force: Tensor, tables: _Tables, p: Parameters) -> Tensor:
    i, j = tables.index(p.exceptions).unbind(1)
    qq, c12, c6 = tables.column(p.exception_values).unbind(1)
    d = x[i] - x[j]
    ri = _norm2(d).rsqrt()
    e12, e6, eq = c12 * ri**12, c6 * ri**6, qq * ri
    push = ((12 * e12 - 6 * e6 + eq) * ri.square())[:, None] * d
    force.index_add_(0, i, push).index_add_(0, j, -push)
    return (e12 - e6 + eq).sum(0)


def _pairs(x: Tensor, force: Tensor, tables: _Tables, system: tuple[Parameters, Tensor]) -> Tensor:
    """Lennard-Jones, reaction-field Coulomb and generalised Born, with the force of all three."""
    p, (i, j) = system
    d = x[i] - x[j]
    r2 = _norm2(d)
    near = (r2 <= p.cutoff**2).to(r2)
    qq, c12, c6 = (tables.column(v) for v in (p.pair_charge, p.pair_c12, p.pair_c6))
    ri = r2.rsqrt()
    e12, e6 = c12 * ri**12, c6 * ri**6
    energy = (near * (qq * (ri + p.reaction_k * r2 - p.reaction_c) + e12 - e6)).sum(0)
    scale = near * ((12 * e12 - 6 * e6 + qq * ri) * ri.square() - 2 * p.reaction_k * qq)
    if p.born is not None:
        solvation, through_born = _generalised_born(r2, tables, (p.born, i, j))
        energy, scale = energy + solvation, scale + through_born
    push = scale[:, None] * d
    force.index_add_(0, i, push).index_add_(0, j, -push)
    return energy


def _generalised_born(
    r2: Tensor, tables: _Tables, system: tuple[BornTerms, Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Energy `(batch,)` and −(∂E/∂r)/r `(pairs, batch)` of the OBC model, radii included."""
    born, i, j = system
    inside = (r2 <= born.cutoff**2).to(r2)
    r = r2.sqrt()
    own, scaled, radius = (tables.column(v) for v in (born.offset_radius, born.scaled_radius, born.radius))
    value_i, slope_i = _half_integral(r, own[i], scaled[j])
    value_j, slope_j = _half_integral(r, own[j], scaled[i])
    integral = torch.zeros(own.shape[0], r.shape[1], dtype=r.dtype, device=r.device)
    integral = integral.index_add(0, i, inside * value_i).index_add(0, j, inside * value_j)

    t1, t2, t3 = (float(t) for t in born.tanh)
    psi = integral * own
    t = torch.tanh(psi * (t1 + psi * (t2 + psi * t3)))
    b = 1 / (1 / own - t / radius)
    own_charge, surface = tables.column(born.self_energy) / b, tables.column(born.surface) / b**6
    slope_b = -(own_charge + 6 * surface) / b

    bb = b[i] * b[j]
    x = 0.25 * r2 / bb
    ex = torch.exp(-x)
    fi = (r2 + bb * ex).rsqrt()
    qb = inside * tables.column(born.pair_scale * born.charge)[i] * tables.column(born.charge)[j]
    energy = (own_charge + surface).sum(0) + (qb * (fi - born.shift)).sum(0)
    g = 0.5 * qb * fi**3
    h = -g * ex * (1 + x)
    slope_b = slope_b.index_add(0, i, h * b[j]).index_add(0, j, h * b[i])
    chain = slope_b * b.square() * (1 - t.square()) * (t1 + psi * (2 * t2 + 3 * t3 * psi)) * own / radius
    through = inside * (chain[i] * slope_i + chain[j] * slope_j) / r
    return energy, 2 * g * (1 - 0.25 * ex) - through


def _half_integral(r: Tensor, own: Tensor, scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Born integral of an atom of radius `own` over a neighbour of radius `scaled`: I and dI/dr."""
    gap = r - scaled
    side = torch.where(gap.abs() > own, gap.sign(), torch.zeros_like(gap))
    lo, up = 1 / torch.maximum(gap.abs(), own), 1 / (r + scaled)
    log = torch.log(up / lo) / r
    q = scaled.square() / r
    difference = up.square() - lo.square()
    value = 0.5 * (lo - up + 0.25 * (r - q) * difference + 0.5 * log)
    slope = up.square() - side * lo.square() + 0.25 * (1 + q / r) * difference
    slope = slope + 0.5 * (r - q) * (side * lo**3 - up**3) + 0.5 * (side * lo - up - log) / r
    use = r + scaled >= own
    zero = torch.zeros_like(r)
    return torch.where(use, value, zero), torch.where(use, 0.5 * slope, zero)
