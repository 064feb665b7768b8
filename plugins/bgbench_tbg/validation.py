"""How good a field in training is: the flow-matching loss on validation peptides."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bgbench_tbg.flow_matching import FlowMatchingBatch, flow_matching_loss, sample_paths
from bgbench_tbg.network import Field, FieldConfig, encode_peptides
from bgbench_training.batches import read_peptide
from bgbench_training.devices import device_of, moved
from bgbench_training.files import validation_files
from bgbench_training.values import mean

FRAMES_PER_PEPTIDE = 64
"""About how many frames of each peptide the loss is taken of."""


@dataclass(frozen=True)
class _ValidationPeptide:
    """Paths to the frames of a peptide of `n_residues`."""

    n_residues: int
    batch: FlowMatchingBatch


class FlowMatchingValidation:
    """The same frames, noise and times at each evaluation, so that values differ by the field alone.

    Raises:
        BgbenchError: for an empty folder or a peptide that is not in the validation list.
    """

    def __init__(self, folder: Path, config: FieldConfig) -> None:
        self._peptides = []
        for k, path in enumerate(validation_files(folder)):
            peptide = read_peptide(path)
            x = peptide.x[:: max(1, len(peptide.x) // FRAMES_PER_PEPTIDE)] / config.scale
            encoded = encode_peptides([peptide.atoms], config)
            batch = sample_paths(x, encoded, np.random.default_rng(k))
            self._peptides.append(_ValidationPeptide(len(peptide.name), batch))

    def evaluate(self, field: Field) -> Mapping[str, float]:
        """`loss` over all peptides, `loss_k` over those of k residues."""
        losses: dict[int, list[float]] = {}
        with torch.no_grad():
            for peptide in self._peptides:
                loss = float(flow_matching_loss(field, moved(peptide.batch, device_of(field))).mean())
                losses.setdefault(peptide.n_residues, []).append(loss)
        values = {"loss": mean(loss for group in losses.values() for loss in group)}
        return values | {f"loss_{k}": mean(group) for k, group in sorted(losses.items())}
