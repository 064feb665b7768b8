"""Fine-tuning of a copy of the network on samples of one peptide, with the original as its teacher.

    L = −⟨log q(x)⟩ + λ · 12 ⟨‖z_student(x) − z_teacher(x)‖²⟩,   both per degree of freedom (3N − 6),

z being the uniform numbers of `density.to_uniform` and λ `tuning.teacher`. The factor 12 is one over the
variance of a uniform number: distances are counted in the widths of the noise.
"""

import copy

import torch
from torch import Tensor

import bgbench
from bgbench_verse.density import to_uniform
from bgbench_verse.molecule import MoleculeBatch
from bgbench_verse.network import Verse

INVERSE_UNIFORM_VARIANCE = 12.0


def fine_tune(
    teacher: Verse,
    molecules: MoleculeBatch,
    x: Tensor,
    tuning: bgbench.Tuning,
    generator: torch.Generator,
) -> Verse:
    """A copy of `teacher` trained on samples; the teacher stays as it is.

    Args:
        teacher: The network to begin from.
        molecules: The one peptide.
        x: `(n, N, 3)` nm in placing order, hydrogens under canonical names.
        tuning: Steps, batch size, learning rate and λ.
        generator: Picks the samples of each step.
    """
    student = copy.deepcopy(teacher).requires_grad_(True)
    optimizer = torch.optim.Adam(student.parameters(), tuning.lr)
    frames = x.to(next(teacher.parameters()))
    degrees = 3 * frames.shape[1] - 6
    for _ in range(tuning.steps):
        rows = torch.randint(len(frames), (tuning.batch,), generator=generator)
        batch = frames[rows.to(frames.device)]
        z, log_q = to_uniform(student, batch, molecules)
        with torch.no_grad():
            z_teacher, _ = to_uniform(teacher, batch, molecules)
        distance = INVERSE_UNIFORM_VARIANCE * (z - z_teacher).square().sum(1).mean() / degrees
        loss = tuning.teacher * distance - log_q.mean() / degrees
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
    return student.requires_grad_(False).eval()
