"""Flow matching: straight paths from noise to frames, and the loss that a field is trained with.

    x_t = (1 − t) z + t x,   L = ‖v(x_t, t) − (x − z)‖² / (3 (atoms − 1))

with frames x and normally distributed noise z, both without mean and in units of the field's `scale`, and t
in (0, 1) (Lipman et al. 2022, arXiv 2210.02747; for peptides arXiv 2406.14426).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bgbench_tbg.network import EncodedPeptides, FieldConfig, encode_peptides, remove_mean
from bgbench_training.batches import Part, open_frames, randomness
from bgbench_training.rotations import rotations


@dataclass(frozen=True)
class FlowMatchingBatch:
    """End points of paths and the times at which the field is compared.

    Attributes:
        x: Frames `(n, atoms, 3)`, without mean, in units of `scale`.
        z: Noise, likewise.
        t: `(n,)`, in (0, 1).
        peptides: Whose number divides n.
    """

    x: Tensor
    z: Tensor
    t: Tensor
    peptides: EncodedPeptides


class FlowMatchingBatches:
    """Batches of some folders of training files.

    Args:
        folders: With `.npz` files, or the published shards.
        config: Of the field: it has the scale and the codes of atoms.
        seed: Of frames, rotations, noise and times.

    Raises:
        BgbenchError: for an empty folder, a damaged file, or a held-out peptide.
    """

    def __init__(self, folders: Sequence[Path], config: FieldConfig, seed: int) -> None:
        self._config, self._seed = config, seed
        self._frames = open_frames(
            folders, lambda x, random: x / config.scale @ rotations(random, len(x)), seed
        )
        self.names, self.n_frames = self._frames.names, self._frames.n_frames

    def batch(self, step: int, size: int, part: Part = Part()) -> FlowMatchingBatch:
        """A part of batch number `step`, which has `size` frames; the same at every call."""
        x, atoms = self._frames.batch(step, size)
        random = randomness(self._seed + 1, step, 0)
        whole = sample_paths(x, encode_peptides(atoms, self._config), random)
        rows, chosen = part.rows(len(x), len(atoms))
        peptides = EncodedPeptides(whole.peptides.features[chosen], whole.peptides.mask[chosen])
        return FlowMatchingBatch(whole.x[rows], whole.z[rows], whole.t[rows], peptides)


def sample_paths(x: Tensor, peptides: EncodedPeptides, random: np.random.Generator) -> FlowMatchingBatch:
    """Fresh noise for frames `x (n, atoms, 3)`, and stratified times: one in each n-th of (0, 1)."""
    z = torch.from_numpy(random.standard_normal(x.shape)).float()
    mask = peptides.mask.repeat_interleave(len(x) // len(peptides.mask), 0)
    t = (torch.from_numpy(random.permutation(len(x))) + random.random()) / len(x)
    return FlowMatchingBatch(x, remove_mean(z, mask), t.float(), peptides)


def flow_matching_loss(
    field: Callable[[Tensor, Tensor, EncodedPeptides], Tensor], batch: FlowMatchingBatch
) -> Tensor:
    """The loss of each path, `(n,)`, of a `network.Field` or what computes the same."""
    t = batch.t[:, None, None]
    v = field((1 - t) * batch.z + t * batch.x, batch.t, batch.peptides)
    mask = batch.peptides.mask
    n_atoms = mask.sum(1).repeat_interleave(len(batch.x) // len(mask))
    return (v - (batch.x - batch.z)).square().sum((1, 2)) / (3 * (n_atoms - 1))
