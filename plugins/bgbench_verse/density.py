"""log q of whole conformers, all atoms at once, and the draw, atom by atom, from the same conditionals."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench_verse.chemistry import Molecules, expected_angle
from bgbench_verse.held import LEAST, Ends, Held
from bgbench_verse.hydrogens import allowed, chained, contested, outside
from bgbench_verse.internal import at, axes, frames, internals, log_volume, placed, unit, widen
from bgbench_verse.mixtures import Circular
from bgbench_verse.network import Verse

THIN = 1e-6
"""rad. Half an arc at least: its logarithm stays a number."""


SHORTEST, LONGEST = 0.001, 1.0
"""nm. Bond lengths that can be drawn."""

FLATTEST = 1e-4
"""rad. How far bond angles stay off 0 and π."""


@dataclass(frozen=True)
class Standard:
    """Standardised coordinates `(n, N)` of conformers, zero where an atom has none; ends of r and θ."""

    r: Tensor
    theta: Tensor
    phi: Tensor
    lengths: Ends
    angles: Ends


def length_ends(usual: Tensor) -> Ends:
    """Standardised ends of r `(…,)` for table rows `usual (…, 7)`."""
    low, high = ((end - usual[..., 0]) / usual[..., 1] for end in (SHORTEST, LONGEST))
    return low, high


def angle_ends(expected: Tensor, usual: Tensor) -> Ends:
    """Standardised ends of θ `(…,)` about what is `expected (…,)`, rad, for table rows `usual (…, 7)`."""
    low, high = ((end - expected) / usual[..., 3] for end in (FLATTEST, math.pi - FLATTEST))
    return low, high


def standardised(x: Tensor, m: Molecules) -> tuple[Standard, Tensor]:
    """Of `x (n, N, 3)` in placing order; and log|∂(standardised)/∂x| of each atom `(n, N)`."""
    r, theta, phi = internals(x, m.tree)
    usual = widen(m.usual, len(x))
    steps = torch.arange(x.shape[1], device=x.device)
    expected = expected_angle(at(x, m.tree.parent), at(x, m.tree.axis), widen(m.tree.kind, len(x)), usual)
    scaled = Standard(
        torch.where(steps >= 1, (r - usual[..., 0]) / usual[..., 1], 0.0),
        torch.where(steps >= 2, (theta - expected) / usual[..., 3], 0.0),
        torch.where(steps >= 3, phi, 0.0),
        length_ends(usual),
        angle_ends(expected, usual),
    )
    widths = torch.where(steps >= 1, torch.log(usual[..., 1]), 0.0)
    widths = widths + torch.where(steps >= 2, torch.log(usual[..., 3]), 0.0)
    return scaled, -log_volume(r, theta) - widths


def states(net: Verse, x: Tensor, m: Molecules, s: Standard) -> Tensor:
    """What every atom's conditionals are made of, `(n, N, width)`."""
    n, width = x.shape[:2]
    atom = widen(net.atoms(m.codes), n)
    token = net.token(atom, s.r, s.theta, s.phi)
    token = torch.cat([net.nothing.expand(n, -1, -1), token], dim=1)
    p, local = frames(x, m.tree)
    framed = (torch.arange(width, device=x.device) >= 3).to(x)[:, None, None]
    hidden = torch.ones(width, width + 1, dtype=torch.bool, device=x.device).triu(1)
    return net.states(atom, net.keys(token), net.geometry(x, p, local) * framed, hidden)


@dataclass(frozen=True)
class Conditionals:
    """p(φ), p(θ), p(r) of every atom of conformers, each given the atoms before it.

    `mass (n, N)`: what p(φ) leaves to the arc where the atom's rival allows it to be, and `half` that arc's
    length; 1 and π without a rival.
    """

    dihedral: Circular
    angle: Held
    length: Held
    mass: Tensor
    half: Tensor


def conditionals(net: Verse, x: Tensor, m: Molecules, s: Standard) -> Conditionals:
    """All at once, from `x (n, N, 3)` in placing order and its standardised coordinates."""
    state = states(net, x, m, s)
    dihedral = net.dihedral(state, widen(m.usual, len(x)))
    middle, half = allowed(at(s.phi, m.tree.rival), widen(chained(m.tree), len(x)))
    fought = widen(contested(m.tree), len(x))
    mass = torch.where(fought, dihedral.mass(middle, half), 1.0)
    half = torch.where(fought, half.clamp_min(THIN), math.pi)
    angle = Held(net.angle(state, s.phi), s.angles)
    length = Held(net.length(state, s.phi, s.theta), s.lengths)
    return Conditionals(dihedral, angle, length, mass, half)


