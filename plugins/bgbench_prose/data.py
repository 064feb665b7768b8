"""Training batches: mixed peptides of like size, rotated, with noise on the centre of mass."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgbench_prose.network import Config, Tokens, tokens
from bgbench_training.batches import Part, open_frames
from bgbench_training.rotations import rotations


class TrainingSet:
    """Batches of some folders, in units of the scale, with their tokens.

    Raises:
        BgbenchError: for an empty folder, a damaged file, or a held-out peptide.
    """

    def __init__(self, folders: Sequence[Path], config: Config, seed: int) -> None:
        self._config = config
        self._frames = open_frames(folders, lambda x, random: augment(x / config.scale, random), seed)
        self.names, self.n_frames = self._frames.names, self._frames.n_frames

    def batch(self, step: int, size: int, part: Part = Part()) -> tuple[Tensor, Tokens]:
        """A part of batch number `step` of `size` frames, the same whenever it is asked for.

        Returns:
            `(size / parts, tokens, 3)`, and its tokens.
        """
        x, atoms = self._frames.batch(step, size)
        rows, peptides = part.rows(len(x), len(atoms))
        return x[rows], tokens(atoms[peptides], self._config)


def augment(x: Tensor, random: np.random.Generator) -> Tensor:
    """Rotate centred `x (n, atoms, 3)` and move its centre of mass by N(0, 1/atoms) per axis."""
    n, atoms, _ = x.shape
    shift = torch.from_numpy(random.standard_normal((n, 1, 3)) / np.sqrt(atoms))
    # The order in which the generator is asked is that of old runs, which are resumed.
    return x @ rotations(random, n).to(x) + shift.to(x)
