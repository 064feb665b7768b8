"""Vocabulary and reference geometry measured on training frames.

For every key of every atom (`reference_geometry.table_keys`) the frames of all peptides are pooled; r₀ and θ₀
are means, σ_r and σ_θ standard deviations, φ₀ and σ_φ the circular mean and spread, all of frames in which
equivalent atoms are exchanged at random. For atoms that close a ring, σ_θ is the deviation from the angle
that closes it. Lengths in nm, angles in rad.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bgbench_verse.internal_coordinates import to_internal
from bgbench_verse.peptides import TrainingPeptide, sample_equivalent_orders
from bgbench_verse.reference_geometry import ReferenceGeometry, atom_names, ring_closing_angle, table_keys
from bgbench_verse.zmatrix import Placement, build_zmatrix, pad_zmatrices

FRAMES_PER_PEPTIDE = 240
"""About how many frames of each peptide are measured."""


def survey_geometry(
    peptides: Sequence[TrainingPeptide],
) -> tuple[dict[str, int], dict[str, list[float]]]:
    """The vocabulary of atom names, coded from 1, and the table of the reference geometry."""
    names: set[str] = set()
    samples: dict[str, list[Tensor]] = {}
    random = np.random.default_rng(0)
    for peptide in peptides:
        zmatrix = build_zmatrix([atom.element for atom in peptide.atoms], peptide.bonds)
        names |= set(atom_names(peptide.atoms, zmatrix))
        frames = peptide.x[:: max(1, len(peptide.x) // FRAMES_PER_PEPTIDE)]
        order = sample_equivalent_orders(peptide, len(frames), random)[:, zmatrix.order]
        x = frames[torch.arange(len(frames))[:, None], order].double()
        r, theta, phi = to_internal(x, pad_zmatrices([zmatrix]))
        closing = (x - x[:, zmatrix.angle_reference]).norm(dim=-1)
        across = (x[:, zmatrix.angle_reference] - x[:, zmatrix.parent]).norm(dim=-1)
        closes = (zmatrix.placement == Placement.RING_CLOSURE).expand_as(r)
        columns = torch.stack([r, theta, phi, closing, across, closes], dim=-1)
        for k, keys in enumerate(table_keys(peptide.atoms, zmatrix)):
            for key in keys:
                samples.setdefault(key, []).append(columns[:, k])
    table = {key: summarize_samples(torch.cat(parts)) for key, parts in sorted(samples.items())}
    return {name: k for k, name in enumerate(sorted(names), start=1)}, table


def summarize_samples(samples: Tensor) -> list[float]:
    """The table row of n measurements `(n, 6)`.

    Columns: r, θ, φ; the distances atom – angle reference and parent – angle reference; 1 where the atom
    closes a ring.
    """
    r, theta, phi, closing, across, closes = samples.T
    closing_length = float(closing.mean())
    length = [float(r.mean()), max(float(r.std()), 1e-3)]
    if bool(closes[0]):
        geometry = ReferenceGeometry(torch.tensor([*length, 0, 0, 0, 0, closing_length], dtype=r.dtype))
        deviation = theta - ring_closing_angle(across, geometry)
    else:
        deviation = theta
    c, s = float(torch.cos(phi).mean()), float(torch.sin(phi).mean())
    dihedral_width = float(np.sqrt(max(-2 * np.log(max(np.hypot(c, s), 1e-9)), 1e-6)))
    angle = [float(theta.mean()), max(float(deviation.std()), 0.01)]
    return [*length, *angle, float(np.arctan2(s, c)), dihedral_width, closing_length]
