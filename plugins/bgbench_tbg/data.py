"""Training batches: frames of mixed peptides, the noise they come from, and the times between."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgbench_tbg.network import Config, Field, Molecules, molecules, without_mean
from bgbench_training.batches import open_frames, randomness
from bgbench_training.rotations import rotations


@dataclass(frozen=True)
class Paths:
    """Frames `x (n, atoms, 3)` and noise `z (n, atoms, 3)`, both without mean, scaled; times `t (n,)`."""

    x: Tensor
    z: Tensor
    t: Tensor
    m: Molecules


class TrainingSet:
    """Batches of some folders.

    Raises:
        BgbenchError: for an empty folder, a damaged file, or a held-out peptide.
    """

    def __init__(self, folders: Sequence[Path], config: Config, seed: int) -> None:
        self._config, self._seed = config, seed
        self._frames = open_frames(
            folders, lambda x, random: x / config.scale @ rotations(random, len(x)), seed
        )
        self.names, self.n_frames = self._frames.names, self._frames.n_frames

    def batch(self, step: int, size: int, rank: int = 0) -> Paths:
        """Batch number `step`, the same whenever it is asked for."""
        x, atoms = self._frames.batch(step, size, rank)
        random = randomness(self._seed + 1, step, rank)
        return paths(x, molecules(atoms, self._config), random)


def paths(x: Tensor, m: Molecules, random: np.random.Generator) -> Paths:
    """Fresh noise for `x (n, atoms, 3)`, and times spread evenly over (0, 1)."""
    z = torch.from_numpy(random.standard_normal(x.shape)).float()
    mask = m.mask.repeat_interleave(len(x) // len(m.mask), 0)
    t = (torch.from_numpy(random.permutation(len(x))) + random.random()) / len(x)
    return Paths(x, without_mean(z, mask), t.float(), m)


def mismatch(field: Field, p: Paths) -> Tensor:
    """‖v(x_t, t) − (x − z)‖² a dimension `(n,)`, x_t = (1 − t) z + t x: the flow-matching loss."""
    t = p.t[:, None, None]
    v = field((1 - t) * p.z + t * p.x, p.t, p.m)
    present = p.m.mask.sum(1).repeat_interleave(len(p.x) // len(p.m.mask))
    return (v - (p.x - p.z)).square().sum((1, 2)) / (3 * (present - 1))
