"""Fine-tuning a copy of the network on samples of one peptide; the network it is made from teaches it."""

import copy

import torch
from torch import Tensor

import bgbench
from bgbench_verse.chemistry import Molecules
from bgbench_verse.density import uniform
from bgbench_verse.network import Verse

PER_VARIANCE = 12.0
"""One over the variance of a uniform number: distances of noise are counted in its own widths."""


def tuned(
    teacher: Verse, m: Molecules, x: Tensor, tuning: bgbench.Tuning, generator: torch.Generator
) -> Verse:
    """A copy that has learnt from `x (n, N, 3)` nm in placing order.

    −log q and the distance between the copy's and the teacher's uniform numbers, both per degree of freedom.
    """
    student = copy.deepcopy(teacher).requires_grad_(True)
    adam = torch.optim.Adam(student.parameters(), tuning.lr)
    frames = x.to(next(teacher.parameters()))
    degrees = 3 * frames.shape[1] - 6
    for _ in range(tuning.steps):
        batch = frames[torch.randint(len(frames), (tuning.batch,), generator=generator)]
        z, log_q = uniform(student, batch, m)
        with torch.no_grad():
            taught, _ = uniform(teacher, batch, m)
        distance = PER_VARIANCE * (z - taught).square().sum(1).mean() / degrees
        loss = tuning.teacher * distance - log_q.mean() / degrees
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        adam.step()
    return student.requires_grad_(False).eval()
