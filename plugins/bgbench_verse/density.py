"""log q of whole conformers, all atoms in one pass.

With standardised coordinates r̃, θ̃ of atom i (see `reference_geometry`) and the conditionals of `network`,

    log q(x) = Σ_i [log p(φ_i) + log p(θ̃_i | φ_i) + log p(r̃_i | θ̃_i, φ_i)]
             − Σ_i [log(r_i² sin θ_i) + log σ_r,i + log σ_θ,i]

per nm^(3N − 6): a density of shapes, place and orientation left out. p(θ̃) and p(r̃) are truncated to what
can be an angle and a length (`truncation`), p(φ) of the second of a prochiral pair to the arc of canonical
names (`prochiral`). `sampling` draws from the same conditionals, atom by atom.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench_verse.internal_coordinates import (
    gather_steps,
    local_axes,
    local_frames,
    log_volume_element,
    normalize,
    repeat_for_samples,
    to_internal,
)
from bgbench_verse.mixtures import WrappedNormalMixture
from bgbench_verse.molecule import MoleculeBatch
from bgbench_verse.network import Verse
from bgbench_verse.prochiral import Arc, canonical_arc, has_partner, is_measured_from_partner
from bgbench_verse.reference_geometry import ReferenceGeometry, expected_angle
from bgbench_verse.truncation import LEAST_MASS, Bounds, TruncatedMixture

SHORTEST_ARC = 1e-6
"""rad. Least half length of an arc, so that its logarithm is finite."""

MIN_LENGTH, MAX_LENGTH = 0.001, 1.0
"""nm. Bond lengths have a density between these."""

MIN_ANGLE = 1e-4
"""rad. How far bond angles stay off 0 and π."""


@dataclass(frozen=True)
class StandardizedCoordinates:
    """r̃, θ̃ and φ `(n, N)` of conformers, zero where an atom has none, and the bounds of r̃ and θ̃."""

    r: Tensor
    theta: Tensor
    phi: Tensor
    length_bounds: Bounds
    angle_bounds: Bounds


def length_bounds(geometry: ReferenceGeometry) -> Bounds:
    """Bounds of the standardised r `(…,)`."""
    low, high = ((r - geometry.length) / geometry.length_width for r in (MIN_LENGTH, MAX_LENGTH))
    return Bounds(low, high)


def angle_bounds(expected: Tensor, geometry: ReferenceGeometry) -> Bounds:
    """Bounds of the standardised θ `(…,)` about the `expected` one (rad)."""
    low, high = ((theta - expected) / geometry.angle_width for theta in (MIN_ANGLE, math.pi - MIN_ANGLE))
    return Bounds(low, high)


def standardize(x: Tensor, molecules: MoleculeBatch) -> tuple[StandardizedCoordinates, Tensor]:
    """Standardised coordinates of `x (n, N, 3)` nm in placing order, and each atom's log Jacobian `(n, N)`.

    The Jacobian is |∂(r̃, θ̃, φ)/∂x|.
    """
    zmatrix = molecules.zmatrix
    r, theta, phi = to_internal(x, zmatrix)
    geometry = molecules.geometry.repeat_for_samples(len(x))
    steps = torch.arange(x.shape[1], device=x.device)
    expected = expected_angle(
        gather_steps(x, zmatrix.parent),
        gather_steps(x, zmatrix.angle_reference),
        repeat_for_samples(zmatrix.placement, len(x)),
        geometry,
    )
    coordinates = StandardizedCoordinates(
        torch.where(steps >= 1, (r - geometry.length) / geometry.length_width, 0.0),
        torch.where(steps >= 2, (theta - expected) / geometry.angle_width, 0.0),
        torch.where(steps >= 3, phi, 0.0),
        length_bounds(geometry),
        angle_bounds(expected, geometry),
    )
    log_widths = torch.where(steps >= 1, torch.log(geometry.length_width), 0.0)
    log_widths = log_widths + torch.where(steps >= 2, torch.log(geometry.angle_width), 0.0)
    return coordinates, -log_volume_element(r, theta) - log_widths


def atom_states(
    net: Verse, x: Tensor, molecules: MoleculeBatch, coordinates: StandardizedCoordinates
) -> Tensor:
    """The states that every atom's conditionals are computed from, `(n, N, width)`."""
    n, n_atoms = x.shape[:2]
    embedding = repeat_for_samples(net.atoms(molecules.atom_codes), n)
    token = net.token(embedding, coordinates.r, coordinates.theta, coordinates.phi)
    token = torch.cat([net.nothing.expand(n, -1, -1), token], dim=1)
    parent, local = local_frames(x, molecules.zmatrix)
    has_frame = (torch.arange(n_atoms, device=x.device) >= 3).to(x)[:, None, None]
    future = torch.ones(n_atoms, n_atoms + 1, dtype=torch.bool, device=x.device).triu(1)
    geometry = net.pair_geometry(x, parent, local) * has_frame
    return net.states(embedding, net.keys_values(token), geometry, future)


