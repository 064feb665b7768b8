"""The reference geometry: what each atom's r, θ and φ usually are, and how widely they spread.

The flow sees r and θ standardised, (r − r₀)/σ_r and (θ − θ₀)/σ_θ, and starts φ from φ₀ and σ_φ where the
dihedral is fixed by the chemistry. A row of the table holds, in this order,

    r₀, σ_r (nm), θ₀, σ_θ (rad), φ₀, σ_φ (rad), closing length (nm).

An atom that closes a ring has no θ₀ of its own: its angle reference is bonded to it, with the closing length
l, and at the distance d between parent and angle reference the law of cosines gives

    cos θ₀ = (r₀² + d² − l²) / (2 r₀ d).

The table is stored in the weights file. Its rows are means over training frames (`survey`), looked up from
the most specific key to the most general: residue, atom and place in the chain; residue and atom; elements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import bgbench
from bgbench_verse.internal_coordinates import repeat_for_samples
from bgbench_verse.zmatrix import Placement, ZMatrix

FIXED_DIHEDRAL = 0.5
"""rad. A dihedral whose spread is below this stays near φ₀; the others turn about their bond."""

Table = Mapping[str, Sequence[float]]
"""Rows of seven numbers by key, see above."""


@dataclass(frozen=True)
class ReferenceGeometry:
    """Table rows of atoms, `rows (…, 7)`, with a name for each column `(…,)`."""

    rows: Tensor

    @property
    def length(self) -> Tensor:
        """r₀, nm."""
        return self.rows[..., 0]

    @property
    def length_width(self) -> Tensor:
        """σ_r, nm."""
        return self.rows[..., 1]

    @property
    def angle(self) -> Tensor:
        """θ₀, rad; zero for an atom that closes a ring, see `expected_angle`."""
        return self.rows[..., 2]

    @property
    def angle_width(self) -> Tensor:
        """σ_θ, rad."""
        return self.rows[..., 3]

    @property
    def dihedral(self) -> Tensor:
        """φ₀, rad."""
        return self.rows[..., 4]

    @property
    def dihedral_width(self) -> Tensor:
        """σ_φ, rad: √(−2 log |⟨exp(iφ)⟩|)."""
        return self.rows[..., 5]

    @property
    def closing_length(self) -> Tensor:
        """Mean distance to the angle reference, nm; the length of the closing bond where there is one."""
        return self.rows[..., 6]

    def of_step(self, k: int) -> "ReferenceGeometry":
        """The rows `(b, 1, 7)` of the atom placed at step k, of `rows (b, N, 7)`."""
        return ReferenceGeometry(self.rows[:, k : k + 1])

    def repeat_for_samples(self, n: int) -> "ReferenceGeometry":
        """`rows (b, …)` of b peptides repeated for n samples."""
        return ReferenceGeometry(repeat_for_samples(self.rows, n))


def atom_names(atoms: Sequence[bgbench.Atom], zmatrix: ZMatrix) -> list[str]:
    """`RES:NAME` of each atom in placing order."""
    return [f"{atoms[k].residue_name}:{atoms[k].name}" for k in zmatrix.order.tolist()]


def chain_places(atoms: Sequence[bgbench.Atom], zmatrix: ZMatrix) -> list[int]:
    """0 in the first residue, 2 in the last, 1 between, in placing order."""
    last = max(atom.residue for atom in atoms)
    return [
        0 if atoms[k].residue == 0 else 2 if atoms[k].residue == last else 1 for k in zmatrix.order.tolist()
    ]


def table_keys(atoms: Sequence[bgbench.Atom], zmatrix: ZMatrix) -> list[tuple[str, str, str]]:
    """Keys of each atom's table row, in placing order, from the most specific to the most general."""
    elements = [atoms[k].element for k in zmatrix.order.tolist()]
    placements = zmatrix.placement.tolist()
    parents = zmatrix.parent.tolist()
    names, places = atom_names(atoms, zmatrix), chain_places(atoms, zmatrix)
    return [
        (f"{name}:{place}", name, f"{elements[k]}-{elements[parents[k]]}:{placements[k]}")
        for k, (name, place) in enumerate(zip(names, places, strict=True))
    ]


def look_up_geometry(atoms: Sequence[bgbench.Atom], zmatrix: ZMatrix, table: Table) -> ReferenceGeometry:
    """The rows `(N, 7)` of a peptide's atoms in placing order.

    Raises:
        BgbenchError: for an atom that has no row under any of its keys.
    """
    rows = []
    for name, keys in zip(atom_names(atoms, zmatrix), table_keys(atoms, zmatrix), strict=True):
        row = next((table[key] for key in keys if key in table), None)
        if row is None:
            raise bgbench.BgbenchError(
                f"verse has no reference geometry for {name}; train it on peptides that have this atom"
            )
        rows.append(list(row))
    return ReferenceGeometry(torch.tensor(rows))


def batch_geometry(geometries: Sequence[ReferenceGeometry], width: int) -> ReferenceGeometry:
    """Rows of b peptides padded with ones to `width` atoms, `(b, width, 7)`."""
    padded = [F.pad(g.rows, (0, 0, 0, width - len(g.rows)), value=1.0) for g in geometries]
    return ReferenceGeometry(torch.stack(padded))


def ring_closing_angle(distance: Tensor, geometry: ReferenceGeometry) -> Tensor:
    """θ₀ at the parent of an atom that closes a ring, from the `distance` (nm) of its two neighbours.

    Kept off 0 and π, so that conformers with a broken ring have a density, too.
    """
    r, length = geometry.length, geometry.closing_length.clamp_min(0.05)
    cosine = (r**2 + distance**2 - length**2) / (2 * r * distance)
    return torch.acos(cosine.clamp(-0.95, 0.95))


def expected_angle(
    parent: Tensor, angle_reference: Tensor, placement: Tensor, geometry: ReferenceGeometry
) -> Tensor:
    """θ₀ of atoms with these reference atoms `(…, 3)`: the table's, or the one that closes the ring."""
    distance = (angle_reference - parent).norm(dim=-1).clamp_min(0.02)
    closing = ring_closing_angle(distance, geometry)
    return torch.where(placement == Placement.RING_CLOSURE, closing, geometry.angle)
