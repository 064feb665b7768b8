"""Batches of frames of mixed peptides of like size, from local simulations or the published shards."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bgbench
import bgbench.data
from bgbench_training.files import refuse_held_out, training_files

GROUPS = 8
"""Peptides in a batch; each gives batch / GROUPS frames, so what depends on it alone is computed once."""

LOOKED_AT = 32
"""Peptides of each shard whose frames are checked."""

Atoms = tuple[bgbench.Atom, ...]
Move = Callable[[Tensor, np.random.Generator], Tensor]
"""What is done to centred frames `(n, atoms, 3)` nm on their way into a batch: units, rotation, noise."""


@dataclass(frozen=True)
class Peptide:
    """Frames `(n, atoms, 3)` nm of one peptide, each centred."""

    name: str
    x: Tensor
    atoms: Atoms


@dataclass(frozen=True)
class Part:
    """One of `count` equal parts of a batch, so that a step sees the same frames however many passes on how
    many devices it is made of.

    Attributes:
        number: of the part, from 0.
        count: parts of the batch.
    """

    number: int = 0
    count: int = 1

    def rows(self, n_frames: int, n_peptides: int) -> tuple[Tensor, slice]:
        """Which frames and which peptides of a batch, whose peptides have equal runs of frames.

        Some frames of every peptide, so that parts take equal time; where there are too few of them, some
        peptides; where neither fits, frames that are left over belong to no part.

        Raises:
            BgbenchError: if there are more parts than frames of a peptide.
        """
        each = n_frames // n_peptides
        runs = math.gcd(each, self.count)
        groups = self.count // runs
        if n_peptides % groups:
            runs, groups = self.count, 1
        size, peptides = each // runs, n_peptides // groups
        if not size:
            raise bgbench.BgbenchError(
                f"a batch of {n_peptides} peptides with {each} frames each cannot be split into {self.count} "
                "parts; choose a larger batch, or fewer passes (accumulate)"
            )
        group, run = divmod(self.number, runs)
        chosen = slice(group * peptides, (group + 1) * peptides)
        frames = torch.arange(n_frames).view(n_peptides, each)[chosen, run * size : (run + 1) * size]
        return frames.flatten(), chosen


class AbstractFrames(ABC):
    """Batches by number."""

    names: list[str]
    """Sequences trained on."""

    n_frames: int
    """Frames of all of them."""

    @abstractmethod
    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, list[Atoms]]:
        """Batch number `step`, the same whenever it is asked for.

        Frames `(size, longest, 3)`, zero beyond a peptide's atoms, and the atoms of b peptides: row k stands
        for the k-th of b equal runs of frames.
        """


def open_frames(folders: Sequence[Path], move: Move, seed: int) -> AbstractFrames:
    """Local simulations, or the published shards where the (only) folder has their layout."""
    if len(folders) == 1 and (folders[0] / "webdatasets" / "single_frames").is_dir():
        return ShardFrames(folders[0], move, seed)
    return LocalFrames(folders, move, seed)


class LocalFrames(AbstractFrames):
    """Every `.npz` of some folders but test and validation peptides, which are refused.

    Raises:
        BgbenchError: for an empty folder, a damaged file, impossible frames, or a held-out peptide.
    """

    def __init__(self, folders: Sequence[Path], move: Move, seed: int) -> None:
        read = [read_peptide(path) for path in training_files(folders)]
        self._move, self._seed = move, seed
        self.peptides = sorted(read, key=lambda peptide: len(peptide.atoms))
        self.names = sorted({peptide.name for peptide in self.peptides})
        self.n_frames = sum(len(peptide.x) for peptide in self.peptides)

    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, list[Atoms]]:
        random = randomness(self._seed, step, rank)
        groups = min(GROUPS, len(self.peptides))
        first = int(random.integers(0, max(1, len(self.peptides) - 4 * groups + 1)))
        window = self.peptides[first : first + 4 * groups]
        chosen = [window[k] for k in sorted(random.choice(len(window), groups, replace=False))]
        each = size // groups
        x = torch.zeros(each * groups, max(len(peptide.atoms) for peptide in chosen), 3)
        for k, peptide in enumerate(chosen):
            rows = torch.from_numpy(random.integers(0, len(peptide.x), each))
            x[k * each : (k + 1) * each, : len(peptide.atoms)] = self._move(peptide.x[rows], random)
        return x, [peptide.atoms for peptide in chosen]


class ShardFrames(AbstractFrames):
    """The published training data: `webdatasets/single_frames/*.tar` beside `pdb_tarfiles/train.tar`.

    One shard is held in memory at a time and asked for as many batches as it has frames for; frames are
    sorted by size, so that a batch pads little.

    Raises:
        BgbenchError: for missing or damaged files, impossible frames, or a held-out peptide.
    """

    def __init__(self, folder: Path, move: Move, seed: int) -> None:
        self._paths = sorted((folder / "webdatasets" / "single_frames").glob("*.tar"))
        if not self._paths:
            raise bgbench.BgbenchError(f"{folder} holds no shards in webdatasets/single_frames; fetch some")
        self._move, self._seed = move, seed
        self._topologies = bgbench.data.published_atoms(folder / "pdb_tarfiles" / "train.tar", "train")
        # By their atoms: a test peptide under another name is one all the same.
        self.names = sorted({bgbench.data.sequence_of(atoms) for atoms in self._topologies.values()})
        refuse_held_out(self.names, [folder])
        self._frames = lru_cache(maxsize=1)(self._read)
        self._each = len(self._frames(0))
        self.n_frames = self._each * len(self._paths)

    def _read(self, shard: int) -> list[tuple[str, Tensor]]:
        frames = bgbench.data.published_frames(self._paths[shard], self._topologies)
        for name in list(dict.fromkeys(name for name, _ in frames))[:LOOKED_AT]:
            x = torch.stack([positions for other, positions in frames if other == name])
            where = f"{self._paths[shard]}, peptide {name}"
            bgbench.data.refuse_impossible(self._topologies[name], x, where)
        return sorted(frames, key=lambda frame: len(frame[1]))

    def batch(self, step: int, size: int, rank: int = 0) -> tuple[Tensor, list[Atoms]]:
        random = randomness(self._seed, step, rank)
        frames = self._frames((step * size // self._each) % len(self._paths))
        first = int(random.integers(0, max(1, len(frames) - 4 * size + 1)))
        window = frames[first : first + 4 * size]
        chosen = [window[k] for k in sorted(random.choice(len(window), size, replace=len(window) < size))]
        x = torch.zeros(size, max(len(positions) for _, positions in chosen), 3)
        for k, (_, positions) in enumerate(chosen):
            x[k, : len(positions)] = self._move(centred(positions[None]), random)[0]
        return x, [self._topologies[name] for name, _ in chosen]


def randomness(seed: int, step: int, rank: int) -> np.random.Generator:
    """The generator of one batch of one process."""
    return np.random.default_rng([seed, step, rank] if rank else [seed, step])


def read_peptide(path: Path) -> Peptide:
    """A training or validation file, its frames centred.

    Raises:
        BgbenchError: for a damaged file or impossible frames.
    """
    frames = bgbench.data.read_training_frames(path)
    return Peptide(frames.sequence, centred(frames.x), frames.atoms)


def centred(x: Tensor) -> Tensor:
    """`x (n, atoms, 3)` with the mean taken out."""
    return x - x.mean(1, keepdim=True)
