"""Training batches of mixed peptides, equivalent atoms exchanged; the table of usual coordinates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bgbench
import bgbench.data
from bgbench_training.batches import randomness
from bgbench_training.files import training_files
from bgbench_verse.chemistry import (
    Molecule,
    Molecules,
    bonds_of,
    closing_angle,
    molecule,
    names,
    table_keys,
    together,
)
from bgbench_verse.hydrogens import renamed
from bgbench_verse.internal import internals
from bgbench_verse.tree import CLOSURE, padded, plan
from bgbench_verse.weights import Trained

GROUPS = 4
"""Peptides in a batch."""

SWAPS = {
    "PHE": (("CD1", "CD2"), ("CE1", "CE2"), ("HD1", "HD2"), ("HE1", "HE2")),
    "TYR": (("CD1", "CD2"), ("CE1", "CE2"), ("HD1", "HD2"), ("HE1", "HE2")),
    "ASP": (("OD1", "OD2"),),
    "GLU": (("OE1", "OE2"),),
}
"""Atoms that a half turn exchanges, by residue: physics does not tell them apart, short runs do."""


@dataclass(frozen=True)
class Peptide:
    """Frames `(n, atoms, 3)` nm of a peptide in its own order, energies `(n,)` kT; what is equivalent."""

    name: str
    x: Tensor
    u: Tensor
    atoms: tuple[bgbench.Atom, ...]
    thirds: tuple[tuple[int, int, int], ...]
    halves: tuple[tuple[tuple[int, int], ...], ...]
    bonds: tuple[tuple[int, int], ...]


def read_peptide(path: Path) -> Peptide:
    """A training or validation file, its rival hydrogens named as the flow names them."""
    atoms, x = bgbench.data.read_frames(path)
    bonds = bonds_of(path.stem)
    tree = plan([atom.element for atom in atoms], bonds)
    x = renamed(x[:, tree.order], padded([tree]))[:, tree.place]
    u = bgbench.data.read_energies(path).float()
    return Peptide(path.stem, x, u, atoms, rotors(atoms, bonds), flips(atoms), bonds)


def rotors(
    atoms: Sequence[bgbench.Atom], bonds: Sequence[tuple[int, int]]
) -> tuple[tuple[int, int, int], ...]:
    """Three hydrogens on one atom: a third of a turn exchanges them."""
    on: dict[int, list[int]] = {}
    for a, b in bonds:
        for heavy, light in ((a, b), (b, a)):
            if atoms[light].element == "H" and atoms[heavy].element != "H":
                on.setdefault(heavy, []).append(light)
    return tuple((h[0], h[1], h[2]) for h in (sorted(found) for found in on.values()) if len(h) == 3)


def flips(atoms: Sequence[bgbench.Atom]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Sets of pairs that one half turn exchanges: rings, carboxylates, the C-terminus."""
    index = {(atom.residue, atom.name): k for k, atom in enumerate(atoms)}
    kinds = {atom.residue: atom.residue_name for atom in atoms}
    found = [
        tuple((index[residue, a], index[residue, b]) for a, b in SWAPS[kind])
        for residue, kind in kinds.items()
        if kind in SWAPS
    ]
    last = max(kinds)
    return (*found, ((index[last, "O"], index[last, "OXT"]),))


def exchanged(peptide: Peptide, n: int, random: np.random.Generator) -> Tensor:
    """For n frames, an order of the atoms that physics cannot tell from their own, `(n, atoms)`."""
    order = np.tile(np.arange(len(peptide.atoms)), (n, 1))
    for group in peptide.thirds:
        turned = (np.arange(3) + random.integers(0, 3, (n, 1))) % 3
        order[:, group] = np.array(group)[turned]
    for pairs in peptide.halves:
        flip = random.random(n) < 0.5
        for a, b in pairs:
            order[flip, a], order[flip, b] = b, a
    return torch.from_numpy(order)


