"""How good a field in training is: the flow-matching loss on validation peptides."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from bgbench_tbg.data import mismatch, paths
from bgbench_tbg.network import Config, Field, molecules
from bgbench_training.batches import read_peptide
from bgbench_training.files import validation_files
from bgbench_training.values import mean

FRAMES = 64


class Validation:
    """The same frames, noise and times each time, so that two looks differ by the field alone.

    Raises:
        BgbenchError: for an empty folder or a peptide that is not of the validation list.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self._cases = []
        for k, path in enumerate(validation_files(folder)):
            peptide = read_peptide(path)
            x = peptide.x[:: max(1, len(peptide.x) // FRAMES)] / config.scale
            ready = paths(x, molecules([peptide.atoms], config), np.random.default_rng(k))
            self._cases.append((len(path.stem), ready))

    def look(self, field: Field) -> Mapping[str, float]:
        """`loss` over all peptides, `loss_k` over those of k residues."""
        with torch.no_grad():
            found = [(length, float(mismatch(field, case).mean())) for length, case in self._cases]
        told = {"loss": mean(value for _, value in found)}
        for length in sorted({length for length, _ in found}):
            told[f"loss_{length}"] = mean(value for other, value in found if other == length)
        return told
