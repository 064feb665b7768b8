"""Fine-tuning a copy of the flow on samples of one peptide; the flow it is made from teaches it."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import bgbench
from bgbench_prose.data import augment
from bgbench_prose.network import Prose, Tokens, log_prior
from bgbench_training.batches import centred


@dataclass(frozen=True)
class TuningConfig:
    """How to learn, at relative inverse temperature `beta`, with whose random numbers."""

    tuning: bgbench.Tuning
    beta: float
    generator: torch.Generator


def tuned(teacher: Prose, t: Tokens, x: Tensor, config: TuningConfig) -> Prose:
    """A copy that has learnt from `x (n, atoms, 3)` nm of the one peptide of `t`.

    −log q and the distance between the copy's and the teacher's noise, both per dimension. Frames are
    rotated and their centres moved as in training.
    """
    tuning = config.tuning
    student = copy.deepcopy(teacher).requires_grad_(True)
    adam = torch.optim.Adam(student.parameters(), tuning.lr)
    random = np.random.default_rng(int(torch.randint(2**62, (1,), generator=config.generator)))
    frames = centred(x.to(next(teacher.parameters()))) / teacher.config.scale
    for _ in range(tuning.steps):
        rows = torch.randint(len(frames), (tuning.batch,), generator=config.generator)
        batch = augment(frames[rows.to(frames.device)], random)
        z, log_det = student(batch, t)
        with torch.no_grad():
            taught, _ = teacher(batch, t)
        nll = -(log_prior(z, config.beta) + log_det).mean() / z[0].numel()
        loss = nll + tuning.teacher * (z - taught).square().mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        adam.step()
    return student.requires_grad_(False).eval()
