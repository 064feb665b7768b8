"""Training batches: mixed peptides of like size, rotated, with noise on the centre of mass."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bgbench
from bgbench_prose.network import Config, Tokens, tokens

GROUPS = 8
"""Peptides in a batch; each gives batch / GROUPS frames, so its conditioning is computed once."""


@dataclass(frozen=True)
class Peptide:
    """Frames `(n, atoms, 3)` of one training peptide, centred, in scaled units."""

    name: str
    x: Tensor
    atoms: tuple[bgbench.Atom, ...]


class TrainingSet:
    """Every `.npz` of a folder but test and validation peptides, which are refused.

    Raises:
        BgbenchError: for an empty folder, a damaged file, or a held-out peptide.
    """

    def __init__(self, folder: Path, config: Config, seed: int) -> None:
        paths = sorted(folder.glob("*.npz"))
        if not paths:
            raise bgbench.BgbenchError(
                f"{folder} holds no training peptides; make some with "
                f"`bgbench data simulate --train --out {folder}`"
            )
        forbidden = sorted({path.stem for path in paths} & bgbench.held_out())
        if forbidden:
            raise bgbench.BgbenchError(f"{folder} holds test or validation peptides: {', '.join(forbidden)}")
        self._config, self._seed = config, seed
        read = [self._read(path) for path in paths]
        self.peptides = sorted(read, key=lambda peptide: len(peptide.atoms))

    def _read(self, path: Path) -> Peptide:
        atoms, x = bgbench.read_frames(path)
        return Peptide(path.stem, (x - x.mean(1, keepdim=True)) / self._config.scale, atoms)

    def batch(self, step: int, size: int) -> tuple[Tensor, Tokens]:
        """Batch number `step`, the same whenever it is asked for: `(size, tokens, 3)` and its tokens."""
        random = np.random.default_rng([self._seed, step])
        groups = min(GROUPS, len(self.peptides))
        first = int(random.integers(0, max(1, len(self.peptides) - 4 * groups + 1)))
        window = self.peptides[first : first + 4 * groups]
        chosen = [window[k] for k in sorted(random.choice(len(window), groups, replace=False))]
        t = tokens([peptide.atoms for peptide in chosen], self._config)
        each = size // groups
        x = torch.zeros(each * groups, t.mask.shape[1], 3)
        for k, peptide in enumerate(chosen):
            rows = torch.from_numpy(random.integers(0, len(peptide.x), each))
            n = len(peptide.atoms)
            shift = torch.from_numpy(random.standard_normal((each, 1, 3)) / np.sqrt(n)).float()
            turned = peptide.x[rows] @ rotations(random, each)
            x[k * each : (k + 1) * each, :n] = turned + shift
        return x, t


def rotations(random: np.random.Generator, n: int) -> Tensor:
    """Uniform rotations `(n, 3, 3)` from normal quaternions."""
    q = random.standard_normal((n, 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return torch.from_numpy(np.moveaxis(np.array(rows), 2, 0)).float()