def log_turn(log_p: Tensor, mass: Tensor, half: Tensor) -> Tensor:
    """log density of φ in its arc, from that of the whole circle `log_p`."""
    return torch.where(mass < LEAST, -torch.log(2 * half), log_p - torch.log(mass.clamp_min(LEAST)))


def log_density(net: Verse, x: Tensor, m: Molecules) -> Tensor:
    """log q `(n,)` over shapes of `x (n, N, 3)` nm in placing order: orientation and place are left out.

    Rival hydrogens must have the flow's names (`hydrogens.renamed`): of other namings it knows nothing.
    """
    s, log_jacobian = standardised(x, m)
    p = conditionals(net, x, m, s)
    return torch.where(widen(m.mask, len(x)), _log_each(p, s) + log_jacobian, 0.0).sum(-1)


def _log_each(p: Conditionals, s: Standard) -> Tensor:
    """log p of each atom's standardised coordinates `(n, N)`."""
    steps = torch.arange(s.r.shape[1], device=s.r.device)
    each = torch.where(steps >= 3, log_turn(p.dihedral.log_prob(s.phi), p.mass, p.half), 0.0)
    each = each + torch.where(steps >= 2, p.angle.log_prob(s.theta), 0.0)
    return each + torch.where(steps >= 1, p.length.log_prob(s.r), 0.0)


def uniform(net: Verse, x: Tensor, m: Molecules) -> tuple[Tensor, Tensor]:
    """The map whose density q is: `x (n, N, 3)` of one peptide → `(n, 3 N)` numbers, and its log|det| `(n,)`.

    Centre of mass and orientation (cosine, azimuth, twist) as they are, every internal coordinate through
    its cumulative distribution.
    """
    s, log_jacobian = standardised(x, m)
    p = conditionals(net, x, m, s)
    parts = [x.mean(1), *_orientation(x, m)]
    inside = p.dihedral.cdf(s.phi) / p.mass.clamp_min(LEAST)
    turns = torch.where(p.mass < LEAST, s.phi / (2 * p.half), inside)
    parts += [p.length.cdf(s.r)[:, 1:], p.angle.cdf(s.theta)[:, 2:], turns[:, 3:]]
    return torch.cat(parts, dim=1), (_log_each(p, s) + log_jacobian).sum(-1)


def _orientation(x: Tensor, m: Molecules) -> list[Tensor]:
    """Cosine and azimuth of the first bond, and the twist of the third atom about it, `(n, 1)` each."""
    if x.shape[1] < 2:
        return []
    bond = unit(x[:, 1] - x[:, 0])
    found = [bond[:, 2:], torch.atan2(bond[:, 1:2], bond[:, :1])]
    if x.shape[1] > 2:
        start = axes(x[:, 0], x[:, 1], x[:, 1] + x.new_tensor([0.0, 0.0, 1.0]))
        arm = (start @ (x[:, 2] - at(x, m.tree.parent)[:, 2])[..., None])[..., 0]
        found.append(torch.atan2(arm[:, 1:2], arm[:, :1]))
    return found


