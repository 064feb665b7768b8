"""Training batches: mixed peptides of like size, rotated, with noise on the centre of mass."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
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


class AbstractTrainingSet(ABC):
    """Batches by number."""

    names: list[str]
    """Sequences trained on."""

    n_frames: int
    """Frames of all of them."""

    @abstractmethod
    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, Tokens]:
        """Batch number `step`, the same whenever it is asked for: `(size, tokens, 3)` and its tokens."""


def open_training_set(folder: Path, config: Config, seed: int) -> AbstractTrainingSet:
    """Local simulations, or the published shards where the folder has their layout."""
    shards = folder / "webdatasets" / "single_frames"
    return ShardSet(folder, config, seed) if shards.is_dir() else TrainingSet(folder, config, seed)


class TrainingSet(AbstractTrainingSet):
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
        read = [read_peptide(path, config) for path in paths]
        self.peptides = sorted(read, key=lambda peptide: len(peptide.atoms))

        self.names = [peptide.name for peptide in self.peptides]
        self.n_frames = sum(len(peptide.x) for peptide in self.peptides)

    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, Tokens]:
        random = np.random.default_rng([self._seed, step, rank] if rank else [self._seed, step])
        groups = min(GROUPS, len(self.peptides))
        first = int(random.integers(0, max(1, len(self.peptides) - 4 * groups + 1)))
        window = self.peptides[first : first + 4 * groups]
        chosen = [window[k] for k in sorted(random.choice(len(window), groups, replace=False))]
        t = tokens([peptide.atoms for peptide in chosen], self._config)
        each = size // groups
        x = torch.zeros(each * groups, t.mask.shape[1], 3)
        for k, peptide in enumerate(chosen):
            rows = torch.from_numpy(random.integers(0, len(peptide.x), each))
            x[k * each : (k + 1) * each, : len(peptide.atoms)] = turned(peptide.x[rows], random)
        return x, t


class ShardSet(AbstractTrainingSet):
    """The published training data: `webdatasets/single_frames/*.tar` beside `pdb_tarfiles/train.tar`.

    One shard is held in memory at a time and asked for as many batches as it has frames for; frames are
    sorted by size, so that a batch pads little.

    Raises:
        BgbenchError: for missing or damaged files, or a held-out peptide.
    """

    def __init__(self, folder: Path, config: Config, seed: int) -> None:
        self._paths = sorted((folder / "webdatasets" / "single_frames").glob("*.tar"))
        if not self._paths:
            raise bgbench.BgbenchError(f"{folder} holds no shards in webdatasets/single_frames; fetch some")
        self._config, self._seed = config, seed
        self._topologies = bgbench.published_atoms(folder / "pdb_tarfiles" / "train.tar", "train")
        forbidden = sorted(set(self._topologies) & bgbench.held_out())
        if forbidden:
            raise bgbench.BgbenchError(f"{folder} holds test or validation peptides: {', '.join(forbidden)}")
        self.names = sorted(self._topologies)
        self._frames = lru_cache(maxsize=1)(self._read)
        self._each = len(self._frames(0))
        self.n_frames = self._each * len(self._paths)

    def _read(self, shard: int) -> list[tuple[str, Tensor]]:
        frames = bgbench.published_frames(self._paths[shard], self._topologies)
        return sorted(frames, key=lambda frame: len(frame[1]))

    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, Tokens]:
        random = np.random.default_rng([self._seed, step, rank] if rank else [self._seed, step])
        frames = self._frames((step * size // self._each) % len(self._paths))
        first = int(random.integers(0, max(1, len(frames) - 4 * size + 1)))
        window = frames[first : first + 4 * size]
        chosen = [window[k] for k in sorted(random.choice(len(window), size, replace=len(window) < size))]
        t = tokens([self._topologies[name] for name, _ in chosen], self._config)
        x = torch.zeros(size, t.mask.shape[1], 3)
        for k, (_, positions) in enumerate(chosen):
            x[k, : len(positions)] = turned(centred(positions[None], self._config), random)[0]
        return x, t


def read_peptide(path: Path, config: Config) -> Peptide:
    """A training or validation file, its frames centred and scaled."""
    atoms, x = bgbench.read_frames(path)
    return Peptide(path.stem, centred(x, config), atoms)


def centred(x: Tensor, config: Config) -> Tensor:
    """`x (n, atoms, 3)` nm with the mean taken out, in units of the scale."""
    return (x - x.mean(1, keepdim=True)) / config.scale


def turned(x: Tensor, random: np.random.Generator) -> Tensor:
    """Centred `x (n, atoms, 3)` rotated, its centre of mass moved by N(0, 1/atoms) per axis."""
    n, atoms, _ = x.shape
    shift = torch.from_numpy(random.standard_normal((n, 1, 3)) / np.sqrt(atoms)).float()
    return x @ rotations(random, n) + shift


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