class TrainingSet:
    """Every `.npz` of some folders but test and validation peptides, which are refused.

    Vocabulary and table are made of them, or are those of `start`, whose weights mean nothing with others.

    Raises:
        BgbenchError: for an empty folder, a damaged file, or a held-out peptide.
    """

    def __init__(
        self, folders: Sequence[Path], seed: int, start: Trained | None = None, favour: float = 2.0
    ) -> None:
        self._seed = seed
        self.peptides = sorted(
            map(read_peptide, training_files(folders)), key=lambda peptide: len(peptide.atoms)
        )
        if start is None:
            self.vocabulary, self.table = survey(self.peptides)
        else:
            self.vocabulary = dict(start.vocabulary)
            self.table = {key: list(values) for key, values in start.table.items()}
        self._chances = chances([len(peptide.atoms) for peptide in self.peptides], favour)
        self._molecules: dict[str, Molecule] = {}

    def molecule(self, peptide: Peptide) -> Molecule:
        """The peptide as the network sees it."""
        if peptide.name not in self._molecules:
            self._molecules[peptide.name] = molecule(
                peptide.atoms, peptide.bonds, self.vocabulary, self.table
            )
        return self._molecules[peptide.name]

    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, Tensor, Molecules]:
        """Batch number `step`, the same whenever it is asked for.

        Frames `(size, N, 3)` in placing order and their energies `(size,)` kT.
        """
        random = randomness(self._seed, step, rank)
        groups = min(GROUPS, len(self.peptides))
        span = min(len(self.peptides), 4 * groups)
        middle = int(random.choice(len(self.peptides), p=self._chances))
        first = min(max(0, middle - span // 2), len(self.peptides) - span)
        chosen = [self.peptides[first + k] for k in sorted(random.choice(span, groups, replace=False))]
        ready = [self.molecule(peptide) for peptide in chosen]
        m, each = together(ready), size // groups
        x, u = torch.zeros(each * groups, m.mask.shape[1], 3), torch.zeros(each * groups)
        for k, (peptide, one) in enumerate(zip(chosen, ready, strict=True)):
            rows = torch.from_numpy(random.integers(0, len(peptide.x), each))
            order = exchanged(peptide, each, random)[:, one.tree.order]
            run = slice(k * each, (k + 1) * each)
            x[run, : len(peptide.atoms)], u[run] = peptide.x[rows[:, None], order], peptide.u[rows]
        return x, u, m


def chances(atoms: Sequence[int], favour: float) -> np.ndarray:
    """Each peptide's chance, ∝ atoms^(−favour). Attention costs atoms²: 2 gives every size the same time."""
    found = np.array(atoms, dtype=float) ** -favour
    return found / found.sum()


def survey(peptides: Sequence[Peptide]) -> tuple[dict[str, int], dict[str, list[float]]]:
    """The vocabulary of atom names, from 1, and the table of usual coordinates, over all frames."""
    known: set[str] = set()
    seen: dict[str, list[Tensor]] = {}
    random = np.random.default_rng(0)
    for peptide in peptides:
        tree = plan([atom.element for atom in peptide.atoms], peptide.bonds)
        known |= set(names(peptide.atoms, tree))
        every = peptide.x[:: max(1, len(peptide.x) // 240)]
        order = exchanged(peptide, len(every), random)[:, tree.order]
        x = every[torch.arange(len(every))[:, None], order].double()
        r, theta, phi = internals(x, padded([tree]))
        closing = (x - x[:, tree.axis]).norm(dim=-1)
        across = (x[:, tree.axis] - x[:, tree.parent]).norm(dim=-1)
        columns = torch.stack([r, theta, phi, closing, across, (tree.kind == CLOSURE).expand_as(r)], dim=-1)
        for k, keys in enumerate(table_keys(peptide.atoms, tree)):
            for key in keys:
                seen.setdefault(key, []).append(columns[:, k])
    table = {key: row(torch.cat(parts)) for key, parts in sorted(seen.items())}
    return {name: k for k, name in enumerate(sorted(known), start=1)}, table


def row(columns: Tensor) -> list[float]:
    """Table row of `(n, 6)` samples: means and widths of r, θ, φ, and the closing length."""
    r, theta, phi, closing, across, closes = columns.T
    length = float(closing.mean())
    start = [float(r.mean()), max(float(r.std()), 1e-3)]
    if bool(closes[0]):
        usual = torch.tensor([*start, 0, 0, 0, 0, length], dtype=r.dtype)
        theta_mean, theta_width = float(theta.mean()), float((theta - closing_angle(across, usual)).std())
    else:
        theta_mean, theta_width = float(theta.mean()), float(theta.std())
    c, s = float(torch.cos(phi).mean()), float(torch.sin(phi).mean())
    spread = float(np.sqrt(max(-2 * np.log(max(np.hypot(c, s), 1e-9)), 1e-6)))
    return [*start, theta_mean, max(theta_width, 0.01), float(np.arctan2(s, c)), spread, length]


def usual_of(table: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """The table rounded for a file."""
    return {key: [round(float(value), 6) for value in values] for key, values in table.items()}