def draw(net: Verse, m: Molecules, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`n` conformers of one peptide (b = 1) `(n, N, 3)` nm in placing order, and their log q `(n,)`."""
    width = m.mask.shape[1]
    atom = net.atoms(m.codes)
    x, log_q, phi = atom.new_zeros(n, width, 3), atom.new_zeros(n), atom.new_zeros(n, width)
    caches = [tuple(_room(part, n, width + 1) for part in keys) for keys in net.keys(net.nothing)]
    _remember(caches, net.keys(net.nothing), 0)
    for i in range(width):
        here = atom[:, i : i + 1].expand(n, -1, -1)
        arc = _arc(m, phi, i)
        coordinates, log_p = _place(net, m, x, i, (_state(net, m, x, i, here, caches), arc), generator)
        phi[:, i] = coordinates[2]
        log_q += log_p
        _remember(caches, net.keys(net.token(here, *(part[:, None] for part in coordinates))), i + 1)
    return x, log_q


def _room(part: Tensor, n: int, length: int) -> Tensor:
    """Space for the keys or values of `length` tokens of n samples."""
    return part.new_empty(n, part.shape[1], length, part.shape[3])


def _remember(caches: list[tuple[Tensor, ...]], keys: list[tuple[Tensor, Tensor]], i: int) -> None:
    for cache, fresh in zip(caches, keys, strict=True):
        for kept, part in zip(cache, fresh, strict=True):
            kept[:, :, i] = part[:, :, 0]


def _state(
    net: Verse, m: Molecules, x: Tensor, i: int, atom: Tensor, caches: list[tuple[Tensor, ...]]
) -> Tensor:
    """The state of atom i from atoms 0 … i − 1, `(n, 1, width)`."""
    p, local = _frame(m, x, i)
    geometry = net.geometry(x[:, :i], p[:, None], local[:, None]) * (1.0 if i >= 3 else 0.0)
    keys = [(key[:, :, : i + 1], value[:, :, : i + 1]) for key, value in caches]
    return net.states(atom, keys, geometry, None)


def _frame(m: Molecules, x: Tensor, i: int) -> tuple[Tensor, Tensor]:
    p, g, d = (x[:, int(index[0, i])] for index in (m.tree.parent, m.tree.axis, m.tree.third))
    if i >= 3:
        return p, axes(p, g, d)
    return p, torch.eye(3, dtype=x.dtype, device=x.device).expand(len(x), 3, 3)


def _arc(m: Molecules, phi: Tensor, i: int) -> tuple[Tensor, Tensor] | None:
    """Where the rival of atom i allows it to be, `(n, 1)` each; None without a rival."""
    rival = int(m.tree.rival[0, i])
    if rival == i:
        return None
    first = phi[:, rival : rival + 1]
    return allowed(first, chained(m.tree)[:, i : i + 1].expand_as(first))


def _turn(
    dihedral: Circular, arc: tuple[Tensor, Tensor] | None, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """φ and its log probability, `(n, 1)` each: drawn again until it lies in the arc."""
    phi = dihedral.draw(generator)
    if arc is None:
        return phi, dihedral.log_prob(phi)
    (middle, half), mass = arc, dihedral.mass(*arc)
    even = middle + half * (2 * torch.rand(phi.shape, generator=generator, dtype=phi.dtype) - 1)
    even = torch.remainder(even + math.pi, 2 * math.pi) - math.pi
    phi = torch.where(mass < LEAST, even, phi)
    while bool((out := outside(phi, middle, half) & (mass >= LEAST)).any()):
        phi = torch.where(out, dihedral.draw(generator), phi)
    return phi, log_turn(dihedral.log_prob(phi), mass, half.clamp_min(THIN))


def _place(
    net: Verse,
    m: Molecules,
    x: Tensor,
    i: int,
    given: tuple[Tensor, tuple[Tensor, Tensor] | None],
    generator: torch.Generator,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Draw atom i into `x`; its standardised coordinates and log q, `(n,)` each."""
    (state, arc), n, usual = given, len(x), m.usual[:, i : i + 1]
    nothing = x.new_zeros(n, 1)
    rs, ts, phi, log_p = nothing, nothing, nothing, nothing
    if i >= 3:
        phi, turn = _turn(net.dihedral(state, usual), arc, generator)
        log_p = log_p + turn
    p, local = _frame(m, x, i)
    axis = x[:, int(m.tree.axis[0, i])]
    expected = expected_angle(p, axis, m.tree.kind[:, i], usual[:, 0])
    if i >= 2:
        angle = Held(net.angle(state, phi), angle_ends(expected[:, None], usual))
        ts = angle.draw(generator)
        log_p = log_p + angle.log_prob(ts)
    if i >= 1:
        length = Held(net.length(state, phi, ts), length_ends(usual))
        rs = length.draw(generator)
        log_p = log_p + length.log_prob(rs)
        r = (usual[..., 0] + usual[..., 1] * rs)[:, 0]
        theta = expected + usual[:, 0, 3] * ts[:, 0] if i >= 2 else nothing[:, 0]
        if i == 2:
            local = axes(p, axis, axis + x.new_tensor([1.0, 0.0, 0.0]))
        x[:, i] = placed(p, local, r, theta, phi[:, 0])
        log_p = log_p[:, 0] - torch.log(usual[0, 0, 1]) - 2 * torch.log(r)
        if i >= 2:
            log_p = log_p - torch.log(usual[0, 0, 3]) - torch.log(torch.sin(theta))
        return (rs[:, 0], ts[:, 0], phi[:, 0]), log_p
    return (rs[:, 0], ts[:, 0], phi[:, 0]), log_p[:, 0]