@dataclass(frozen=True)
class Conditionals:
    """p(φ), p(θ̃) and p(r̃) of every atom of conformers, each given the atoms before it.

    Attributes:
        dihedral: On the whole circle.
        angle: Truncated.
        length: Truncated.
        arc: That of canonical φ, `(n, N)`; the whole circle without a partner.
        arc_mass: `(n, N)`, the probability of the arc under `dihedral`; 1 without a partner.
    """

    dihedral: WrappedNormalMixture
    angle: TruncatedMixture
    length: TruncatedMixture
    arc: Arc
    arc_mass: Tensor


def conditionals(
    net: Verse, x: Tensor, molecules: MoleculeBatch, coordinates: StandardizedCoordinates
) -> Conditionals:
    """The conditionals of all atoms of `x (n, N, 3)` in placing order."""
    state = atom_states(net, x, molecules, coordinates)
    zmatrix, phi = molecules.zmatrix, coordinates.phi
    dihedral = net.dihedral(state, molecules.geometry.repeat_for_samples(len(x)))
    from_partner = repeat_for_samples(is_measured_from_partner(zmatrix), len(x))
    arc = canonical_arc(gather_steps(phi, zmatrix.prochiral_partner), from_partner)
    paired = repeat_for_samples(has_partner(zmatrix), len(x))
    arc_mass = torch.where(paired, dihedral.arc_mass(arc.middle, arc.half_length), 1.0)
    half_arc = torch.where(paired, arc.half_length.clamp_min(SHORTEST_ARC), math.pi)
    allowed = Arc(torch.where(paired, arc.middle, 0.0), half_arc)
    angle = TruncatedMixture(net.angle(state, phi), coordinates.angle_bounds)
    length = TruncatedMixture(net.length(state, phi, coordinates.theta), coordinates.length_bounds)
    return Conditionals(dihedral, angle, length, allowed, arc_mass)


def log_prob_on_arc(log_prob: Tensor, arc_mass: Tensor, half_arc: Tensor) -> Tensor:
    """log density of φ on its arc, from `log_prob` on the whole circle; uniform where the mass is small."""
    uniform = -torch.log(2 * half_arc)
    return torch.where(arc_mass < LEAST_MASS, uniform, log_prob - torch.log(arc_mass.clamp_min(LEAST_MASS)))


def log_density(net: Verse, x: Tensor, molecules: MoleculeBatch) -> Tensor:
    """log q `(n,)` of conformers, place and orientation left out.

    Args:
        net: The network.
        x: `(n, N, 3)` nm in placing order. Prochiral hydrogens must have their canonical names
            (`prochiral.to_canonical_names`): the flow has no density for other namings.
        molecules: Of b peptides, b dividing n.
    """
    coordinates, log_jacobian = standardize(x, molecules)
    log_prob = _log_prob_of_atoms(conditionals(net, x, molecules, coordinates), coordinates)
    return torch.where(repeat_for_samples(molecules.mask, len(x)), log_prob + log_jacobian, 0.0).sum(-1)


