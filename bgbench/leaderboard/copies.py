"""Conformers that are copies of others, whatever their place, orientation and the labels of equal atoms.

The shape of a conformer is the sorted distances of its atoms from its centre, element by element. Shapes are
scaled so that their distance bounds from below by how much (nm, root mean square over atoms) two conformers
differ after the best rigid motion. Independent draws of the packaged references are further apart than
.003 nm; a copy that is moved by more than .001 nm an atom gains several kT.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree

from bgbench.core.types import System
from bgbench.leaderboard.problems import Problem
from bgbench.leaderboard.rules import COPIED_FRACTION, COPIES, COPY_DISTANCE


class Copies(NamedTuple):
    """Of `of` conformers, the `number` that lie within COPY_DISTANCE of one of `source`."""

    number: int
    of: int
    source: str

    @property
    def fraction(self) -> float:
        return self.number / self.of


def shapes_of(system: System, x: np.ndarray) -> np.ndarray:
    """The shapes `(n, atoms)` nm of conformers `x (n, atoms, 3)` nm.

    >>> import bgbench, numpy as np
    >>> system = bgbench.peptide("AA")
    >>> x = system.positions.numpy()[None]
    >>> turned = x[..., [1, 2, 0]] + 5.0
    >>> bool(np.allclose(shapes_of(system, x), shapes_of(system, turned), atol=1e-6))
    True
    """
    x = x.astype(np.float64)
    radius = np.linalg.norm(x - x.mean(1, keepdims=True), axis=-1)
    elements = np.array([atom.element for atom in system.atoms])
    parts = [np.sort(radius[:, elements == element], axis=1) for element in sorted(set(elements))]
    return np.concatenate(parts, axis=1) / np.sqrt(x.shape[1])


def copies_of(shapes: np.ndarray, sources: Mapping[str, np.ndarray]) -> list[Copies]:
    """Of each source those of `shapes (n, atoms)` that are copies; sources without copies are left out.

    >>> copies_of(np.zeros((3, 2)), {"mine": np.array([[0.0, 0.001]]), "yours": np.ones((1, 2))})
    [Copies(number=3, of=3, source='mine')]
    """
    found = []
    for name, known in sources.items():
        distance, _ = KDTree(known).query(shapes, distance_upper_bound=COPY_DISTANCE)
        if number := int(np.isfinite(distance).sum()):
            found.append(Copies(number, len(shapes), name))
    return found


def too_many(copies: Sequence[Copies], cell: str) -> Iterator[Problem]:
    """A problem for a cell of which more than COPIED_FRACTION and COPIES are copies of one source."""
    copied = worst(copies)
    if copied is not None and copied.number > max(COPIES, COPIED_FRACTION * copied.of):
        text = f"{copied.fraction:.1%} are copies of conformers of {copied.source}"
        yield Problem("copied", f"arrays/{cell}.npz", f"{text}, within {COPY_DISTANCE} nm an atom")


def worst(copies: Sequence[Copies]) -> Copies | None:
    """The source with most copies; None without any."""
    return max(copies, key=lambda item: item.fraction, default=None)
