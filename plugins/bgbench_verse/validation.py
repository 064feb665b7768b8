"""How good a network in training is: −log q on validation peptides, and the ESS of samples of some of them.

−log q is per degree of freedom, (3N − 6) of them; ESS is (Σw)²/(N Σw²) of weights w = e^(−u)/q.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bgbench
from bgbench_training.devices import device_of, moved
from bgbench_training.files import validation_files
from bgbench_training.values import ess_fraction, mean
from bgbench_verse.batches import PeptideBatches
from bgbench_verse.density import log_density
from bgbench_verse.molecule import Molecule, batch_molecules, build_molecule
from bgbench_verse.network import Verse
from bgbench_verse.peptides import read_training_peptide, sample_equivalent_orders
from bgbench_verse.sampling import sample_conformers

FRAMES_PER_PEPTIDE = 64
"""About how many frames of each peptide −log q is taken of."""

N_SAMPLES = 1024
"""Samples of which the ESS is taken."""

N_SAMPLED = 4
"""How many of the first peptides are sampled, beside the last."""

TOP_FRACTION = 0.002
"""Fraction of the largest weights that the cut ESS leaves out."""


@dataclass(frozen=True)
class _ValidationPeptide:
    """Frames `x (n, N, 3)` nm in placing order, with the molecule."""

    name: str
    x: Tensor
    molecule: Molecule


class LikelihoodValidation:
    """Validation peptides; the same frames at each evaluation, so that values differ by the network alone.

    Raises:
        BgbenchError: for an empty folder or a peptide that is not in the validation list.
    """

    def __init__(self, folder: Path, data: PeptideBatches) -> None:
        self._peptides = []
        for path in validation_files(folder):
            peptide = read_training_peptide(path)
            molecule = build_molecule(peptide.atoms, peptide.bonds, data.vocabulary, data.table)
            frames = peptide.x[:: max(1, len(peptide.x) // FRAMES_PER_PEPTIDE)]
            order = sample_equivalent_orders(peptide, len(frames), np.random.default_rng(0))
            x = frames[torch.arange(len(frames))[:, None], order[:, molecule.zmatrix.order]]
            self._peptides.append(_ValidationPeptide(peptide.name, x, molecule))

    def evaluate(self, net: Verse) -> Mapping[str, float]:
        """`nll_k` over peptides of k residues; of some `ess_SEQ`, and `cut_SEQ` without the top 0.2 %."""
        with torch.no_grad():
            losses: dict[int, list[float]] = {}
            for peptide in self._peptides:
                x, molecules = moved((peptide.x, batch_molecules([peptide.molecule])), device_of(net))
                log_q = log_density(net, x, molecules)
                loss = -float(log_q.mean()) / (3 * peptide.x.shape[1] - 6)
                losses.setdefault(len(peptide.name), []).append(loss)
            values = {f"nll_{length}": mean(nll) for length, nll in losses.items()}
            for peptide in self._peptides[:N_SAMPLED] + self._peptides[-1:]:
                log_w = _sample_log_weights(net, peptide)
                cut = log_w.sort().values[: len(log_w) - math.ceil(TOP_FRACTION * len(log_w))]
                values |= {
                    f"ess_{peptide.name}": ess_fraction(log_w),
                    f"cut_{peptide.name}": ess_fraction(cut),
                }
        return values


def _sample_log_weights(net: Verse, peptide: _ValidationPeptide) -> Tensor:
    """log w `(N_SAMPLES,)` of samples of the network, up to a constant."""
    system, generator = bgbench.peptide(peptide.name), torch.Generator().manual_seed(0)
    molecules = moved(batch_molecules([peptide.molecule]), device_of(net))
    x, log_q = sample_conformers(net, molecules, N_SAMPLES, generator)
    step_of_atom = peptide.molecule.zmatrix.step_of_atom.to(x.device)
    u = bgbench.energy(system, "batched").energy(x[:, step_of_atom].double())
    return -u - log_q.double()
