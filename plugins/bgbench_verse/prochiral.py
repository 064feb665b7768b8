"""Pairs of hydrogens on one atom that only their names tell apart, and which of the two is which.

The force field treats both alike (those of a planar NH2 up to the order of atoms in its improper), but start
structures name them by chance and no simulation exchanges them. The flow therefore knows one naming, the
canonical one. With dihedrals φ_a of the first and φ_b of the second hydrogen it is

    sin φ_b > sin φ_a                where both are measured from one dihedral reference,
    cos φ_a > cos(φ_a + φ_b)         where b is measured from a itself,

and exactly one of two namings satisfies it. Given φ_a, the canonical φ_b lie on one arc of the circle.
Samples are named by chance again, so that each of the 2^pairs namings has the density q / 2^pairs. Angles
are in rad.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bgbench_verse.internal_coordinates import gather_steps, repeat_for_samples, to_internal
from bgbench_verse.zmatrix import ZMatrixBatch


@dataclass(frozen=True)
class Arc:
    """The part of the circle within `half_length` of `middle`, `(…,)` rad each."""

    middle: Tensor
    half_length: Tensor

    def excludes(self, phi: Tensor) -> Tensor:
        """Whether each φ `(…,)` lies off the arc."""
        return wrap(phi - self.middle).abs() >= self.half_length


def has_partner(zmatrix: ZMatrixBatch) -> Tensor:
    """`(b, N)`: whether an atom is the second of a prochiral pair."""
    partner = zmatrix.prochiral_partner
    return partner != torch.arange(partner.shape[1], device=partner.device)


def is_measured_from_partner(zmatrix: ZMatrixBatch) -> Tensor:
    """`(b, N)`: whether the dihedral reference of an atom is its own prochiral partner."""
    return (zmatrix.dihedral_reference == zmatrix.prochiral_partner) & has_partner(zmatrix)


def count_pairs(zmatrix: ZMatrixBatch) -> Tensor:
    """How many prochiral pairs each peptide has, `(b,)`."""
    return has_partner(zmatrix).sum(1)


def canonical_arc(first: Tensor, from_partner: Tensor) -> Arc:
    """The arc of canonical φ_b, given φ_a `first (…,)` and whether b is measured from a, `(…,)`."""
    middle = torch.where(from_partner, math.pi - first, torch.full_like(first, math.pi / 2))
    # |φ_a − π/2| on the circle is π/2 − asin(sin φ_a), which has no derivative at its ends.
    to_arc = torch.where(from_partner, math.pi - wrap(first).abs(), wrap(first - math.pi / 2).abs())
    return Arc(middle, to_arc)


def wrap(angle: Tensor) -> Tensor:
    """An angle (rad) between −π and π."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


def is_canonical(phi: Tensor, zmatrix: ZMatrixBatch) -> Tensor:
    """`(n, N)`: whether each atom and its partner have their canonical names, from dihedrals `phi (n, N)`."""
    first = gather_steps(phi, zmatrix.prochiral_partner)
    from_partner = repeat_for_samples(is_measured_from_partner(zmatrix), len(phi))
    canonical = torch.where(
        from_partner, torch.cos(first) > torch.cos(first + phi), torch.sin(phi) > torch.sin(first)
    )
    return canonical | ~repeat_for_samples(has_partner(zmatrix), len(phi))


def to_canonical_names(x: Tensor, zmatrix: ZMatrixBatch) -> Tensor:
    """`x (n, N, 3)` in placing order, with partners exchanged where they did not have canonical names."""
    _, _, phi = to_internal(x, zmatrix)
    return exchange_partners(x, zmatrix, ~is_canonical(phi, zmatrix))


def exchange_partners(x: Tensor, zmatrix: ZMatrixBatch, swap: Tensor) -> Tensor:
    """`x (n, N, 3)` with an atom and its partner exchanged where `swap (n, N)` is true of the second."""
    steps = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
    partner = repeat_for_samples(zmatrix.prochiral_partner, len(x))
    swap = swap & (partner != steps)
    order = torch.where(swap, partner, steps)
    # Where a second takes its partner's place, the partner takes the second's.
    order = order.scatter(1, torch.where(swap, partner, steps), torch.where(swap, steps, order))
    return x.gather(1, order[..., None].expand_as(x))