def _log_prob_of_atoms(p: Conditionals, coordinates: StandardizedCoordinates) -> Tensor:
    """log p of each atom's standardised coordinates `(n, N)`."""
    steps = torch.arange(coordinates.r.shape[1], device=coordinates.r.device)
    dihedral = log_prob_on_arc(p.dihedral.log_prob(coordinates.phi), p.arc_mass, p.arc.half_length)
    total = torch.where(steps >= 3, dihedral, 0.0)
    total = total + torch.where(steps >= 2, p.angle.log_prob(coordinates.theta), 0.0)
    return total + torch.where(steps >= 1, p.length.log_prob(coordinates.r), 0.0)


def to_uniform(net: Verse, x: Tensor, molecules: MoleculeBatch) -> tuple[Tensor, Tensor]:
    """The map that has q for its density: every internal coordinate through its cumulative distribution.

    Args:
        net: The network.
        x: `(n, N, 3)` nm of one peptide in placing order, hydrogens under canonical names.
        molecules: The one peptide.

    Returns:
        `(n, 3 N − 3)` numbers between 0 and 1: the orientation (cosine, azimuth, twist), then those of the
        shape; and the map's log |det| `(n,)`, which has no part of the centre of mass.
    """
    coordinates, log_jacobian = standardize(x, molecules)
    p = conditionals(net, x, molecules, coordinates)
    orientation = _orientation(x, molecules)
    shape = [p.length.cdf(coordinates.r)[:, 1:], p.angle.cdf(coordinates.theta)[:, 2:]]
    numbers = torch.cat([*orientation, *shape, _fraction_of_arc(p, coordinates.phi)[:, 3:]], dim=1)
    log_shape = (_log_prob_of_atoms(p, coordinates) + log_jacobian).sum(-1)
    return numbers, log_shape - math.log(rotation_volume(x.shape[1]))


def _fraction_of_arc(p: Conditionals, phi: Tensor) -> Tensor:
    """The probability `(n, N)` of the part of its arc that lies before φ, of the whole arc's."""
    half = torch.remainder(phi - p.arc.middle + p.arc.half_length, 2 * math.pi) / 2
    before = p.dihedral.arc_mass(p.arc.middle - p.arc.half_length + half, half)
    uniform = half / p.arc.half_length
    return torch.where(p.arc_mass < LEAST_MASS, uniform, before / p.arc_mass.clamp_min(LEAST_MASS))


def rotation_volume(n_atoms: int) -> float:
    """Volume of the orientations of n atoms: 1 of one, 4π of two, 8π² of more (not all in one line)."""
    return 1.0 if n_atoms < 2 else 4 * math.pi if n_atoms == 2 else 8 * math.pi**2


def _orientation(x: Tensor, molecules: MoleculeBatch) -> list[Tensor]:
    """Cosine and azimuth of the first bond, and the twist of the third atom about it, `(n, 1)` each.

    All three lie between 0 and 1, where they are uniform in every orientation alike.
    """
    if x.shape[1] < 2:
        return []
    bond = normalize(x[:, 1] - x[:, 0])
    parts = [(bond[:, 2:] + 1) / 2, _as_fraction(torch.atan2(bond[:, 1:2], bond[:, :1]))]
    if x.shape[1] > 2:
        frame = local_axes(x[:, 0], x[:, 1], x[:, 1] + x.new_tensor([0.0, 0.0, 1.0]))
        parent = gather_steps(x, molecules.zmatrix.parent)[:, 2]
        third = (frame @ (x[:, 2] - parent)[..., None])[..., 0]
        parts.append(_as_fraction(torch.atan2(third[:, 1:2], third[:, :1])))
    return parts


def _as_fraction(angle: Tensor) -> Tensor:
    """An angle between −π and π rad as a fraction of the circle."""
    return angle / (2 * math.pi) + 0.5
