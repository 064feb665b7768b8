"""Training batches of mixed peptides, made from the step's number alone.

Peptides are sorted by size; a batch takes a few that lie near each other in that order, so that padding is
short. The same step gives the same batch, which is what lets an interrupted training go on exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgbench_training.batches import randomness
from bgbench_training.files import training_files
from bgbench_verse.molecule import Molecule, MoleculeBatch, batch_molecules, build_molecule
from bgbench_verse.peptides import TrainingPeptide, read_training_peptide, sample_equivalent_orders
from bgbench_verse.survey import survey_geometry
from bgbench_verse.weights import TrainedVerse

PEPTIDES_PER_BATCH = 4


@dataclass(frozen=True)
class TrainingBatch:
    """Frames `x (size, N, 3)` nm in placing order, energies `u (size,)` kT, and their b molecules."""

    x: Tensor
    u: Tensor
    molecules: MoleculeBatch


class PeptideBatches:
    """Batches of every `.npz` of some folders, test and validation peptides being refused.

    Args:
        folders: Folders of training files.
        seed: Of the batches.
        start: Weights that training goes on from. Their vocabulary and reference geometry are used then, for
            the network means nothing with others; otherwise both are measured on the training frames.
        favour: See `sampling_probabilities`.

    Raises:
        BgbenchError: for an empty folder, a damaged file, or a held-out peptide.
    """

    def __init__(
        self, folders: Sequence[Path], seed: int, start: TrainedVerse | None = None, favour: float = 2.0
    ) -> None:
        self._seed = seed
        self.peptides = sorted(
            map(read_training_peptide, training_files(folders)), key=lambda peptide: len(peptide.atoms)
        )
        if start is None:
            self.vocabulary, self.table = survey_geometry(self.peptides)
        else:
            self.vocabulary = dict(start.vocabulary)
            self.table = {key: list(values) for key, values in start.table.items()}
        self._probabilities = sampling_probabilities([len(p.atoms) for p in self.peptides], favour)
        self._molecules: dict[str, Molecule] = {}

    def molecule(self, peptide: TrainingPeptide) -> Molecule:
        """The peptide as the network sees it."""
        if peptide.name not in self._molecules:
            self._molecules[peptide.name] = build_molecule(
                peptide.atoms, peptide.bonds, self.vocabulary, self.table
            )
        return self._molecules[peptide.name]

    def batch(self, step: int, size: int, rank: int = 0) -> TrainingBatch:
        """Batch number `step` of process `rank`, with `size` frames; the same at every call."""
        random = randomness(self._seed, step, rank)
        n_peptides = min(PEPTIDES_PER_BATCH, len(self.peptides))
        span = min(len(self.peptides), 4 * n_peptides)
        middle = int(random.choice(len(self.peptides), p=self._probabilities))
        first = min(max(0, middle - span // 2), len(self.peptides) - span)
        picks = sorted(random.choice(span, n_peptides, replace=False))
        peptides = [self.peptides[first + k] for k in picks]
        molecules = batch_molecules([self.molecule(peptide) for peptide in peptides])
        run = size // n_peptides
        x = torch.zeros(run * n_peptides, molecules.mask.shape[1], 3)
        u = torch.zeros(run * n_peptides)
        for k, peptide in enumerate(peptides):
            frames = torch.from_numpy(random.integers(0, len(peptide.x), run))
            order = sample_equivalent_orders(peptide, run, random)
            order = order[:, self.molecule(peptide).zmatrix.order]
            rows = slice(k * run, (k + 1) * run)
            x[rows, : len(peptide.atoms)] = peptide.x[frames[:, None], order]
            u[rows] = peptide.u[frames]
        return TrainingBatch(x, u, molecules)


def sampling_probabilities(n_atoms: Sequence[int], favour: float) -> np.ndarray:
    """The probability of each peptide, ∝ atoms^(−favour).

    Attention costs atoms², so that 2 gives every size about the same time, and 0 every peptide the same
    probability.
    """
    weights = np.array(n_atoms, dtype=float) ** -favour
    return weights / weights.sum()
