"""How good Verse in training is: −log q on validation peptides, SNIS-ESS on some of them."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bgbench
from bgbench_training.files import validation_files
from bgbench_training.values import mean, share
from bgbench_verse.chemistry import Molecule, molecule, together
from bgbench_verse.data import TrainingSet, exchanged, read_peptide
from bgbench_verse.density import draw, log_density
from bgbench_verse.network import Verse

FRAMES, DRAWS, WEIGHED = 64, 1024, 4


class Validation:
    """The same frames each time, so that two looks differ by the network alone.

    Raises:
        BgbenchError: for an empty folder or a peptide that is not of the validation list.
    """

    def __init__(self, folder: Path, data: TrainingSet) -> None:
        self._cases = []
        for path in validation_files(folder):
            peptide = read_peptide(path)
            one = molecule(peptide.atoms, peptide.bonds, data.vocabulary, data.table)
            every = peptide.x[:: max(1, len(peptide.x) // FRAMES)]
            order = exchanged(peptide, len(every), np.random.default_rng(0))[:, one.tree.order]
            self._cases.append((path.stem, every[torch.arange(len(every))[:, None], order], one))

    def look(self, net: Verse) -> Mapping[str, float]:
        """`nll_k` a degree of freedom of k residues; ESS of some: `ess_SEQ`, `cut_SEQ` less the top 0.2 %."""
        with torch.no_grad():
            losses: dict[int, list[float]] = {}
            for name, x, one in self._cases:
                loss = -float(log_density(net, x, together([one])).mean()) / (3 * x.shape[1] - 6)
                losses.setdefault(len(name), []).append(loss)
            told = {f"nll_{length}": mean(values) for length, values in losses.items()}
            for name, _, one in self._cases[:WEIGHED] + self._cases[-1:]:
                log_w = self._weights(net, name, one)
                keep = log_w.sort().values[: len(log_w) - math.ceil(0.002 * len(log_w))]
                told |= {f"ess_{name}": share(log_w), f"cut_{name}": share(keep)}
        return told

    @staticmethod
    def _weights(net: Verse, name: str, m: Molecule) -> Tensor:
        system = bgbench.peptide(name)
        x, log_q = draw(net, together([m]), DRAWS, torch.Generator().manual_seed(0))
        u = bgbench.energy(system, "batched").energy(x[:, m.tree.place].double())
        return -u - log_q.double()
