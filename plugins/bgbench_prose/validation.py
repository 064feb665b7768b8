"""How good a flow in training is: −log q a dimension on validation peptides, SNIS-ESS on two of them."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import bgbench
import bgbench.data
from bgbench_prose.data import augment
from bgbench_prose.decode import invert
from bgbench_prose.network import Config, Prose, log_prior, tokens
from bgbench_prose.sampler import log_centre
from bgbench_training.batches import read_peptide
from bgbench_training.devices import device_of, moved
from bgbench_training.files import validation_files
from bgbench_training.values import ess_fraction, mean

FRAMES, DRAWS, N_SAMPLED = 64, 512, 2


class Validation:
    """The same frames, rotations and noise each time, so that two looks differ by the flow alone.

    Raises:
        BgbenchError: for an empty folder or a peptide that is not of the validation list.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self._config = config
        self.peptides = [read_peptide(path) for path in validation_files(folder)]

    def look(self, flow: Prose) -> Mapping[str, float]:
        """`nll` over all peptides, `nll_k` over those of k residues, `ess_SEQ` of the two smallest."""
        with torch.no_grad():
            losses = {peptide.name: self._nll(flow, k) for k, peptide in enumerate(self.peptides)}
            lengths = sorted({len(name) for name in losses})
            scores = {"nll": mean(losses.values())}
            for length in lengths:
                scores[f"nll_{length}"] = mean(v for name, v in losses.items() if len(name) == length)
            smallest = sorted(self.peptides, key=lambda peptide: len(peptide.atoms))[:N_SAMPLED]
            return scores | {f"ess_{peptide.name}": self._ess(flow, peptide.name) for peptide in smallest}

    def _nll(self, flow: Prose, k: int) -> float:
        """−log q a dimension, in scaled units, as the training loss counts it."""
        peptide = self.peptides[k]
        every = max(1, len(peptide.x) // FRAMES)
        x = augment(peptide.x[::every] / self._config.scale, np.random.default_rng(k))
        z, log_det = flow(*moved((x, tokens([peptide.atoms], self._config)), device_of(flow)))
        return float(-(log_prior(z, 1.0) + log_det).mean()) / (3 * len(peptide.atoms))

    def _ess(self, flow: Prose, name: str) -> float:
        """Kish ESS over `DRAWS` proposals, as a fraction; no cut."""
        system = bgbench.peptide(name)
        generator = torch.Generator().manual_seed(0)
        like = next(flow.parameters())
        z = bgbench.data.normal_noise(generator, (DRAWS, system.n_atoms, 3), like)
        x, log_det = invert(flow, z, moved(tokens([system.atoms], self._config), like.device))
        log_q = log_prior(z, 1.0) - log_det
        log_q = log_q - log_centre(x.mean(1), 1 / math.sqrt(system.n_atoms), "gaussian")
        u = bgbench.energy(system, "batched").energy((x * self._config.scale).double())
        return ess_fraction(-u - log_q.double())
